"""Nothing lost, smaller: 60 trials, 3 workers, killed and stopped as they go, and their database restarted."""

import os

import pytest

from benchmarks.service.storm import storm

pytestmark = pytest.mark.skipif("SSDTUNE_STORM" not in os.environ, reason="minutes long: set SSDTUNE_STORM=1")


def check(found, trials):
    assert found["lost"] == found["duplicated"] == found["best_differs"] == found["gave_up"] == 0, found
    assert found["finished"] == trials
    assert found["killed"] >= 5 and found["stopped"] >= 2
    assert found["asked"] >= trials


def test_nothing_is_lost_on_postgresql(postgresql, tmp_path):
    found = storm(
        postgresql.url,
        tmp_path,
        trials=60,
        workers=3,
        seed=0,
        kill_every=8,
        stop_every=19,
        by_trials=True,
        limit=300,
        seconds=0.2,
        restart=postgresql.restart,
    )
    check(found, 60)


def test_nothing_is_lost_on_sqlite(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    size = {"trials": 40, "workers": 2, "kill_every": 7, "stop_every": 13}
    check(storm(url, tmp_path, seed=1, by_trials=True, limit=300, **size), 40)
