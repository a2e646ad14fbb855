"""How a process signs its trials: a process number says nothing outside its machine, boot and namespace."""

import time
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState

from ssdtune.study import lost
from ssdtune.study.own import OwnView
from ssdtune.study.storage import open_storage


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """``machine(host, boot, namespace)``: the short name of a machine like that."""

    def name(host, boot, namespace):
        proc = tmp_path / f"{host}{boot}{namespace}"
        (proc / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
        (proc / "sys/kernel/random/boot_id").write_text(boot)
        (proc / "self/ns").mkdir(parents=True, exist_ok=True)
        (proc / "self/ns/pid").unlink(missing_ok=True)
        (proc / "self/ns/pid").symlink_to(f"pid:[{namespace}]")
        monkeypatch.setattr(lost.platform, "node", lambda: host)
        monkeypatch.setattr(lost, "PROC", proc)
        lost._machine.cache_clear()
        return lost._machine()

    yield name
    lost._machine.cache_clear()


def test_containers_that_share_a_host_name_are_machines_of_their_own(machine):
    names = [machine(*given) for given in (("a", "1", "7"), ("a", "1", "8"), ("a", "2", "7"), ("b", "1", "7"))]
    assert len(set(names)) == 4
    assert machine("a", "1", "7") == names[0]


def test_a_process_elsewhere_is_not_asked_for(machine):
    here = machine("a", "1", "7")
    assert lost._is_lost(f"{here}-{2**22 + 1}", None)  # no process has so large a number
    machine("a", "1", "8")
    assert not lost._is_lost(f"{here}-{2**22 + 1}", None)


def test_two_that_find_one_trial_lost_at_once_may_both_give_it_back(storage, monkeypatch):
    study = optuna.create_study(storage=storage)
    OwnView(study).ask({"origin": {"worker": f"{lost._machine()}-{2**22 + 1}"}})
    end = storage.set_trial_state_values

    def end_after_another(*given, **named):
        end(*given, **named)
        return end(*given, **named)

    monkeypatch.setattr(storage, "set_trial_state_values", end_after_another)
    lost.release_lost_trials(study)
    assert study.trials[0].state == TrialState.FAIL


@pytest.mark.parametrize(("hours", "gone"), [(-26, False), (0, False), (26, False), (28, True)])
def test_an_unsigned_trial_is_not_taken_by_the_clock_of_another_time_zone(hours, gone):
    """Optuna keeps local times without their zone, and clocks of two places differ by up to 26 hours."""
    assert lost._is_lost("", datetime.now() - timedelta(hours=hours)) == gone


@pytest.fixture
def move_to():
    """``move_to(zone)``: this process keeps the local time of a zone."""
    with pytest.MonkeyPatch.context() as patch:

        def move(zone):
            patch.setenv("TZ", zone)
            time.tzset()

        yield move
    time.tzset()


@pytest.mark.parametrize("kind", ["sqlite", "journal", "grpc"])
def test_a_trial_that_began_in_another_time_zone_is_not_taken(request, move_to, tmp_path, kind):
    """Neither one that is not signed, of which only its beginning is known, nor one of a machine elsewhere.

    Optuna's proxy alone sends times as those of its own zone; the others store them in UTC.
    """
    move_to("<-12>12")
    url = request.getfixturevalue("proxy").url if kind == "grpc" else f"{kind}:///{tmp_path}/studies"
    own = OwnView(optuna.create_study(storage=open_storage(url, create=True), study_name="demo"))
    own.ask({})
    own.ask({"origin": {"worker": "elsewhere-1"}})
    move_to("<+14>-14")
    study = optuna.load_study(storage=open_storage(url), study_name="demo")
    lost.release_lost_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 2


def test_a_trial_is_signed_and_alive_from_its_first_moment_on(storage):
    study = optuna.create_study(storage=storage)
    own = OwnView(study)
    own.ask({"origin": {"worker": lost.worker_name()}})
    lost.release_lost_trials(study)
    assert study.trials[0].state == TrialState.RUNNING  # of this process, which lives
    own.ask({"origin": {"worker": f"{lost._machine()}-{2**22 + 1}"}})
    lost.release_lost_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.FAIL]
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("select count(*) from trial_heartbeats").scalar() == 2
