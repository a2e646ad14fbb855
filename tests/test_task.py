"""Task, its batches and its identity, on something that is not MRI."""

from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ssdtune.errors import DataError
from ssdtune.objective.evaluation import evaluate
from ssdtune.task import Task, batches, fingerprint, sample_ids, stream


def accuracy(output, target):
    return (output.argmax(-1) == target).float()


def samples(count, seed=0, label=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(4, generator=generator), torch.tensor(label)) for _ in range(count)]


def make_task(**changes):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    settings = {"retain": samples(9, 1), "forget": samples(5, 2, 1), **changes}
    return Task(model=model, loss=cross_entropy, quality=accuracy, **settings)


def test_the_model_given_is_kept_apart():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout()).train()
    task = Task(model=model, loss=cross_entropy, retain=samples(1), forget=samples(1), quality=accuracy)
    assert model.training
    assert model[0].weight.requires_grad
    assert not task.model.training
    assert task.params["0.weight"].data_ptr() != model[0].weight.data_ptr()


@pytest.mark.parametrize("label", ["retain", "forget"])
def test_an_empty_set_is_refused(label):
    with pytest.raises(DataError, match=f"the {label} set is empty"):
        make_task(**{label: []})


def test_batches_group_neighbours_of_one_shape_and_keep_order():
    mixed = [(torch.zeros(size), torch.tensor(index)) for index, size in enumerate([2, 2, 2, 3, 3, 2])]
    found = [(batch.indices, tuple(batch.inputs[0].shape)) for batch in batches(mixed, 2)]
    assert found == [([0, 1], (2, 2)), ([2], (1, 2)), ([3, 4], (2, 3)), ([5], (1, 2))]


def test_identity_moves_with_model_data_and_loss_only():
    base = make_task().identity
    assert make_task().identity == base
    assert make_task(forget=samples(5, 3, 1)).identity["data.forget"] != base["data.forget"]
    assert make_task(loss_name="other").identity["loss"] != base["loss"]
    assert make_task(retain=samples(9, 1)[::-1]).identity["data.retain"] != base["data.retain"]


def test_own_ids_and_fingerprint_are_used():
    class Named(list):
        ids = ("a", "b")

        def fingerprint(self):
            return "f"

    assert sample_ids(Named([0, 0])) == ["a", "b"]
    assert sample_ids(samples(2)) == ["0", "1"]
    assert fingerprint(Named()) == "f"


def test_predict_with_other_parameters_leaves_the_model_alone():
    task = make_task()
    inputs = (torch.ones(2, 4),)
    before = task.predict(None, inputs)
    zero = {name: torch.zeros_like(value) for name, value in task.params.items()}
    assert not torch.allclose(task.predict(zero, inputs), before, atol=1e-3)
    torch.testing.assert_close(task.predict(None, inputs), before)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluate_covers_every_scored_set_whatever_the_batch(batch_size):
    task = make_task(evaluation={"retain": samples(7, 4), "unknown": samples(3, 5)})
    measures = evaluate(task, batch_size=batch_size)
    assert {name: column["quality"].shape for name, column in measures.values.items()} == {
        "retain": (7,),
        "forget": (5,),
        "unknown": (3,),
    }
    assert measures.summary() == pytest.approx(evaluate(task, batch_size=2).summary(), rel=1e-5)
    assert measures.finite


def test_a_non_finite_output_is_seen():
    def quality(output, target):
        return output.sum(-1)

    task = Task(model=nn.Linear(4, 3), loss=cross_entropy, retain=samples(2), forget=samples(2), quality=quality)
    broken = {name: value * float("nan") for name, value in task.params.items()}
    measures = evaluate(task, broken)
    assert not measures.finite
    assert measures.quality("retain") != measures.quality("retain")


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_twin_trains_and_the_model_stays_as_it_is(mode):
    task = make_task()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    twin = task.twin(mode)
    x, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2] * 2)
    cross_entropy(twin(x), y).backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    torch.optim.SGD(twin.parameters(), 0.1).step()
    state = task.state(twin)
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert set(task.params) <= set(state)
    moved = {name for name in state if name not in task.params}  # batch normalisation's buffers
    assert moved == ({"1.running_mean", "1.running_var", "1.num_batches_tracked"} if mode == "train" else set())
    torch.testing.assert_close(task.predict(state, (x,)), twin.eval()(x).detach())
    assert not torch.allclose(task.predict(state, (x,)), task.predict(None, (x,)))


def test_a_stream_of_batches_is_seeded_by_names_and_holds_each_sample_once_an_epoch():
    data = [(torch.full((2,), float(number)), torch.tensor(number)) for number in range(7)]
    first = list(islice(stream(data, 3, seed=1), 9))
    epochs = [[i for batch in first[at : at + 3] for i in batch.indices] for at in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert all(batch.target.tolist() == batch.indices for batch in first)
    again, other = (list(islice(stream(data, 3, seed=seed), 3)) for seed in (1, 2))
    assert [batch.indices for batch in again] == [batch.indices for batch in first[:3]]
    assert [batch.indices for batch in other] != [batch.indices for batch in first[:3]]
