"""Spectra: identities with the dense Fisher matrix, the same from rows in memory and on disk."""

import numpy as np
import pytest
import torch

from ssdtune.errors import ConfigError, DataError
from ssdtune.fisher.gather import gather
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.gram import gram_by_group, gram_matrix
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.memory import MemoryPlan, plan_memory
from ssdtune.fisher.rows import MemoryRows, SpilledRows
from ssdtune.fisher.spectrum import spectrum_of_gram
from ssdtune.fisher.units import Units
from ssdtune.progress import silent


def memory_rows(values):
    rows = MemoryRows(*values.shape)
    rows.append(torch.from_numpy(values))
    return rows


def random_rows(n=12, size=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32) * np.geomspace(1, 30, size, dtype="f4")


def spectrum_of(values):
    return spectrum_of_gram(gram_matrix([memory_rows(values)]))


def every_kind(task, samples, folder):
    """The same gradients in memory and on disk."""
    engine, units = GradientEngine(task), Units(samples)
    parameters = engine.layout.parameters
    held = MemoryRows(len(samples), parameters)
    spilled = SpilledRows(len(samples), parameters, "cpu", folder, work=3 * 4 * parameters)
    for block in engine.stream(units):
        held.append(block.rows)
        spilled.append(block.rows)
    return held, spilled


def test_the_gram_spectrum_is_that_of_the_dense_fisher_matrix():
    rows = random_rows()
    exact = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(exact.T @ exact / len(rows))
    found = spectrum_of(rows)
    np.testing.assert_allclose(found.eigenvalues, values[::-1][: len(rows)], rtol=1e-10)
    unit = (exact.T @ found.vectors[:, :5]) / np.sqrt(len(rows) * found.eigenvalues[:5])
    np.testing.assert_allclose(np.abs(np.sum(unit * vectors[:, ::-1][:, :5], axis=0)), 1, rtol=1e-5)


def test_eigenvalues_sum_to_the_trace_the_diagonal_and_the_mean_squared_norm(make):
    task = make.perceptron(retain=30)
    plan = plan_memory(100, (30,), 1e9)
    found = gather(GradientEngine(task), Units(task.retain), np.arange(30), plan, True, "retain", silent)
    total = spectrum_of_gram(gram_matrix([found.rows])).eigenvalues.sum()
    assert total == pytest.approx(found.trace, rel=1e-10)
    assert total == pytest.approx(found.squared_norms.mean(), rel=1e-10)
    assert total == pytest.approx(found.diagonal.sum(dtype=np.float64), rel=1e-6)


def test_order_and_repetition_of_samples_do_not_matter_and_scale_is_squared():
    rows = random_rows()
    wanted = spectrum_of(rows).eigenvalues
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_allclose(spectrum_of(rows[order]).eigenvalues, wanted, rtol=1e-10)
    twice = spectrum_of(np.concatenate([rows, rows])).eigenvalues
    np.testing.assert_allclose(twice[:12], wanted, rtol=1e-10)
    np.testing.assert_allclose(twice[12:], 0, atol=1e-10 * wanted[0])
    np.testing.assert_allclose(spectrum_of(4 * rows).eigenvalues, 16 * wanted, rtol=1e-10)


def test_scaling_the_loss_scales_eigenvalues_by_its_square(make):
    def eigenvalues(scale):
        task = make.perceptron(scale=scale)
        return spectrum_of_gram(gram_matrix([every_kind(task, task.forget, None)[0]])).eigenvalues

    np.testing.assert_allclose(eigenvalues(0.25), eigenvalues(1.0) / 16, rtol=1e-5)


def test_degenerate_rows_have_a_finite_spectrum():
    for rows in (np.zeros((4, 9), "f4"), random_rows(1), np.repeat(random_rows(1), 5, axis=0)):
        found = spectrum_of(rows)
        assert np.all(np.isfinite(found.eigenvalues)) and np.all(np.isfinite(found.vectors))


def test_rows_in_memory_and_on_disk_are_the_same(make, tmp_path):
    task = make.perceptron(retain=20, hidden=300)
    held, spilled = every_kind(task, task.retain, tmp_path)
    assert not list(tmp_path.iterdir())  # the temporary file has no name
    wanted = gram_matrix([held])
    assert spilled.width < spilled.parameters  # so that several views are put together
    assert torch.equal(spilled.columns(slice(5, 900)), held.columns(slice(5, 900)))
    assert torch.equal(torch.cat([block.clone() for _, block in spilled.blocks()]), held.values)
    np.testing.assert_allclose(gram_matrix([spilled]), wanted, rtol=1e-12)
    both = gram_matrix([held, spilled])
    np.testing.assert_allclose(both[:20, 20:], wanted, rtol=1e-12)


@pytest.mark.parametrize(("keep", "kind"), [(True, "memory"), (False, "disk")])
def test_rows_go_where_the_plan_says(make, keep, kind):
    task = make.perceptron(retain=20, hidden=300)
    kept = np.array([0, 3, 4, 11, 19])
    plan = MemoryPlan((keep,), workspace=1e7, view=1e5)
    found = gather(GradientEngine(task), Units(task.retain), kept, plan, keep, "retain", silent)
    assert found.rows.kind == kind and len(found.rows) == found.n == 5
    rows = torch.cat([block.clone() for _, block in found.rows.blocks()]).numpy()
    np.testing.assert_allclose(rows, make.gradients(task, task.retain)[kept], rtol=1e-3, atol=1e-5)
    assert len(found.losses) == 20


def test_without_room_in_memory_or_on_the_disk_it_is_one_line(make, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    task = make.perceptron()
    plan = MemoryPlan((False,), workspace=1e7, view=1e5)
    with pytest.raises(DataError, match=r"no room for .* GiB of gradients \(No space left.*TMPDIR"):
        gather(GradientEngine(task), Units(task.retain), np.arange(14), plan, False, "retain", silent)


def test_groups_partition_the_spectrum(make):
    task = make.perceptron()
    held = every_kind(task, task.forget, None)[0]
    layout = Layout.of(task.params)
    whole, parts = gram_matrix([held]), dict(gram_by_group([held], layout.groups(layout.layers)))
    assert list(parts) == ["0", "2"]
    np.testing.assert_allclose(sum(parts.values()), whole, rtol=1e-12)
    alternating = layout.groups(["odd", "even", "odd", "even"])
    exact = make.gradients(task, task.forget)
    biases = exact[:, [*range(20, 24), *range(36, 39)]]
    found = dict(gram_by_group([held], alternating))["even"]
    np.testing.assert_allclose(found, biases @ biases.T, rtol=1e-4, atol=1e-8)


def test_the_memory_plan_never_promises_more_than_the_budget():
    for parameters in (10, 1000, 30_000_000):
        for rows in ((16, 16), (512, 512), (20, 0)):
            for factor in (56.0, 60, 100, 1000, 1e5):
                budget = factor * parameters + 2**25
                plan = plan_memory(parameters, rows, budget)
                held = sum(4 * n * parameters for n, kept in zip(rows, plan.kept, strict=True) if kept)
                views = plan.view * (len(rows) - sum(plan.kept))
                assert held + 28 * parameters + plan.workspace + views <= 1.001 * (budget - 2**25)
                assert held + 52 * parameters + plan.view <= 1.001 * (budget - 2**25)
                assert plan.workspace >= 6 * parameters
    assert plan_memory(1000, (10, 10), 1e8).kept == (True, True)
    with pytest.raises(ConfigError, match="give at least"):
        plan_memory(1000, (1, 1), 2**25 + 55_000)
