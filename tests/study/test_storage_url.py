"""URLs of storages: drivers, passwords from a file, and nothing secret shown, however broken the URL."""

import pytest

from ssdtune.errors import StorageError
from ssdtune.study.storage import open_storage, storage_errors, study_names
from ssdtune.study.storage_url import database_file, parse, shown

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://lab:{SECRET}@host/db",
        f"postgresql://lab:{SECRET}@@host/db",
        f"postgresql://lab:p@{SECRET}@host/db",
        f"postgresql://lab:p@s/{SECRET}@host/db",
        f"postgresql://lab:{SECRET}/x@host/db",
        f"postgresql://lab:{SECRET}?x@host/db",
        f"postgresql://lab:{SECRET}",
        f"postgresql://lab:{SECRET}@host:port/db",
        f"lab:{SECRET}@host/db",
        f"postgresql//lab:{SECRET}@host/db?password={SECRET}",
        f"postgresql://host/db?password={SECRET}&sslpassword={SECRET}",
        f"mysql://lab:{SECRET}@[::1/db",
        f"grpc://lab:{SECRET}@host:1",
    ],
)
def test_no_part_of_a_password_is_shown(url):
    assert SECRET not in shown(url)


@pytest.mark.parametrize("url", [f"postgresql://lab:p@{SECRET}@host/db", f"postgresql://lab:p@s/{SECRET}@host/db"])
def test_a_password_that_is_not_escaped_is_refused(url):
    with pytest.raises(StorageError, match="not escaped") as caught:
        open_storage(url)
    assert SECRET not in str(caught.value)


def test_each_kind_has_the_driver_of_its_extra():
    pytest.importorskip("psycopg")
    assert parse("postgres://lab@host/db").drivername == "postgresql+psycopg"
    assert parse("postgresql://lab@host/db").drivername == "postgresql+psycopg"
    pytest.importorskip("pymysql")
    assert parse("mysql://lab@host/db").drivername == "mysql+pymysql"
    assert parse("sqlite:////home/a@b/studies.db").database == "/home/a@b/studies.db"


def test_a_missing_password_comes_from_its_file(tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("SSDTUNE_STORAGE_PASSWORD_FILE", str(tmp_path / "password"))
    with pytest.raises(StorageError, match="cannot read the password"):
        parse("postgresql://lab@host/db")
    (tmp_path / "password").write_text("p@ss/word\n")
    assert parse("postgresql://lab@host/db").password == "p@ss/word"
    assert parse("postgresql://lab:own@host/db").password == "own"
    assert parse("sqlite:///studies.db").password is None


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "file://localhost{}"])
def test_sqlites_own_uri_opens_the_file_as_it_says(tmp_path, storage, form):
    import optuna

    optuna.create_study(study_name="there", storage=storage)
    file = str(tmp_path / "studies.db")
    url = f"sqlite:///{form.format(file)}?mode=ro&uri=true"
    assert str(database_file(parse(url))) == file
    assert shown(url) == url
    opened = open_storage(url)
    assert study_names(opened) == ["there"]
    with pytest.raises(StorageError, match="readonly"), storage_errors():
        optuna.create_study(study_name="new", storage=opened)
    with pytest.raises(StorageError, match="no storage there"):
        open_storage(url.replace("studies.db", "none.db"))
    assert database_file(parse("sqlite:///file::memory:?cache=shared&uri=true")) is None
