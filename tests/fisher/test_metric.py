"""Spectral updates: direction, planes, trust region and low rank against dense matrices and literal sums in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssdtune.errors import ConfigError, ModelError
from ssdtune.fisher.metric import EPSILON, relinearised, spectral_metric
from ssdtune.fisher.rows import SpilledRows

MU, WEIGHT = 0.03, 0.7
KINDS = ["identity", "diagonal"]


class Dense:
    """The same as explicit (P, P) matrices. ``rank`` : leading eigenvectors of the scaled Fisher that are kept."""

    def __init__(self, make, task, kind, rank=None):
        self.forget, self.retain = (make.gradients(task, samples) for samples in (task.forget, task.retain))
        fisher, o = self.retain.T @ self.retain / len(self.retain), np.square(self.retain).mean(0)
        d = np.ones_like(o) if kind == "identity" else o + EPSILON * o.mean()
        values, vectors = np.linalg.eigh(fisher / np.sqrt(np.outer(d, d)))
        if rank is not None:
            leading = vectors[:, -rank:] * np.sqrt(values[-rank:])
            fisher = np.sqrt(np.outer(d, d)) * (leading @ leading.T)
        self.fisher, self.d = fisher, d * values[-1]
        self.theta = np.concatenate([value.double().flatten().numpy() for value in task.params.values()])

    def solve(self, vector, mu):
        return np.linalg.solve(self.fisher + mu * np.diag(self.d), vector)

    def direction(self, mu, weight):
        return self.solve(self.forget.mean(0) - weight * self.retain.mean(0), mu)

    def damage(self, mu, eta, weight):
        d = self.direction(mu, weight)
        delta = eta * np.linalg.norm(self.theta) * d / np.linalg.norm(d)
        first = {"forget_first": self.forget.mean(0) @ delta, "retain_first": self.retain.mean(0) @ delta}
        second = {"forget_second": self.forget @ delta, "retain_second": self.retain @ delta}
        return first | {name: 0.5 * np.mean(value**2) for name, value in second.items()}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def task(make):
    return make.perceptron(retain=10, forget=6)


def close(found, wanted, tolerance=1e-4):
    found, wanted = np.asarray(found, float), np.asarray(wanted)
    assert np.linalg.norm(found - wanted) <= tolerance * np.linalg.norm(wanted)


def test_direction_and_apply_solve_the_dense_system(make, task, kind):
    metric, space = spectral_metric(task, kind)
    dense = Dense(make, task, kind)
    vector = torch.randn(len(dense.theta), dtype=torch.float64)
    for mu in (1e-3, MU, 10.0):
        close(metric.direction(space, mu, WEIGHT), dense.direction(mu, WEIGHT), 1e-3)
        close(metric.apply(vector, mu), dense.solve(vector.numpy(), mu))


def test_a_varnet_as_well(make, varnet_task, kind):
    metric, space = spectral_metric(varnet_task, kind)
    d = metric.direction(space, MU, WEIGHT).double().numpy()
    forget, retain = (make.gradients(varnet_task, samples) for samples in (varnet_task.forget, varnet_task.retain))
    o = np.square(retain).mean(0)
    scale = np.ones_like(o) if kind == "identity" else o + EPSILON * o.mean()
    system = retain.T @ (retain @ d) / len(retain) + MU * metric.largest * scale * d
    close(system, forget.mean(0) - WEIGHT * retain.mean(0), 1e-3)


def test_the_largest_eigenvalue_is_one_in_every_metric(task, kind):
    metric, space = spectral_metric(task, kind)
    assert metric.eigenvalues[0] == pytest.approx(1)
    np.testing.assert_allclose(space.weighted, space.weighted.T)


def test_planes_are_the_literal_sums(make, task, kind):
    _, space = spectral_metric(task, kind)
    dense, mus, etas = Dense(make, task, kind), np.array([1e-2, 1.0, 30.0]), np.array([1e-3, 0.1])
    plane = space.plane(mus, etas, WEIGHT)
    for i, mu in enumerate(mus):
        for k, eta in enumerate(etas):
            for name, wanted in dense.damage(mu, eta, WEIGHT).items():
                assert getattr(plane, name)[i, k] == pytest.approx(wanted, rel=1e-3), name


def test_a_large_mu_gives_the_gradient(make, task):
    dense = Dense(make, task, "identity")
    for kind, wanted in (("identity", 1.0), ("diagonal", Dense(make, task, "diagonal").d)):
        metric, space = spectral_metric(task, kind)
        found = metric.direction(space, 1e6, 0.0).double().numpy()
        gradient = dense.forget.mean(0) / wanted
        close(found / np.linalg.norm(found), gradient / np.linalg.norm(gradient))


@pytest.mark.parametrize("weight", [0.0, 30.0])  # the retain loss rises, and falls, at first
def test_the_trust_region_spends_what_it_may(make, task, kind, weight):
    _, space = spectral_metric(task, kind)
    first = space.plane([MU], [1e-3], weight).retain_first
    assert (first < 0).all() == (weight > 0)
    eta = space.eta_that_costs(0.02, [MU], weight)[0]
    damage = Dense(make, task, kind).damage(MU, eta, weight)
    assert damage["retain_first"] + damage["retain_second"] == pytest.approx(0.02, rel=1e-3)


def test_low_rank_is_the_truncated_fisher(make, task, kind):
    metric, space = spectral_metric(task, kind)
    full, part = Dense(make, task, kind), Dense(make, task, kind, rank=3)
    reduced, seen = metric.reduced(3), replace(space, rank=3)
    vector = torch.randn(len(full.theta), dtype=torch.float64)
    close(reduced.apply(vector, MU), part.solve(vector.numpy(), MU))
    d = part.direction(MU, WEIGHT)
    close(reduced.direction(seen, MU, WEIGHT), d)
    for name, wanted in part.damage(MU, 0.1, WEIGHT).items():
        assert getattr(seen.plane([MU], [0.1], WEIGHT), name)[0, 0] == pytest.approx(wanted, rel=1e-3), name
    missed, error = space.rank_error(3, [MU], WEIGHT)
    assert missed == pytest.approx(1 - metric.eigenvalues[:3].sum() / metric.eigenvalues.sum())
    wanted = full.direction(MU, WEIGHT)
    assert error[0] == pytest.approx(np.linalg.norm(d - wanted) / np.linalg.norm(wanted), rel=1e-3)
    assert space.rank_error(10, [MU], WEIGHT)[1][0] == 0


def test_low_rank_with_all_pairs_is_the_full_form(task, kind):
    metric, space = spectral_metric(task, kind)
    every = metric.reduced(metric.rank)
    close(every.direction(space, MU, WEIGHT), metric.direction(space, MU, WEIGHT).numpy(), 1e-4)


def test_rows_on_disk_give_the_same(task, kind, tmp_path):
    metric, space = spectral_metric(task, kind)
    spilled = SpilledRows(len(metric.rows), metric.rows.parameters, "cpu", tmp_path, 4e3)
    spilled.append(metric.rows.values)
    other = replace(metric, rows=spilled)
    close(other.direction(space, MU, WEIGHT), metric.direction(space, MU, WEIGHT), 1e-6)
    vector = torch.randn(metric.rows.parameters)
    close(other.reduced(4).apply(vector, MU), metric.reduced(4).apply(vector, MU), 1e-6)


def test_what_does_not_fit_is_reduced_to_what_does(make):
    task = make.perceptron(retain=12, forget=4, hidden=40_000)
    size = sum(value.numel() for value in task.params.values())
    whole, all_of_it = spectral_metric(task, "identity")
    metric, space = spectral_metric(task, "identity", memory_budget=2.0**25 + 62 * size)
    assert 0 < metric.rank < 12 and space.rank == metric.rank and metric.rows.kind == "memory"
    _, error = all_of_it.rank_error(metric.rank, [MU], WEIGHT)
    wanted = whole.direction(all_of_it, MU, WEIGHT)
    found = (metric.direction(space, MU, WEIGHT) - wanted).norm() / wanted.norm()
    assert float(found) == pytest.approx(error[0], rel=1e-2, abs=1e-5)


def test_means_are_of_all_samples_whatever_rows_are_kept(make, task, kind):
    metric, space = spectral_metric(task, kind, most=4)
    dense = Dense(make, task, kind)
    close(metric.means, np.stack([dense.forget.mean(0), dense.retain.mean(0)]))
    d = metric.direction(space, MU, WEIGHT).double().numpy()
    plane = space.plane([MU], [1.0], WEIGHT)
    step = d * np.linalg.norm(dense.theta) / np.linalg.norm(d)
    assert plane.forget_first[0, 0] == pytest.approx(dense.forget.mean(0) @ step, rel=1e-3)


def test_relinearised_steps(make, task, kind):
    metric, space = spectral_metric(task, kind)
    dense = Dense(make, task, kind)
    theta = torch.from_numpy(dense.theta)
    gradient = torch.from_numpy(dense.forget.mean(0) - WEIGHT * dense.retain.mean(0))
    d = metric.direction(space, MU, WEIGHT).double()
    once = relinearised(theta, d, pytest.fail, metric, mu=MU, eta=0.1, steps=1)
    close(once - theta, 0.1 * theta.norm() * d / d.norm())
    seen = []

    def ascent(at):
        seen.append(at)
        return gradient * len(seen) - at  # another direction at each place

    found, wanted = relinearised(theta, d, ascent, metric, mu=MU, eta=0.1, steps=3), dense.theta
    for step in range(3):
        turned = dense.solve(gradient.numpy() * step - wanted, MU) if step else d.numpy()
        wanted = wanted + 0.1 * np.linalg.norm(dense.theta) / np.sqrt(3) * turned / np.linalg.norm(turned)
    close(found.numpy() - dense.theta, wanted - dense.theta)
    assert len(seen) == 2


def test_a_way_ends_where_its_direction_vanishes_or_is_not_finite(task):
    metric, space = spectral_metric(task)
    d = metric.direction(space, MU, WEIGHT)
    theta, how = torch.ones_like(d), {"mu": MU, "eta": 0.1}
    once = relinearised(theta, d, pytest.fail, metric, steps=1, **how)
    stayed = relinearised(theta, d, torch.zeros_like, metric, steps=4, **how)
    close((stayed - theta).norm() * 2, (once - theta).norm())
    assert relinearised(theta, d, lambda at: at * np.nan, metric, steps=4, **how).isnan().all()


def test_wrong_input_is_one_line(make, task):
    metric, space = spectral_metric(task)
    with pytest.raises(ConfigError, match="mu must be positive"):
        space.plane([0.0], [0.1])
    with pytest.raises(ConfigError, match="mu must be positive"):
        metric.apply(metric.means[0], -1.0)
    with pytest.raises(ConfigError, match="retain weight"):
        space.plane([1.0], [0.1], -1.0)
    with pytest.raises(ConfigError, match="metric must be"):
        spectral_metric(task, "euclidean")
    with pytest.raises(ModelError, match="gradients of the retain set are zero"):
        spectral_metric(make.perceptron(scale=0.0))
