"""JSON outputs have a schema each; ``conftest`` holds what every test of this folder prints against it."""

import json
import re
import shutil

import pytest
from outputs import OUTPUTS, check_output

from ssdtune.study.storage import load_study, open_storage

RECORD = OUTPUTS.with_name("record.md").read_text()


def test_a_key_that_is_not_described_is_noticed():
    check_output("data convert", {"folder": "a", "files": []})
    for wrong in ({"folder": "a", "files": [], "more": 1}, {"folder": "a"}, {"folder": 3, "files": []}):
        with pytest.raises(AssertionError, match="data convert: "):
            check_output("data convert", wrong)


def test_those_that_no_other_test_asks_for(small, run, inputs, fastmri_file, tmp_path, monkeypatch):
    monkeypatch.setattr("ssdtune.learning.collect.collect", lambda *given, **options: (3, 1))
    for seed in (1, 2):
        fastmri_file(tmp_path / "m4" / f"scan_T10{seed}.h5", coils=2, shape=(32, 32), seed=seed)
    for group, *words in (
        ("study", "move", small, inputs / "study.toml"),
        ("study", "export", small, "--out", tmp_path / "small.json"),
        ("study", "methods"),
        ("data", "average", tmp_path / "m4", "--out", tmp_path / "averaged"),
        ("prior", "collect", "--out", tmp_path / "tasks.h5", "--sites", 1),
        ("prior", "show"),
        ("report", small, "--no-inputs", "--out", tmp_path / "small.html"),
    ):
        done = run(*words, "--json", group=group)
        assert done.code == 0 and json.loads(done.out), (words, done.err)


def test_the_page_on_records_names_every_key(finished, tmp_path):
    """Of a study and its trials; sets and measures are named by their parts."""
    study = load_study("small", open_storage(f"sqlite:///{shutil.copy(finished, tmp_path / 'studies.db')}"))
    names = set(study.user_attrs)
    for trial in study.trials:
        names |= {*trial.user_attrs, *trial.user_attrs["origin"], *trial.user_attrs.get("measures", {})}
    own = set(study.user_attrs["baseline"])
    missing = {name for name in names if f"`{name}`" not in RECORD} - own
    assert not {name for name in missing if not re.search("_(volumes|sd)", name)}, missing
    kept = {name for trial in study.trials for name in trial.system_attrs if name.startswith("ssdtune")}
    assert "ssdtune:slices" in kept and not {name for name in kept if f"`{name}`" not in RECORD}
