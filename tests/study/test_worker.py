"""Studies that fail: tried again at growing intervals, then set aside, and no longer once they go on."""

import optuna
import pytest
from optuna.storages import get_storage

from ssdtune.study import worker
from ssdtune.study.worker import Setbacks


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(worker.time, "monotonic", lambda: now[0])
    return now


def test_a_study_is_tried_again_later_each_time_then_set_aside_for_an_hour(clock):
    setbacks = Setbacks(3)
    assert setbacks.is_due("one") and setbacks.next_try() is None
    for pause in (worker.FIRST_PAUSE, 2 * worker.FIRST_PAUSE):
        setback = setbacks.failed("one", "no memory", 5)
        assert not setback.aside and not setbacks.is_due("one") and setbacks.is_due("other")
        assert setbacks.next_try() == pause
        clock[0] += pause
        assert setbacks.is_due("one")
    setback = setbacks.failed("one", "no memory", 5)
    assert setback.aside and setback.why == "no memory"
    assert not setbacks.is_due("one") and setbacks.next_try() is None
    clock[0] += worker.ASIDE
    assert setbacks.is_due("one")
    assert setbacks.failed("one", "still", 5).aside
    setbacks.went_on("one")
    assert setbacks.is_due("one") and setbacks.failed("one", "anew", 5).failures == 1


def test_inputs_that_cannot_be_used_set_it_aside_at_once(clock):
    setbacks = Setbacks(3)
    assert setbacks.failed("one", "inputs changed", 3, passing=False).aside
    assert setbacks.next_try() is None


def test_a_study_that_is_deleted_while_it_is_looked_at_has_nothing_left(storage, new_study, monkeypatch):
    for name in ("gone", "there"):
        new_study(name, storage=storage)
    look = worker.release_lost_trials

    def delete_first(study):
        if study.study_name == "gone":
            optuna.delete_study(study_name="gone", storage=storage)
        look(study)

    monkeypatch.setattr(worker, "release_lost_trials", delete_first)
    found = worker.waiting_studies(lambda: get_storage(storage))
    assert [study.study_name for study in found] == ["there"]
