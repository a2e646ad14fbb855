"""How a process signs its trials: a process number says nothing outside its machine, boot and namespace."""

import optuna
import pytest
from optuna.trial import TrialState

from ssdtune.study import lost, patience
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


def test_a_trial_whose_process_ended_before_it_signed_is_given_back(tmp_path, monkeypatch):
    storage = open_storage(f"sqlite:///{tmp_path}/studies.db", create=True)
    waiting = patience.waited_for(storage, patience.Patience())
    study = optuna.create_study(storage=waiting)
    study.ask()
    lost.release_lost_trials(study)
    assert study.trials[0].state == TrialState.RUNNING  # of this process, which lives
    monkeypatch.setattr(patience, "worker_name", lambda: f"{lost._machine()}-{2**22 + 1}")
    study.ask()
    lost.release_lost_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.FAIL]
