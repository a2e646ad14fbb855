"""The loop against steps worked out by hand, and its gradients against the stock network's."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.nests import leaves
from ssdtune.objective.evaluation import evaluate
from ssdtune.task import Task
from ssdtune.unlearning import sets
from ssdtune.unlearning.plan import Penalty, Plan, Shrink, Term, TrainingOptions
from ssdtune.unlearning.training import Trainer

X = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
START = torch.tensor([[0.5, -0.25]])


def line(targets=(1.0, -2.0)):
    """y = theta · x, one retain and one forget sample, loss the mean square."""
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(START)
    retain, forget = ([(X[i], torch.tensor([targets[i]]))] for i in (0, 1))
    return Task(model, nn.functional.mse_loss, retain, forget, lambda output, target: output[:, 0])


def trainer(task, **options):
    return Trainer(task, TrainingOptions(**{"clip": 1e9, "decay": False} | options), sets=("retain", "forget"))


def gradient(i, theta=START):
    """Of (theta · x - y)²."""
    return 2 * (theta @ X[i] - (1.0, -2.0)[i]) * X[i]


def test_steps_are_those_of_adam():
    """Kingma & Ba (2015), algorithm 1."""
    mu, rate = 0.7, 0.05
    theta = START
    first = second = torch.zeros_like(theta)
    for step in (1, 2):
        g = gradient(0, theta) - mu * gradient(1, theta)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        theta = theta - rate * first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    found = trainer(line()).train(Plan(2, rate, (Term("retain"), Term("forget", -mu))), 0)
    assert torch.allclose(found.params["weight"], theta, atol=1e-6)
    assert found.cost == 2 * 3 * 2


def test_the_penalty_is_a_proximal_step():
    rate, beta, o, anchor = 0.05, 3.0, torch.tensor([0.0, 2.0]), torch.tensor([4.0, 5.0])
    moved = START - rate * gradient(0).sign()
    expected = (moved + rate * beta * o * anchor) / (1 + rate * beta * o)
    found = trainer(line()).train(Plan(1, rate, penalty=Penalty(o, anchor, beta)), 0)
    assert torch.allclose(found.params["weight"], expected, atol=1e-6)


def test_the_norm_is_a_soft_threshold_and_does_not_hang_on_the_gradients_size():
    rate, gamma = 0.05, 3.0
    for size in (1.0, 1e6):
        task = line()
        scaled = Task(
            task.model,
            lambda o, t, size=size: size * nn.functional.mse_loss(o, t),
            task.retain,
            task.forget,
            task.quality,
        )
        found = trainer(scaled).train(Plan(1, rate, penalty=Shrink(gamma)), 0).params["weight"]
        moved = START - rate * gradient(0).sign()
        assert torch.allclose(found, moved.sign() * (moved.abs() - rate * gamma).clamp(min=0), atol=1e-5)


def test_a_term_counts_at_its_steps_only_and_is_billed_for_those():
    late = Term("forget", -0.7, when=lambda step: step == 1)
    found = trainer(line()).train(Plan(2, 0.05, (Term("retain"), late)), 0)
    one = trainer(line()).train(Plan(1, 0.05), 0)
    assert found.cost == one.cost * 3
    first = trainer(line()).train(Plan(2, 0.05, (Term("retain"), Term("forget", -0.7, when=lambda step: False))), 0)
    assert torch.equal(first.params["weight"], trainer(line()).train(Plan(2, 0.05), 0).params["weight"])
    assert not torch.equal(first.params["weight"], found.params["weight"])


def test_a_mask_takes_a_share_of_the_step():
    whole = trainer(line()).train(Plan(1, 0.05), 0).params["weight"] - START
    part = trainer(line()).train(Plan(1, 0.05, mask=torch.tensor([1.0, 0.1])), 0).params["weight"] - START
    assert torch.allclose(part, whole * torch.tensor([1.0, 0.1]), atol=1e-7)


def test_a_mask_holds_the_step_and_its_momentum():
    free = trainer(line()).train(Plan(5, 0.05), 0).params["weight"]
    held = trainer(line()).train(Plan(5, 0.05, mask=torch.tensor([True, False])), 0).params["weight"]
    assert held[0, 1] == START[0, 1] and held[0, 0] != START[0, 0] and free[0, 1] != START[0, 1]


def test_above_the_cap_the_forget_loss_pulls_no_longer():
    loss = float((START @ X[1] + 2.0) ** 2)
    free, above, below = (
        trainer(line()).train(Plan(3, 0.05, (Term("retain", w), Term("forget", -1.0, cap=cap))), 0).params["weight"]
        for w, cap in ((0.0, math.inf), (1.0, loss / 2), (0.0, loss / 2))
    )
    assert torch.equal(above, trainer(line()).train(Plan(3, 0.05), 0).params["weight"])
    assert torch.equal(below, START) and not torch.equal(free, START)


def test_the_gradient_is_clipped_and_the_rate_falls():
    wild = trainer(line(), clip=1e-12).train(Plan(1, 0.05), 0).params["weight"]
    assert (wild - START).abs().max() < 1e-4  # Adam's own 1e-8 then outweighs it
    falling, constant = (
        trainer(line(), decay=decay).train(Plan(8, 1e-4), 0).params["weight"] for decay in (True, False)
    )
    lengths = [float((end - START).abs().max()) for end in (falling, constant)]
    assert lengths[0] == pytest.approx(lengths[1] * (0.5 + 0.5 / 8), rel=0.01)


def test_a_loss_that_is_not_finite_ends_it_and_no_output_is_finite_then():
    task = line()
    log = Task(task.model, lambda output, target: output.log().mean(), task.forget, task.retain, task.quality)
    found = Trainer(log, TrainingOptions(decay=False)).train(Plan(9, 100.0), 0)  # the first step leaves log's domain
    assert found.cost == 2 * 3 and found.params["weight"].isnan().all()
    measures = evaluate(log, found.params)
    assert not any(math.isfinite(measures.quality(name)) for name in ("retain", "forget"))


@pytest.mark.parametrize("penalty", [Penalty(torch.tensor([0.0, 2.0]), torch.ones(2), 1e290), Shrink(1e290), None])
@pytest.mark.parametrize("rate", [1e-3, 1e300])
def test_no_setting_is_too_large(penalty, rate):
    found = trainer(line()).train(Plan(3, rate, penalty=penalty), 0).params["weight"]
    assert found.isfinite().all() or found.isnan().all()
    if rate < 1 and isinstance(penalty, Penalty):
        assert found[0, 1] == 1 and abs(found[0, 0] - START[0, 0]) < 0.01
    if rate < 1 and isinstance(penalty, Shrink):
        assert not found.any()


def test_one_line_says_that_parameters_are_not_of_one_floating_point_type():
    task = line()
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1).double())
    mixed = Task(model, task.loss, task.retain, task.forget, task.quality)
    with pytest.raises(ModelError, match=r"lacks parameters of one floating-point type \(they are float32 and float64"):
        Trainer(mixed, TrainingOptions())


def test_a_fraction_of_the_retain_set_is_drawn_from():
    task = with_layer(nn.Identity())
    assert Trainer(task, TrainingOptions(retain_fraction=0.5)).slices("retain") == 4
    assert Trainer(task, TrainingOptions(retain_fraction=0.5, retain_slices=2)).slices("retain") == 2
    with pytest.raises(DataError, match="leaves none"):
        Trainer(task, TrainingOptions(retain_fraction=0.1))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_slice_left_over_joins_the_batch_before_it_where_statistics_move(size):
    task = with_layer(nn.BatchNorm1d(4), count=9)
    if size == 1:
        with pytest.raises(ConfigError, match=r"batches of one slice have no running statistics.*method.mode"):
            Trainer(task, TrainingOptions(mode="train", batch_size=size))
        return
    made = Trainer(task, TrainingOptions(mode="train", batch_size=size))
    sizes = [batch.slices for batch in made.in_order("retain")]
    assert min(sizes) > 1 and sum(sizes) == 9
    assert made.train(Plan(12, 1e-3), 0).params["0.weight"].isfinite().all()


def with_layer(layer, count=8):
    torch.manual_seed(0)
    samples = [(torch.randn(3), torch.tensor(i % 2)) for i in range(count)]
    model = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 2))
    return Task(model, nn.functional.cross_entropy, samples, samples[:2], lambda output, target: output[:, 0])


def test_running_statistics_move_in_train_mode_only():
    task = with_layer(nn.BatchNorm1d(4))
    for mode, moved in (("eval", False), ("train", True)):
        params = Trainer(task, TrainingOptions(mode=mode)).train(Plan(2, 1e-3), 0).params
        assert ("1.running_mean" in params) == moved


def test_running_statistics_go_on_from_the_start():
    made = Trainer(with_layer(nn.BatchNorm1d(4)), TrainingOptions(mode="train"))
    start = made.train(Plan(2, 1e-3), 0).params
    assert made.train(Plan(1, 1e-3), 0, start).params["1.num_batches_tracked"] == 3


def test_looks_are_billed(problem):
    task = problem[0]
    made = Trainer(task, TrainingOptions(), held_back=3)
    plain, looking = (made.train(Plan(5, 1e-9, stop_early=look), 0).cost for look in (False, True))
    assert looking == plain + 3


def test_running_statistics_do_not_move_by_a_look():
    made = Trainer(with_layer(nn.BatchNorm1d(4)), TrainingOptions(mode="train"), held_back=4)
    with_look, without = (made.train(Plan(5, 1e-9, stop_early=look), 0).params for look in (True, False))
    assert torch.equal(with_look["1.running_mean"], without["1.running_mean"])


def test_what_layers_draw_follows_from_the_seed_and_leaves_other_draws_alone():
    made = Trainer(with_layer(nn.Dropout(0.5)), TrainingOptions(mode="train"))
    before = torch.random.get_rng_state()
    first, again, other = (made.train(Plan(3, 1e-2), seed).params["0.weight"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_losses_that_a_method_prepares_with_are_in_float32():
    seen = []

    def loss(output, target):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return nn.functional.mse_loss(output, target)

    task = line()
    made = Trainer(Task(task.model, loss, task.retain, task.forget, task.quality), TrainingOptions())
    seen.clear()
    made.mean_loss("retain", task.model)
    assert seen == ["ieee"]


def test_every_slice_is_trained_on_once_an_epoch_and_no_more_than_asked_for():
    samples = [(torch.full((2,), float(i)), torch.zeros(1)) for i in range(10)]
    task = Task(nn.Linear(2, 1), nn.functional.mse_loss, samples, samples[:1], lambda output, target: output[:, 0])
    made = Trainer(task, TrainingOptions(retain_slices=6, batch_size=2), held_back=3)
    stream = made.stream("retain", 0)
    epochs = [sorted(float(v) for _ in range(3) for v in next(stream).inputs[0][:, 0]) for _ in range(2)]
    held = {float(v) for batch in made.in_order("held back") for v in batch.inputs[0][:, 0]}
    assert epochs[0] == epochs[1] and len(set(epochs[0])) == 6
    assert len(held) == 3 and not held & set(epochs[0])


def test_gradients_of_the_quick_network_agree_with_the_stock_one(problem):
    task = problem[0]
    trainer, twin = Trainer(task, TrainingOptions()), task.twin()
    if trainer.network is None:
        pytest.skip("no quick form")
    for index in range(len(task.retain)):
        inputs, target = task.retain[index]
        batch = {name: value[None] for name, value in target.items()}
        literal = torch.autograd.grad(task.loss(twin(*(value[None] for value in inputs)), batch), twin.parameters())
        (prepared,) = trainer._open(task.retain, [index]).in_order()
        found = torch.autograd.grad(trainer.loss(twin, prepared), list(twin.parameters()))
        for ours, theirs in zip(found, literal, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("most", [0.0, 1e9])
def test_a_set_that_is_too_large_to_keep_gives_the_same_batches_and_is_read_as_it_goes(any_task, monkeypatch, most):
    class Counted:
        """Samples that count how often they are read."""

        def __init__(self, samples):
            self.samples, self.ids, self.reads = samples, [str(i) for i in range(len(samples))], 0

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, index):
            self.reads += 1
            return self.samples[index]

    task = dataclasses.replace(any_task, retain=Counted(any_task.retain))
    kept = trainer(task, retain_slices="all")
    monkeypatch.setattr(sets, "MOST_KEPT", most)
    other = trainer(task, retain_slices="all")
    before = task.retain.reads
    for one, two in zip(kept.in_order("retain"), other.in_order("retain"), strict=True):
        assert torch.equal(one.rows, two.rows) and one.group == two.group
        for mine, theirs in zip(leaves([one.inputs, one.target]), leaves([two.inputs, two.target]), strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-7)
    assert task.retain.reads - before == (0 if most else len(task.retain))
    assert not other._sets["retain"]._groups or most
    results = [each.train(Plan(3, 1e-3), 0).params for each in (kept, other)]
    assert all(torch.allclose(results[0][name], results[1][name], rtol=1e-3, atol=1e-5) for name in results[0])
