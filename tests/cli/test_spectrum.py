"""``ssdtune spectrum`` on small files: what it prints and writes, and one line for what is wrong."""

import json

import h5py
import pytest
import torch

from ssdtune.cli import main
from ssdtune.fisher.features import FEATURES
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.mri.networks.models import build_model
from ssdtune.studyfile import TrainSection

STUDY = """
name = "small"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory, fastmri_file):
    folder = tmp_path_factory.mktemp("spectrum")
    for seed, name in enumerate(("retain", "forget")):
        fastmri_file(folder / name / f"{name}.h5", slices=3, coils=2, shape=(32, 32), seed=seed)
    torch.manual_seed(0)
    model = build_model(TrainSection(cascades=2, channels=2, pools=2, sens_channels=2, sens_pools=2))
    torch.save(model.net.state_dict(), folder / "model.pt")
    (folder / "study.toml").write_text(STUDY)
    return folder / "study.toml"


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSDTUNE_CACHE", str(tmp_path / "cache"))


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of ``ssdtune spectrum ...``."""
    code = 0
    try:
        main(["spectrum", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_features_are_printed_and_files_written_and_named(study, tmp_path, capsys):
    code, out, err = run(capsys, study)
    assert code == 0, err
    for name in FEATURES:
        assert name in out
    assert "3 forget and 3 retain samples" in out and "…" in out
    assert "warning: 3 forget samples are too few" in err
    for name in ("small-spectrum.html", "small-spectrum.png"):
        assert (tmp_path / name).stat().st_size > 10_000
        assert name in out


def test_it_is_the_same_on_a_cluster(study, capsys, two_places, tmp_path, monkeypatch):
    found = {}
    for where, more in (("here", []), ("ray", ["--ray"])):
        monkeypatch.setenv("SSDTUNE_CACHE", str(tmp_path / where))  # computed anew
        code, out, err = run(capsys, study, "--json", *more)
        assert code == 0, err
        assert ("ray: 2 processes, one for each CPU" in err) == (where == "ray")
        found[where] = json.loads(out)["features"]
    assert found["ray"] == pytest.approx(found["here"], rel=1e-6, nan_ok=True)


def test_the_spectrum_of_each_block_on_request(study, capsys):
    code, out, err = run(capsys, study, "--groups", "block", "--json")
    assert code == 0, err
    document = json.loads(out)
    groups, shares = document["group_eigenvalues"], document["depth"]
    for name in ("forget", "retain"):
        assert list(groups[name]) == list(shares[name]) == ["sensitivity net", "cascade 1", "cascade 2"]
        traces = {group: sum(values) for group, values in groups[name].items()}
        whole = sum(traces.values())
        assert whole == pytest.approx(10 ** document["features"][f"{name}_log10_trace"], rel=1e-5)
        assert shares[name] == pytest.approx({group: trace / whole for group, trace in traces.items()}, rel=1e-4)
    code, out, err = run(capsys, study, "--groups", "block")
    assert code == 0 and "cascade 2" in out and "forget rank" in out


def test_json_is_the_same_and_the_analysis_can_be_kept(study, tmp_path, capsys):
    files = {"page": "p.html", "picture": "p.png", "analysis": "fisher.h5"}
    arguments = ("--html", "p.html", "--png", "p.png", "--out", "fisher.h5", "--json")
    code, out, err = run(capsys, study, *arguments)
    assert code == 0, err
    document = json.loads(out)
    assert document["files"] == files
    assert list(document["features"]) == list(FEATURES)
    low, high = document["intervals"]["forget_effective_rank"]
    assert low <= high
    analysis = FisherAnalysis.load(tmp_path / "fisher.h5")
    assert analysis.features() == pytest.approx(document["features"], rel=1e-6)
    assert document["warnings"] == list(analysis.warnings) != []
    assert document["parameters"] == analysis.layout.parameters
    assert len(list((tmp_path / "cache").rglob("*.h5"))) == 1
    code, again, _ = run(capsys, study, *arguments)
    assert code == 0 and json.loads(again) == document
    assert len(list((tmp_path / "cache").rglob("*.h5"))) == 1


def test_what_is_wrong_is_one_line(study, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    cases = [
        (("none.toml",), 2, "none.toml"),
        ((study, "--device", "abacus"), 2, "abacus"),
        ((study, "--png", tmp_path / "file" / "picture.png"), 3, "cannot write"),
    ]
    for arguments, wanted, words in cases:
        code, _, err = run(capsys, *arguments)
        assert code == wanted and words in err and err.count("\n") == 1


def test_a_damaged_file_is_named(study, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    with h5py.File(broken / "empty.h5", "w"):
        pass
    text = STUDY.replace('"model.pt"', f'"{study.parent}/model.pt"').replace('"retain"', f'"{study.parent}/retain"')
    (tmp_path / "study.toml").write_text(text.replace('"forget"', '"broken"'))
    code, _, err = run(capsys, tmp_path / "study.toml")
    assert code == 3 and "empty.h5" in err and err.count("\n") == 1


def test_parts_of_a_study_are_merged_without_its_data(study, tmp_path, capsys):
    for part in ("1/2", "2/2"):
        code, out, err = run(capsys, study, "--part", part, "--out", tmp_path / f"{part[0]}.part")
        assert code == 0 and "as secret as the data" in out, err
    code, out, err = run(capsys, study, "--json")
    assert code == 0, err
    whole = json.loads(out)
    alone = tmp_path / "alone.toml"
    alone.write_text(study.read_text())
    (tmp_path / "model.pt").write_bytes((study.parent / "model.pt").read_bytes())
    merge = ["--merge", tmp_path / "2.part", "--merge", tmp_path / "1.part"]
    code, out, err = run(capsys, alone, *merge, "--json", "--out", tmp_path / "merged.h5")
    assert code == 0, err
    merged = json.loads(out)
    assert merged["features"] == pytest.approx(whole["features"], rel=1e-5, abs=1e-5)  # gradients are float32
    assert merged["identity"] == whole["identity"] and merged["samples"] == whole["samples"]
    assert FisherAnalysis.load(tmp_path / "merged.h5").features() == merged["features"]
    for given, words in (
        (["--part", "3/2", "--out", "x"], "is no part"),
        (["--part", "1/2"], "give it with --out alone"),
        (["--part", "1/900", "--out", tmp_path / "x"], "cut it into"),
        (["--merge", tmp_path / "1.part", "--spectral"], "leave --ray and --spectral out"),
    ):
        code, out, err = run(capsys, study, *given)
        assert code == 2 and words in err
    code, out, err = run(capsys, study, *merge[:2])
    assert code == 3 and "give each of the 2 parts" in err


def test_parts_of_another_study_are_refused_before_anything_is_written(study, tmp_path, capsys, fastmri_file):
    parts = [tmp_path / "1.part", tmp_path / "2.part"]
    for number, path in enumerate(parts, 1):
        assert run(capsys, study, "--part", f"{number}/2", "--out", path)[0] == 0
    site = tmp_path / "site.part"
    assert run(capsys, study, "--part", "1/1", "--out", site)[0] == 0
    folder = study.parent
    fastmri_file(tmp_path / "others/other.h5", slices=3, coils=2, shape=(32, 32), seed=7)
    state = torch.load(folder / "model.pt")
    torch.save({name: value + 0.01 for name, value in state.items()}, tmp_path / "other.pt")
    own = STUDY
    for name in ("model.pt", "retain", "forget"):
        own = own.replace(f'= "{name}"', f'= "{folder}/{name}"')
    nowhere = own.replace(f'{folder}/retain"', 'nowhere"')
    for text, given, words in (
        (own.replace(f"{folder}/model.pt", "other.pt"), parts, "of another model than the study"),
        (own.replace(f"{folder}/model.pt", "none.pt"), parts, "none.pt"),
        (own.replace(f'{folder}/retain"', 'others"'), parts, "of another retain set than the study"),
        (own + "[mask]\nacceleration = 8\n", [site], "mask is equispaced_fraction 4x (centre 8 %), "),
        (own + '[fisher]\nloss = "l1"\n', [site], "loss is ssim, l1 in the study"),
        (own + '[fisher]\ndefinition = "batch"\n', parts, "definition is per-sample, batch in the study"),
        (nowhere + "[fisher]\nsamples = 2\n", parts, "samples is all, 2 in the study"),
        (nowhere + "[fisher]\nforget_share = 0.1\n", parts, "forget_share is own, 0.1 in the study"),
    ):
        (tmp_path / "other.toml").write_text(text)
        merge = [word for path in given for word in ("--merge", path)]
        code, out, err = run(capsys, tmp_path / "other.toml", *merge, "--out", tmp_path / "merged.h5")
        assert code == 3 and words in err and err.count("\n") == 1 and not out, err
        assert not (tmp_path / "merged.h5").exists() and not list(tmp_path.glob("small-spectrum.*"))
    (tmp_path / "other.toml").write_text(nowhere)
    assert run(capsys, tmp_path / "other.toml", *[w for path in parts for w in ("--merge", path)])[0] == 0


@pytest.mark.parametrize(
    ("option", "name"), [("--out", "retain/retain.h5"), ("--html", "study.toml"), ("--png", "model.pt")]
)
def test_nothing_that_is_read_is_written_over(study, capsys, option, name):
    before = (study.parent / name).read_bytes()
    parts = ["--part", "1/1"] if option == "--out" else []
    for words in (parts, ["--merge", study.parent / "site.part"]):
        code, _, err = run(capsys, study, *words, option, study.parent / name)
        assert code == 2 and f"is read here, {option}, name another file" in err
        assert (study.parent / name).read_bytes() == before


def test_no_analysis_is_written_among_the_scans(study, capsys):
    for words in ([], ["--part", "1/1"]):
        code, _, err = run(capsys, study, *words, "--out", study.parent / "retain" / "fisher.h5")
        assert code == 2 and "in a folder that is read here, --out, name a file elsewhere" in err
    assert len(list((study.parent / "retain").iterdir())) == 1


def test_two_results_are_two_files(study, tmp_path, capsys):
    code, _, err = run(capsys, study, "--html", tmp_path / "a", "--png", tmp_path / "a")
    assert code == 2 and "is already that of --html" in err
