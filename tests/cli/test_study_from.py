"""``study create --from``: a request that follows on another measures what was forgotten before."""

import json
from types import SimpleNamespace

import pytest

from ssdtune.errors import ConfigError
from ssdtune.study import sequel
from ssdtune.studyfile import StudyFile


@pytest.fixture
def second(small, run, inputs, study, fastmri_file):
    """``second(edit)`` writes a study file after ``small``, whose model is in its folder."""
    folder = study.parent
    fastmri_file(folder / "later" / "later.h5", slices=2, coils=2, shape=(32, 32), seed=7)
    assert run("apply", small, "--out", folder / "applied.pt").code == 0

    def write(name="second", checkpoint="applied.pt", more=""):
        text = study.read_text().replace('"small"', f'"{name}"').replace("model.pt", checkpoint)
        text = text.replace('forget = "forget"\nunknown = "unknown"', f'forget = "later"\n{more}')
        path = folder / f"{name}.toml"
        path.write_text(text)
        return path

    return write


def test_a_second_and_a_third_request_measure_what_went_before(second, run, fastmri_file, study):
    done = run("create", second(), "--from", "small", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert "earlier_small_ssim" in record["baseline"]
    assert run("run", "second", "--trials", 2).code == 0
    assert run("apply", "second", "--trial", 0, "--out", study.parent / "twice.pt").code == 0
    fastmri_file(study.parent / "last" / "last.h5", slices=2, coils=2, shape=(32, 32), seed=8)
    third = second("third", "twice.pt")
    third.write_text(third.read_text().replace('"later"', '"last"'))
    done = run("create", third, "--from", "second", "--json")
    assert done.code == 0, done.err
    assert {"earlier_small_ssim", "earlier_second_ssim"} <= set(json.loads(done.out)["baseline"])


def test_what_does_not_follow_is_refused_in_one_line(second, run):
    for path, words, code, message in (
        (second("other", "model.pt"), ("--from", "small"), 2, "does not follow on 'small'"),
        (second(), ("--from", "smal"), 4, "small"),
        (second("doubled", more='[data.earlier]\nsmall = "unknown"'), ("--from", "small"), 2, "data.earlier.small"),
        (second("absent", more='[data.earlier]\nx = "nowhere"'), (), 3, "earlier_x set"),
        (second("named", more='[data.earlier]\n"a b" = "unknown"'), (), 2, "data.earlier"),
    ):
        done = run("create", path, *words)
        assert done.code == code and message in done.err and done.err.count("\n") == 1, done.err


def test_what_was_selected_of_a_selected_retain_set_has_to_be_listed(monkeypatch):
    monkeypatch.setattr(sequel, "read_provenance", lambda path: {"study": "first", "trial": 0})
    chosen = {"retain": {"header": "coils = 2", "files": "all"}, "forget": {"header": "acquisition = T1"}}
    first, second = (
        StudyFile.model_validate({"name": name, "model": {"checkpoint": "m.pt"}, "data": data})
        for name, data in (("first", chosen), ("second", {"retain": "all", "forget": "later"}))
    )
    record = SimpleNamespace(study_file=first.to_json() if hasattr(first, "to_json") else first.model_dump_json())
    with pytest.raises(ConfigError, match=r"data\.earlier\.first"):
        sequel.following(second, "first", record)
    listed = second.model_copy(update={"data": second.data.model_copy(update={"earlier": {"first": "gone.txt"}})})
    assert sequel.following(listed, "first", record).data.earlier == {"first": "gone.txt"}
