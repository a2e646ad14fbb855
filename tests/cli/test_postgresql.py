"""A study on a PostgreSQL server of the test's own, from Debian's programs."""

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

OWNER = "postgres"  # a server refuses to be run by root


@pytest.fixture
def database():
    """The URL of an empty database, with a password."""
    pytest.importorskip("psycopg", reason="no psycopg: install the extra postgresql")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if not found:
        pytest.skip("no PostgreSQL server in /usr/lib/postgresql")
    as_owner = ["runuser", "-u", OWNER, "--"] if os.geteuid() == 0 else []
    if as_owner and OWNER not in [user.pw_name for user in pwd.getpwall()]:
        pytest.skip(f"no user {OWNER} to run a PostgreSQL server as")

    def call(program, *arguments):
        command = [*as_owner, found[-1].with_name(program), "-D", f"{folder}/data", *arguments]
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)

    # a short path, for its socket, in a folder that its owner may enter
    with tempfile.TemporaryDirectory(prefix="ssdtune-") as folder:
        if as_owner:
            shutil.chown(folder, OWNER)
        call("initdb", "--username=lab", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call("pg_ctl", "-l", f"{folder}/log", "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://lab:secret@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-m", "immediate", "-w", "stop")


def test_a_study_is_created_run_and_listed(database, study, run):
    created = run("create", study, "--trials", 2, "--storage", database)
    assert created.code == 0, created.err
    ran = run("run", "small", "--storage", database)
    assert ran.code == 0, ran.err
    (row,) = json.loads(run("list", "--json", "--storage", database).out)
    assert (row["name"], row["trials"], row["of"]) == ("small", 2, 2)
    absent = run("show", "smal", "--storage", database)
    assert absent.code == 4
    for done in (created, ran, absent):
        assert "lab:***@" in done.out + done.err
        assert "secret" not in done.out + done.err
