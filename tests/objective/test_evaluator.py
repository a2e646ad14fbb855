"""The evaluator against the plain way: same measures, wherever data are kept, and it notices other inputs."""

from dataclasses import replace

import numpy as np
import pytest
import small_classifier
import torch

from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import AsItIs, Evaluator
from ssdtune.objective.prepared import PreparedSet
from ssdtune.studyfile import MaskSection


def same(ours, plain, tolerance=1e-5):
    assert ours.values.keys() == plain.values.keys()
    for name, columns in plain.values.items():
        assert list(ours.values[name]) == list(columns)
        for measure, column in columns.items():
            np.testing.assert_allclose(ours.values[name][measure], column, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch_size", [None, 1, 3, 8])
def test_measures_are_those_of_the_plain_way(mri_task, dampened, batch_size):
    task = mri_task()
    evaluator = Evaluator(task, batch_size=batch_size)
    for params in (None, dampened(task), dampened(task, only="cascades")):
        same(evaluator.measures(params), evaluate(task, params))


def test_any_model_can_be_evaluated():
    task = small_classifier.task()
    same(Evaluator(task).measures(None), evaluate(task))


@pytest.mark.parametrize("budget", [0, 3e5])
def test_what_does_not_fit_in_memory_is_read_again(mri_task, dampened, budget):
    task, said = mri_task(), []
    evaluator = Evaluator(task, memory_budget=budget, say=said.append)
    same(evaluator.measures(None), evaluate(task))
    same(evaluator.measures(dampened(task)), evaluate(task, dampened(task)))
    assert any("kept in files" in words for words in said)


class Fails:
    """Samples that can be read once."""

    def __init__(self, items, reason):
        self.items, self.reason, self.asked = list(items), reason, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked += 1
        if self.asked > len(self):
            raise self.reason
        return self.items[index]


@pytest.mark.parametrize("reason", [OSError("gone"), MemoryError("gone")])
def test_a_failing_file_is_an_error_also_when_read_ahead(mri_task, reason):
    task, said = mri_task(), []
    task = replace(task, forget=Fails(task.forget, reason))
    object.__setattr__(task, "identity", {})
    evaluator = Evaluator(task, memory_budget=0, say=said.append)
    with pytest.raises(type(reason), match="gone"):
        evaluator.measures(None)
    smaller = "out of memory on cpu: going on with batches of 1"
    assert (said[-1] == smaller) == isinstance(reason, MemoryError)


def test_sensitivity_maps_are_reused_only_where_their_network_is_untouched(mri_task, dampened):
    task = mri_task()
    evaluator = Evaluator(task)
    evaluator.untouched()
    asked = []
    network = evaluator.network
    network.maps, maps = lambda *given: asked.append(1) or maps(*given), network.maps
    same(evaluator.measures(dampened(task, only="cascades")), evaluate(task, dampened(task, only="cascades")))
    assert not asked
    same(evaluator.measures(dampened(task, only="sens_net")), evaluate(task, dampened(task, only="sens_net")))
    assert asked


def test_an_evaluation_in_parts_is_the_whole(mri_task, dampened):
    task = mri_task()
    evaluator = Evaluator(task, batch_size=2)
    found = evaluator.start(dampened(task))
    for stop in (2, 3, 5):
        found.extend("retain", stop)
        assert found.done == {"retain": stop, "forget": 0, "unknown": 0}
        assert np.isfinite(found.quality("retain")).all()
        assert len(found.quality("retain")) == stop
    found.finish()
    same(found.measures(), evaluate(task, dampened(task)))


class RunsOut(torch.nn.Module):
    """A model whose device holds two samples at most."""

    def __init__(self, model, most=2):
        super().__init__()
        self.model, self.most = model, most

    def forward(self, *inputs):
        if len(inputs[0]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")
        return self.model(*inputs)


def test_out_of_memory_halves_the_batch_says_so_and_goes_on(mri_task):
    task, said = mri_task(), []
    plain = evaluate(task)
    evaluator = Evaluator(replace(task, model=RunsOut(task.model)), batch_size=8, say=said.append)
    same(evaluator.measures(None), plain)
    assert evaluator.batch_size == 2
    assert said == ["out of memory on cpu: going on with batches of 2"]  # 5 slices have the first size
    with pytest.raises(torch.OutOfMemoryError):
        Evaluator(replace(task, model=RunsOut(task.model, 0))).measures(None)


def test_by_default_a_batch_has_as_many_slices_as_their_size_allows(mri_task):
    task, said = mri_task(), []
    evaluator = Evaluator(replace(task, model=RunsOut(task.model, 1)), say=said.append)
    sizes = [evaluator.batch_of(values) for values in (1, 2 * 4 * 64**2, 2 * 4 * 128**2, 2 * 15 * 640 * 368)]
    assert sizes == [64, 16, 4, 1]
    assert Evaluator(task, batch_size=8).batch_of(2 * 15 * 640 * 368) == 8
    evaluator.measures(None)
    assert said[-1] == "out of memory on cpu: going on with batches of 1"
    heard = len(said)
    evaluator.measures(None)
    assert len(said) == heard
    assert evaluator.batch_of(1) == 64  # smaller slices may be more at once


@pytest.mark.parametrize("batch_size", [None, 8])
def test_out_of_memory_among_sets_that_are_read_ahead(mri_task, batch_size):
    task, said = mri_task(), []
    evaluator = Evaluator(
        replace(task, model=RunsOut(task.model)), batch_size=batch_size, memory_budget=0, say=said.append
    )
    same(evaluator.measures(None), evaluate(task))
    assert "out of memory on cpu: going on with batches of 2" in said


def test_large_samples_before_small_ones_do_not_make_a_set_too_large():
    large, small = ([(torch.full((n,), float(i)), torch.tensor(i)) for i in range(40)] for n in (1000, 2))
    order = np.random.default_rng(0).permutation(80)
    task, size = small_classifier.task(), 40 * 4 * 1002 + 80 * 8
    made = PreparedSet([*large, *small], order, AsItIs(task), None, torch.device("cpu"), 1.1 * size)
    assert (made.home, made.bytes) == ("cpu", size)
    assert [group.values for group in made.groups] == [1000, 2]
    for group in made.groups:
        (points,), numbers = group.kept
        np.testing.assert_array_equal(numbers, order[group.places] % 40)
        np.testing.assert_array_equal(points[:, 0], numbers)


def test_another_error_of_the_model_is_no_lack_of_memory(mri_task):
    task = mri_task()

    class Broken(RunsOut):
        def forward(self, *inputs):
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="do not fit"):
        Evaluator(replace(task, model=Broken(task.model))).measures(None)


def test_other_model_data_or_mask_are_noticed(mri_task):
    evaluator = Evaluator(mri_task())
    assert evaluator.fits(mri_task())
    assert not evaluator.fits(mri_task(seed=1))
    assert not evaluator.fits(mri_task(mask=MaskSection(acceleration=8)))
    assert not evaluator.fits(replace(mri_task(), retain=mri_task().forget))
    task = mri_task()
    task.model.net.cascades[0].dc_weight.data.fill_(0.3)  # in place, after the task was made
    assert not evaluator.fits(task)


def test_output_that_is_not_finite_is_found_and_named(mri_task):
    task = mri_task()
    params = {name: value * np.nan for name, value in task.params.items()}
    found = Evaluator(task).start(params)
    found.extend("retain", 2)
    assert found.broken == ["retain"]


def test_what_it_costs_is_added_up(mri_task):
    evaluator = Evaluator(mri_task())
    evaluator.measures(None)
    assert evaluator.account.slices == evaluator.slices == 16
    assert all(evaluator.account.seconds[phase] > 0 for phase in ("reconstruct", "score", "io"))


def test_measures_that_are_known_are_not_taken_again(mri_task):
    task = mri_task()
    plain, known, measured = evaluate(task), Evaluator(task), Evaluator(task).untouched()
    known.recall(plain.values)
    same(known.untouched().measures(), plain, 0)
    for name in task.scored_sets:
        np.testing.assert_allclose(known.untouched().quality(name), measured.quality(name), atol=1e-5)
    assert known.account.slices == 0
