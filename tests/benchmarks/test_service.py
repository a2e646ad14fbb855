"""Nothing lost, smaller: 60 trials, 3 workers, killed and stopped as they go, and their database restarted."""

from unittest.mock import patch

import pytest

from benchmarks.service.storm import storm
from ssdtune.unlearning.methods import METHODS

SIZE = {"trials": 60, "workers": 3, "by_trials": True, "limit": 1800}


@pytest.fixture(autouse=True)
def _no_method_stays():
    with patch.dict(METHODS):
        yield


def check(found, folder):
    ends = {log.stem: log.read_text()[-1500:] for log in folder.rglob("worker-*.log")} if found["gave_up"] else {}
    assert found["lost"] == found["duplicated"] == found["best_differs"] == found["gave_up"] == 0, f"{found} {ends}"
    assert found["finished"] == 60
    assert found["killed"] >= 5 and found["stopped"] >= 2
    assert found["asked"] >= 60


def test_nothing_is_lost_on_postgresql(postgresql, tmp_path):
    restart = postgresql.restart
    often = {"kill_every": 8, "stop_every": 13}
    check(storm(postgresql.url, tmp_path, seed=0, seconds=0.2, restart=restart, **often, **SIZE), tmp_path)


def test_nothing_is_lost_on_sqlite(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    check(storm(url, tmp_path, seed=1, kill_every=7, stop_every=13, **SIZE), tmp_path)
