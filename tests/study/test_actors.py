"""Studies on a Ray cluster of this machine's."""

import os
import signal
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import small_task
import torch
from small_task import ssd

from ssdtune.errors import ConfigError, TrialError
from ssdtune.study.actors import actor_pool, cluster
from ssdtune.study.parcel import SHARED, pack, unpack
from ssdtune.study.run import run_study
from ssdtune.study.trials import FINISHED, count_trials, scored_trials

ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")


@pytest.fixture(scope="module")
def two_actors():
    """A cluster with room for two, which knows the modules of the tests."""
    for module in (small_task, sys.modules[__name__]):
        ray.cloudpickle.register_pickle_by_value(module)
    ray.init("local", num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_trials_of_actors_are_those_measured_here(two_actors, task, analysis, new_study):
    study, unlearner = new_study(trials=8, sampler="tpe"), ssd(task, analysis)
    run_study(study, task, unlearner, pool=actor_pool)
    trials = study.get_trials(states=FINISHED)
    assert len(trials) == len(study.trials) == 8
    assert len({tuple(trial.params.values()) for trial in trials}) == 8
    again = new_study(trials=8, sampler="random")
    for trial in trials:
        again.enqueue_trial(trial.params)
    run_study(again, task, unlearner, stop_early=False)
    for item, other in zip(scored_trials(study), scored_trials(again), strict=True):
        if not item.estimated:
            assert item.score.value == pytest.approx(other.score.value, abs=1e-6)


class Deadly(small_task.Diagonals):
    """The first ``deaths`` processes that are asked for parameters die."""

    def __init__(self, task, folder, deaths):
        super().__init__(task)
        self.folder, self.deaths = str(folder), deaths

    def dampen(self, *setting):
        if len(list(Path(self.folder).iterdir())) < self.deaths:
            Path(self.folder, str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().dampen(*setting)


def test_an_actor_that_dies_costs_no_trial(two_actors, task, new_study, tmp_path):
    said, study = [], new_study(trials=5)
    run_study(study, task, ssd(task, Deadly(task, tmp_path, 1)), pool=lambda m: actor_pool(m, say=said.append))
    assert [trial.state in FINISHED for trial in study.trials] == [True] * 5
    assert len(list(tmp_path.iterdir())) == 1
    assert any("died with trial" in words for words in said)


class Failing(small_task.Diagonals):
    def dampen(self, *setting):
        raise ValueError("no such thing")


def test_what_fails_in_an_actor_fails_the_trial_and_gives_back_the_others(two_actors, task, new_study):
    study = new_study(trials=5)
    with pytest.raises(TrialError, match="no such thing"):
        run_study(study, task, ssd(task, Failing(task)), pool=actor_pool)
    counts = count_trials(study)
    assert (counts.failed, counts.running) == (1, 0)
    run_study(study, task, ssd(task, small_task.Diagonals(task)), pool=actor_pool)
    assert count_trials(study).finished == 5


def test_large_arrays_are_shared_and_small_ones_copied():
    given = {"large": torch.rand(SHARED), "small": torch.rand(3), "bits": torch.rand(SHARED).bfloat16()}
    given |= {"none": torch.empty(0, 4), "array": np.arange(SHARED), "module": torch.nn.Linear(300, 300)}
    parcel = pack(given)
    found = unpack(parcel)
    assert len(parcel.arrays) == 4
    assert len(parcel.pickled) < SHARED
    for name in ("large", "small", "bits", "none"):
        assert torch.equal(found[name], given[name]) and found[name].dtype == given[name].dtype
    assert np.array_equal(found["array"], given["array"])
    assert all(map(torch.equal, found["module"].parameters(), given["module"].parameters()))
    assert found["module"].weight.requires_grad
    assert found["large"].data_ptr() == parcel.arrays[0].ctypes.data
    found["small"] += 1
    assert unpack(pack(cache(lambda: 3)))() == 3


@pytest.mark.parametrize("address", ["ray://here:10001", "here", "127.0.0.1:1", "127.0.0.1:99999"])
def test_addresses_without_a_cluster_are_refused(address):
    with pytest.raises(ConfigError, match="Ray"), cluster(address):
        pass
