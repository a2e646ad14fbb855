"""A study whose data lie elsewhere on this machine: placed by --data-root or SSDTUNE_DATA, known by content."""

import os


def test_a_study_is_run_where_its_data_are(study, run, fastmri_file, monkeypatch, tmp_path):
    monkeypatch.setenv("SSDTUNE_DATA", "")
    assert run("create", study, "--trials", 1).code == 0
    moved = study.parent.rename(tmp_path / "moved")
    assert run("run", "small").code == 3
    assert run("run", "small", "--data-root", moved).code == 0
    assert os.environ["SSDTUNE_DATA"] == str(moved)
    assert run("apply", "small", "--trial", 0, "--out", tmp_path / "new.pt").code == 0
    fastmri_file(moved / "forget" / "forget.h5", slices=3, coils=2, shape=(32, 32), seed=9, clean=True)
    changed = run("run", "small", "--trials", 2)
    assert changed.code == 3 and "inputs changed" in changed.err
