"""Storages that are not there, cannot be opened or written, or hold something else: one line, nothing made."""

import os
import shutil
import sqlite3
from importlib.util import find_spec

import optuna
import pytest

from ssdtune.errors import StorageError
from ssdtune.study.create import delete_study
from ssdtune.study.storage import (
    check_new_name,
    is_local,
    load_study,
    open_storage,
    quick_commits,
    shown,
    storage_exists,
    storage_url,
    study_names,
)

not_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")


def test_the_url_given_comes_before_the_environment_before_the_default(monkeypatch):
    monkeypatch.delenv("SSDTUNE_STORAGE", raising=False)
    assert storage_url() == "sqlite:///ssdtune.db"
    monkeypatch.setenv("SSDTUNE_STORAGE", "sqlite:///lab.db")
    assert storage_url() == "sqlite:///lab.db"
    assert storage_url("sqlite:///mine.db") == "sqlite:///mine.db"


def test_a_password_is_never_shown():
    assert shown("postgresql://lab:secret@host/studies") == "postgresql://lab:***@host/studies"
    assert shown("postgresql//lab:se/cret@host/studies?password=secret") == "postgresql//***@host/studies"
    assert shown("postgresql://lab:secret@host:port/studies") == "postgresql://***@host:port/studies"
    assert shown("mysql+pymysql://lab:a/b@c@host/studies?password=hid@den") == "mysql+pymysql://***"
    assert shown("mysql://host/studies?password1=secret&auth_token=t") == (
        "mysql://host/studies?auth_token=hidden&password1=hidden"
    )
    told = shown("postgresql://host/studies?user=lab&password=secret&sslPassword=secret&port=5432")
    assert told == "postgresql://host/studies?password=hidden&port=5432&sslPassword=hidden&user=lab"


def test_looking_into_a_storage_that_is_not_there_makes_none(tmp_path):
    url = f"sqlite:///{tmp_path}/none.db"
    assert not storage_exists(url)
    with pytest.raises(StorageError, match="no storage there") as caught:
        open_storage(url)
    assert caught.value.exit_code == 4
    check_new_name("demo", url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["studies.db", "nodialect:///x", "sqlite+nodriver:///x.db", "postgresql+nodriver://h/x"]
)
def test_what_is_no_storage_url_is_refused(url):
    with pytest.raises(StorageError, match="not a storage URL"):
        open_storage(url)


@pytest.mark.skipif(find_spec("MySQLdb") is not None, reason="the driver is installed")
def test_a_missing_driver_is_one_line_without_the_password():
    with pytest.raises(StorageError, match="driver is missing") as caught:
        open_storage("mysql+mysqldb://lab:secret@127.0.0.1:1/studies", create=True)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    url = f"sqlite:///{tmp_path}/missing/studies.db"
    with pytest.raises(StorageError, match="folder does not exist"):
        check_new_name("demo", url)
    with pytest.raises(StorageError, match="unable to open database file"):
        open_storage(url, create=True)


@not_root
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="no permission to write"):
        check_new_name("demo", f"sqlite:///{tmp_path}/studies.db")


@not_root
def test_a_storage_without_permission_cannot_be_written(tmp_path, storage, new_study):
    (tmp_path / "studies.db").chmod(0o400)
    with pytest.raises(StorageError, match="readonly"):
        new_study(storage=storage)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "notes.db").write_text("nothing like a database " * 100)
    with pytest.raises(StorageError, match="file is not a database"):
        open_storage(f"sqlite:///{tmp_path}/notes.db")


def test_a_folder_is_no_database_and_stays(tmp_path):
    with pytest.raises(StorageError, match="unable to open database file"):
        open_storage(f"sqlite:///{tmp_path}", create=True)
    assert tmp_path.is_dir()


def test_a_database_of_something_else_is_left_as_it_was(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("create table patients (name text)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="no studies table"):
        open_storage(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_an_unknown_study_gives_the_nearest_names(storage, url, new_study):
    with pytest.raises(StorageError, match="ssdtune study create"):
        load_study("brain", storage, url)
    new_study("brain_30", storage=storage)
    with pytest.raises(StorageError, match=r"no study 'brain_3'.*did you mean 'brain_30'"):
        load_study("brain_3", storage, url)
    with pytest.raises(StorageError, match="ssdtune study list"):
        load_study("xyz", storage, url)


def test_a_duplicate_name_is_refused_before_and_after_the_baseline(storage, url, new_study):
    new_study(storage=storage)
    with pytest.raises(StorageError, match="study 'demo' exists already"):
        check_new_name("demo", url)
    with pytest.raises(StorageError, match="study 'demo' exists already"):
        new_study(storage=storage)
    assert study_names(storage) == ["demo"]


def test_delete_leaves_the_others(storage, new_study):
    new_study("one", storage=storage)
    new_study("two", storage=storage)
    delete_study("one", storage)
    assert study_names(storage) == ["two"]
    with pytest.raises(StorageError, match="no study 'one'"):
        delete_study("one", storage)


def test_a_full_disk_leaves_no_new_database(tmp_path, small_disk):
    with small_disk(20_000), pytest.raises(StorageError, match="disk"):
        open_storage(f"sqlite:///{tmp_path}/new.db", create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_write_ahead_log_is_kept_only_meanwhile(tmp_path):
    path = tmp_path / "quick.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    with quick_commits(storage):
        study = optuna.create_study(storage=storage, study_name="quick")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
        assert path.with_name("quick.db-wal").exists() == is_local(path)
    assert not path.with_name("quick.db-wal").exists()
    alone = shutil.copy(path, tmp_path / "copy.db")
    assert len(load_study("quick", open_storage(f"sqlite:///{alone}")).trials) == 2


def test_a_file_that_another_process_has_open_is_left_as_it_is(tmp_path):
    path = tmp_path / "shared.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    with sqlite3.connect(path) as other:
        with quick_commits(storage):
            optuna.create_study(storage=storage, study_name="shared")
            assert other.execute("select count(*) from studies").fetchone() == (1,)
        assert other.execute("select count(*) from studies").fetchone() == (1,)
    assert study_names(open_storage(f"sqlite:///{path}")) == ["shared"]


def test_a_database_in_memory_has_no_journal_to_change():
    with quick_commits(optuna.storages.RDBStorage("sqlite:///:memory:")) as nothing:
        assert nothing is None


def test_a_port_that_is_no_number_is_one_line():
    with pytest.raises(StorageError, match="not a storage URL"):
        open_storage("postgresql://lab:secret@host:port/studies")
