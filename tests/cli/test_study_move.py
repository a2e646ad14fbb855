"""``ssdtune study move``: a study follows its folder; other inputs are refused."""

import shutil

import pytest

from ssdtune.cli import main


def test_a_study_follows_its_files_to_another_folder(place, tmp_path, capsys):
    new = tmp_path / "else where"
    new.mkdir()
    for name in ("study.toml", "model.pt", "retain", "forget"):
        shutil.move(place / name, new / name)
    source = place.parents[0] / "gone"
    main(["study", "move", "small", str(new / "study.toml")])
    assert f"study small works on {new / 'model.pt'}" in capsys.readouterr().out
    assert not source.exists()
    main(["study", "apply", "small", "--out", "new.pt"])
    assert (place / "new.pt").exists()
    (new / "model.pt").unlink()
    with pytest.raises(SystemExit) as stop:  # it is the new place that is looked at
        main(["study", "apply", "small", "--out", "other.pt"])
    assert stop.value.code == 3
    assert "else where" in capsys.readouterr().err


def test_other_inputs_are_refused_and_nothing_changes(place, refused, fastmri_file):
    fastmri_file(place / "retain" / "brain.h5", slices=2, coils=2, shape=(32, 32), seed=7)
    refused("study move small study.toml", 3, ("inputs changed since the study was made: retain data",))
