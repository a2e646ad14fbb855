"""The spectral update as a method: its formula, its limits, what it costs, and that it forgets."""

from dataclasses import replace

import pytest
import small_task
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.fisher import gather
from ssdtune.objective.baseline import measure_baseline
from ssdtune.objective.evaluation import evaluate
from ssdtune.progress import silent
from ssdtune.studyfile import ScoreSection
from ssdtune.subset import part_of
from ssdtune.task import Task, model_hash
from ssdtune.unlearning.method import UNTOUCHED, run
from ssdtune.unlearning.methods import choose_method

START = {"mu": 0.4, "w_r": 3.6, "eta": 0.035}


def prepared(task, **options):
    chosen = choose_method({"name": "spectral", **options})
    return chosen.method.prepare(task, chosen.options, analyse=pytest.fail, track=silent)


def flat(params):
    return torch.cat([value.flatten() for value in params.values()])


def linear_task():
    generator = torch.Generator().manual_seed(3)

    def samples(number):
        return [(torch.randn(3, generator=generator), torch.randn(2, generator=generator)) for _ in range(number)]

    def loss(output, target):
        return (output - target).square().mean()

    torch.manual_seed(0)
    quality = lambda output, target: -(output - target).square().mean(-1)  # noqa: E731
    return Task(nn.Linear(3, 2), loss, samples(9), samples(5), quality, floor=-9.0)


def rows_of(task, samples):
    def loss(params, inputs, target):
        return task.loss(functional_call(task.model, params, (inputs[None],)), target[None])

    inputs, targets = (torch.stack(part) for part in zip(*samples, strict=True))
    found = vmap(grad(loss), in_dims=(None, 0, 0))(task.params, inputs, targets)
    return torch.cat([value.flatten(1) for value in found.values()], 1).double()


def test_one_step_is_the_explicit_formula():
    task = linear_task()
    forget, retain = (rows_of(task, samples) for samples in (task.forget, task.retain))
    fisher = retain.T @ retain / len(retain)
    largest = torch.linalg.eigvalsh(fisher)[-1]
    damped = fisher + START["mu"] * largest * torch.eye(len(fisher), dtype=torch.float64)
    d = torch.linalg.solve(damped, forget.mean(0) - START["w_r"] * retain.mean(0))
    theta = flat(task.params).double()
    wanted = START["eta"] * theta.norm() * d / d.norm()
    unlearner = prepared(task, steps=1, metric="identity")
    found = flat(run(unlearner, START, 0).params).double() - theta
    assert (found - wanted).norm() < 1e-4 * wanted.norm()
    notes = unlearner.notes(START)
    assert notes["rank_error"] == 0
    assert notes["step_length"] == pytest.approx(float(wanted.norm()), rel=1e-5)
    assert notes["predicted_forget_first"] == pytest.approx(float(forget.mean(0) @ wanted), rel=1e-3)
    assert notes["predicted_retain_second"] == pytest.approx(float((retain @ wanted).square().mean()) / 2, rel=1e-3)


@pytest.mark.parametrize("options", [{"steps": 1}, {"steps": 3}, {"steps": 2, "repair": 2}], ids=str)
def test_a_setting_and_a_seed_decide_the_result_and_the_model_stays(problem, options):
    task, before = problem[0], model_hash(problem[0].model)
    unlearner, setting = prepared(task, **options), START | {"lr": 0.3}
    first, second = (run(unlearner, setting, 1) for _ in range(2))
    assert torch.equal(flat(first.params), flat(second.params)) and first.cost == second.cost
    assert torch.equal(flat(first.params), flat(run(prepared(task, **options), setting, 1).params))
    assert torch.equal(flat(first.params), flat(run(unlearner, setting, 2).params)) == (options["steps"] == 1)
    assert model_hash(task.model) == before and evaluate(task, first.params).finite
    assert unlearner.effect(setting) != UNTOUCHED


def test_a_short_step_leaves_the_model_untouched(problem):
    task = problem[0]
    moved = flat(run(prepared(task, steps=3), START | {"eta": 1e-12}, 0).params) - flat(task.params)
    assert moved.norm() < 1e-6 * flat(task.params).norm()


def test_one_step_costs_no_pass_and_more_cost_their_gradients():
    task = small_task.make_task()
    calls = []
    counting = replace(task, loss=lambda *given: (calls.append(1), task.loss(*given))[1])
    unlearner = prepared(counting, steps=1)
    calls.clear()
    assert run(unlearner, START, 0).cost == 0 and not calls
    assert unlearner.notes(START) and not calls
    assert run(prepared(task, steps=4, batch_size=2), START, 0).cost == 3 * 3 * (2 + 2)


def test_a_repair_follows_the_update(problem):
    task = problem[0]
    first = run(prepared(task, steps=1), START, 0)
    last = run(prepared(task, steps=1, repair=2), START | {"lr": 0.3}, 0)
    assert first.cost == 0 and last.cost == 2 * 3 * 4
    assert not torch.equal(flat(first.params), flat(last.params))


def test_a_trust_region_spends_the_damage_it_is_given():
    task = small_task.make_task()
    unlearner = prepared(task, steps=1, limit="damage", eta=[0.001, 1e6], retain_slices=40)
    inputs, targets = (torch.stack(part) for part in zip(*task.retain, strict=True))
    with torch.no_grad():
        loss = float(task.loss(task.model(inputs), targets))
    for allowed in (0.01, 1.0):
        notes = unlearner.notes({"mu": 0.4, "w_r": 1.0, "damage": allowed})
        spent = notes["predicted_retain_first"] + notes["predicted_retain_second"]
        assert spent == pytest.approx(allowed * loss, rel=1e-3)
    bounded = prepared(task, steps=1, limit="damage", eta=[0.001, 0.01])
    notes = bounded.notes({"mu": 0.4, "w_r": 1.0, "damage": 100.0})
    assert notes["step_length"] == pytest.approx(0.01 * bounded.space.theta_norm)


@pytest.mark.parametrize(
    "options", [{"steps": 1, "metric": "identity"}, {"steps": 8}, {"steps": 1, "repair": 8}], ids=str
)
def test_it_forgets_and_retains(options):
    task = small_task.make_task(oracle=True)
    rule = measure_baseline(task, ScoreSection()).rule
    found = evaluate(task, run(prepared(task, **options), START | {"eta": 0.3, "lr": 1.0}, 0).params)
    score = rule(found.quality("retain"), found.quality("forget"))
    assert score.value > 0.8 and score.retained >= 0.95  # the untouched model has 0.2


def test_a_way_that_leaves_the_numbers_ends_in_nan():
    task = small_task.make_task()
    unlearner = prepared(replace(task, loss=lambda output, target: task.loss(output, target).exp()), steps=3)
    assert flat(run(unlearner, START | {"eta": 1e4}, 0).params).isnan().all()


def test_each_fault_is_one_line(monkeypatch):
    task = small_task.make_task()
    faults = [
        (ConfigError, "take steps = 1", lambda: prepared(task, limit="damage")),
        (ConfigError, "'method.mu'", lambda: prepared(task, mu=[0, 1])),
        (ConfigError, "eta: .* too far apart", lambda: prepared(task, eta=[1e-300, 1e300])),
        (ConfigError, "memory budget|too little", lambda: prepared(task, memory_budget_gib=1e-6)),
        (ModelError, "gradients of the", lambda: prepared(replace(task, loss=lambda *given: task.loss(*given) * 0))),
        (DataError, "not finite", lambda: prepared(replace(task, loss=lambda *given: task.loss(*given) / 0))),
    ]
    for kind, words, cause in faults:
        with pytest.raises(kind, match=words) as caught:
            cause()
        assert len(str(caught.value).splitlines()) == 1

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gather, "SpilledRows", full)
    with pytest.raises(DataError, match=r"no room for .* raise the memory budget"):
        spilled()


def spilled():
    """Of a network whose gradient rows do not fit in the budget."""
    large = replace(small_task.make_task(), model=nn.Sequential(nn.Linear(2, 40_000), nn.Tanh(), nn.Linear(40_000, 3)))
    size = sum(value.numel() for value in large.params.values())
    return prepared(large, steps=1, memory_budget_gib=(2**25 + 62 * size) / 2**30)


def test_the_error_of_a_low_rank_is_recorded():
    unlearner = spilled()
    assert unlearner.metric.rank < unlearner.metric.n
    assert 0 < unlearner.notes(START)["rank_error"] < 1


def test_a_part_of_the_samples_makes_the_metric():
    task = linear_task()
    part, whole = prepared(task, samples=3), prepared(task)
    assert (part.metric.n, whole.metric.n) == (3, 9)
    assert (part.preparation, whole.preparation) == (3 * (3 + 3), 3 * (9 + 5))
    few = replace(task, retain=part_of(task.retain, 3, "retain"), forget=part_of(task.forget, 3, "forget"))
    one, other = (prepared(each, samples=3, steps=1) for each in (task, few))
    torch.testing.assert_close(flat(run(one, START, 0).params), flat(run(other, START, 0).params))
