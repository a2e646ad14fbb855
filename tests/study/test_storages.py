"""Each kind of storage: what it serves, and what the table of docs/service.md says of it."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from small_task import ssd

from ssdtune.errors import StorageError
from ssdtune.study import large, record
from ssdtune.study.create import delete_study
from ssdtune.study.lost import release_lost_trials
from ssdtune.study.patience import Patience, waited_for
from ssdtune.study.record import ORIGIN, WORKER, read_columns
from ssdtune.study.run import run_study
from ssdtune.study.storage import check_new_name, load_study, open_storage, storage_exists, study_names
from ssdtune.study.trials import count_trials

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()


@pytest.fixture
def url_of(tmp_path, request):
    """``url_of(kind)``: an empty storage of that kind."""

    def make(kind):
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/studies.db"
        if kind == "journal":
            return f"journal:///{tmp_path}/studies.log"
        if kind == "postgresql":
            return request.getfixturevalue("postgresql").url
        if kind == "mysql":
            return request.getfixturevalue("mysql")
        return request.getfixturevalue("proxy").url

    return make


KINDS = ["sqlite", "postgresql", "mysql", "journal", "grpc"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_is_made_run_read_again_and_deleted(kind, url_of, new_study, task, analysis, monkeypatch):
    url = url_of(kind)
    check_new_name("demo", url)
    storage = open_storage(url, create=True)
    assert storage_exists(url)
    new_study(trials=3, storage=storage)
    with pytest.raises(StorageError, match="exists already"):
        check_new_name("demo", url)
    study = load_study("demo", waited_for(open_storage(url), Patience(5)), url)
    monkeypatch.setattr(record, "in_pieces", partial(large.in_pieces, size=40))  # as the slices of a large study are
    run_study(study, task, ssd(task, analysis))
    again = load_study("demo", open_storage(url), url)
    assert count_trials(again).finished == 3
    full = [trial for trial in again.trials if trial.state.name == "COMPLETE"]
    assert all(np.isfinite(column).all() and len(column) for trial in full for column in read_columns(trial).values())
    assert again.best_value == max(trial.value for trial in full)
    delete_study("demo", open_storage(url))
    assert study_names(open_storage(url)) == []


@pytest.mark.filterwarnings("ignore:Heartbeat")  # asked for here without Study.optimize, as ssdtune does
@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_a_trial_that_another_machine_lost_where_the_table_says_so(kind, url_of, new_study):
    url = url_of(kind)
    new_study(trials=3, storage=open_storage(url, create=True))
    study = load_study("demo", open_storage(url), url)
    trial = study.ask()
    trial.set_user_attr(ORIGIN, {WORKER: "elsewhere-1"})
    storage = study._storage
    if hasattr(storage, "record_heartbeat"):
        storage.record_heartbeat(trial._trial_id)
        with storage._backend.engine.begin() as database:  # its last sign of life was long ago
            database.exec_driver_sql("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'")
    release_lost_trials(study)
    found = study.trials[0].state == optuna.trial.TrialState.FAIL
    (row,) = re.findall(rf"^\| `{kind}://.*$", PAGE, re.MULTILINE)
    assert found == (row.split("|")[3].strip() == "yes")


def test_what_is_no_journal_or_proxy_is_refused_in_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("not a journal\n")
    with pytest.raises(StorageError, match="not an Optuna journal"):
        open_storage(f"journal:///{tmp_path}/notes.txt")
    with pytest.raises(StorageError, match="no storage there"):
        open_storage(f"journal:///{tmp_path}/none.log")
    assert not (tmp_path / "none.log").exists()
    for url in ("journal://host/x", "journal://", "grpc://", "grpc://host"):
        with pytest.raises(StorageError, match="give "):
            open_storage(url)


def test_an_older_or_newer_optuna_is_named_with_what_to_do(tmp_path):
    import sqlite3

    url = f"sqlite:///{tmp_path}/old.db"
    open_storage(url, create=True)
    with sqlite3.connect(tmp_path / "old.db") as database:
        database.execute("update alembic_version set version_num = 'v2.6.0.a'")
        database.execute("update version_info set library_version = '2.6.0'")
    with pytest.raises(StorageError, match=r"made by Optuna 2\.6\.0, this is Optuna 5.*optuna storage upgrade"):
        open_storage(url)
    with sqlite3.connect(tmp_path / "old.db") as database:
        database.execute("update alembic_version set version_num = 'v99.0.0.a'")
        database.execute("update version_info set library_version = '99.0.0'")
    with pytest.raises(StorageError, match=r"made by Optuna 99\.0\.0.*pip install -U optuna"):
        open_storage(url)
