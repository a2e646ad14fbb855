"""A study on a PostgreSQL server of the test's own, from Debian's programs."""

import json


def test_a_study_is_created_run_and_listed(postgresql, study, run):
    database = postgresql.url
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
