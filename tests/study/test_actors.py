"""Studies on a Ray cluster of this machine's."""

import gc
import os
import signal
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import small_task
import torch
from small_task import ssd

from ssdtune.errors import ConfigError, TrialError
from ssdtune.objective.evaluator import Evaluator
from ssdtune.study.actors import actor_pool
from ssdtune.study.cluster import Places, cluster, last_line
from ssdtune.study.interrupts import Terminated
from ssdtune.study.parcel import SHARED, pack, unpack
from ssdtune.study.run import run_study
from ssdtune.study.trials import FINISHED, best_of, count_trials, scored_trials
from ssdtune.task import Task

ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")


@pytest.fixture(scope="module")
def two_actors(two_places):
    """A cluster with room for two, which knows this module too."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


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


def test_trials_of_actors_are_those_measured_here_though_one_of_them_dies(two_actors, wide, new_study, tmp_path):
    task, analysis = wide
    said, study = [], new_study(task=task, trials=16, sampler="tpe")
    run_study(study, task, ssd(task, Deadly(task, tmp_path, 1)), pool=lambda m: actor_pool(m, say=said.append))
    trials = study.get_trials(states=FINISHED)
    assert len(trials) == len(study.trials) == 16
    assert len(list(tmp_path.iterdir())) == 1
    assert any("died with trial" in words for words in said)
    assert len({tuple(trial.params.values()) for trial in trials}) == 16
    stopped = [item for item in scored_trials(study) if item.estimated]
    assert stopped
    best = best_of(scored_trials(study))
    assert best is not None and all(item.score.value < best.score.value for item in stopped if item.score.feasible)
    again = new_study(task=task, trials=16, sampler="random")
    for trial in trials:
        again.enqueue_trial(trial.params)
    run_study(again, task, ssd(task, analysis), stop_early=False)
    for item, other in zip(scored_trials(study), scored_trials(again), strict=True):
        if not item.estimated:
            assert item.score.value == pytest.approx(other.score.value, abs=1e-6)


def tensors_in_store():
    """(in Ray's store, elsewhere): large tensors of this process."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    stored = [[int(end, 16) for end in line[0].split("-")] for line in lines if any("plasma" in word for word in line)]
    large = [each for each in gc.get_objects() if type(each) is torch.Tensor and each.nbytes >= SHARED]
    found = [any(start <= each.data_ptr() < stop for start, stop in stored) for each in large]
    return sum(found), len(found) - sum(found)


@pytest.fixture(scope="module")
def seen_by_two(two_actors, tmp_path_factory):
    """What two actors, each on a GPU of a cluster that says it has two, see of prepared data and of their resources."""
    folder = str(tmp_path_factory.mktemp("seen"))
    x, y = torch.randn(40, 2000), torch.arange(40) % 3
    samples = list(zip(x, y, strict=True))
    model, loss = torch.nn.Linear(2000, 3), torch.nn.functional.cross_entropy
    task = Task(model, loss, samples[:30], samples[30:], small_task.confidence)
    evaluator = Evaluator(task)
    evaluator.prepare()

    def measure(setting, incumbent, seed):
        evaluator.measures(task.params)
        (own,) = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        Path(folder, own).touch()
        for _ in range(1200):  # until the other is there too
            if len(list(Path(folder).iterdir())) == 2:
                break
            time.sleep(0.05)
        return tensors_in_store(), (own, ray.get_runtime_context().get_assigned_resources().get("CPU", 0))

    places = Places(gpus=True)
    assert places.number() == 2
    with actor_pool(measure, places) as pool:
        for number in range(2):
            assert pool.free
            pool.submit(number, {}, None, 0)
        assert not pool.free
        return [pool.wait()[1] for _ in range(2)]


def test_prepared_data_are_read_where_the_cluster_has_them_once_a_machine(seen_by_two):
    for (stored, elsewhere), _ in seen_by_two:
        assert stored >= 2 and elsewhere == 0, seen_by_two


def test_an_actor_a_gpu_has_one_of_its_own_and_needs_no_core(seen_by_two):
    assert sorted(resources for _, resources in seen_by_two) == [("0", 0), ("1", 0)]


class Failing(small_task.Diagonals):
    def dampen(self, *setting):
        raise ValueError("no such thing")


def test_what_fails_in_an_actor_fails_the_trial_and_gives_back_the_others(two_actors, task, new_study):
    study = new_study(trials=5)
    with pytest.raises(TrialError, match="no such thing"):
        run_study(study, task, ssd(task, Failing(task)), pool=actor_pool)
    counts = count_trials(study)
    assert (counts.failed, counts.running) == (1, 0)
    run_study(study, task, ssd(task, small_task.Diagonals(task)))
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


def test_a_signal_while_ray_starts_ends_a_command_as_any_other(monkeypatch):
    def ended(*_, **__):
        sys.exit(int(signal.SIGTERM))  # as Ray's handler does

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", ended)
    with pytest.raises(Terminated), cluster():
        pass


def test_the_reason_of_a_death_is_told_in_whole_sentences():
    causes = "Some common causes include: (1) the process was killed by the OOM killer due to high memory usage. " * 2
    told = last_line(RuntimeError(f"The actor died.\n\tpid: 7\nIts process has died. End of file. {causes}"))
    assert told.startswith("Its process has died. End of file. Some common causes") and told.endswith("memory usage")
    assert last_line(RuntimeError("The node died.")) == "The node died."
    assert last_line(RuntimeError("x" * 300)) == "x" * 200
