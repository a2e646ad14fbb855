"""``ssdtune.analyse`` from end to end: it says what plain gradients say; it is kept, and refused, as it should be."""

import copy
import warnings

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import ssdtune
from ssdtune.dampening import dampen
from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.fisher.analysis import FisherWarning, analyse
from ssdtune.fisher.features import FEATURES
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.task import Task

pytestmark = pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")


@pytest.fixture(scope="module")
def task(make):
    return make.perceptron(retain=30, forget=12)


@pytest.fixture(scope="module")
def analysis(task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FisherWarning)
        return analyse(task, groups="layer")


def same(one, other):
    """Whether two analyses hold the same, bit for bit, and say the same, to the rounding of float64 sums."""
    assert one.features() == pytest.approx(other.features(), rel=1e-6)
    assert one.intervals == other.intervals and list(one.warnings) == list(other.warnings)
    for a, b in ((one.forget, other.forget), (one.retain, other.retain)):
        for name in ("kept", "diagonal", "mean", "losses", "squared_norms", "embeddings", "gram"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert np.array_equal(a.spectrum.eigenvalues, b.spectrum.eigenvalues)
        assert list(a.ids) == list(b.ids) and a.groups.keys() == b.groups.keys()
    assert one.layout == other.layout and np.array_equal(one.theta, other.theta)
    assert np.array_equal(one.denominator_diagonal, other.denominator_diagonal)
    assert np.array_equal(one.cross, other.cross)
    mine, theirs = one.damage([1.0, 3.0], 0.7).as_dict(), other.damage([1.0, 3.0], 0.7).as_dict()
    for name in mine:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-9, err_msg=name)


def test_it_is_public():
    assert ssdtune.analyse is analyse and ssdtune.FisherAnalysis is FisherAnalysis


def test_everything_follows_from_the_gradients(task, analysis, make):
    forget, retain = make.gradients(task, task.forget), make.gradients(task, task.retain)
    np.testing.assert_allclose(analysis.forget.diagonal, (forget**2).mean(0), rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(analysis.retain.diagonal, (retain**2).mean(0), rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(analysis.forget.mean, forget.mean(0), rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(analysis.cross, forget @ retain.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(analysis.retain.gram, retain @ retain.T, rtol=1e-4, atol=1e-6)
    assert analysis.forget.spectrum.eigenvalues.sum() == pytest.approx(analysis.forget.trace, rel=1e-10)
    assert len(analysis.retain.spectrum.vectors) == 30
    np.testing.assert_allclose(analysis.theta, np.concatenate([p.reshape(-1) for p in task.params.values()]))
    assert list(analysis.forget.ids) == [str(i) for i in range(12)]
    assert list(analysis.features()) == list(FEATURES)
    # eigenvalues of the layers add up to the trace
    assert sum(v.sum() for v in analysis.forget.groups.values()) == pytest.approx(analysis.forget.trace, rel=1e-10)


def test_damage_is_that_of_the_dampening_itself(task, analysis, make):
    forget, retain = make.gradients(task, task.forget), make.gradients(task, task.retain)
    for rho, kappa in ((0.05, 0.3), (0.3, 1.0), (0.9, 0.01)):
        alpha = analysis.alpha_at(rho)
        after = analysis.dampen(alpha, kappa * alpha)
        delta = np.concatenate([(after[name] - value).double().reshape(-1) for name, value in task.params.items()])
        found = analysis.damage(alpha, kappa * alpha)
        assert found.selected_fraction == analysis.selected_fraction(alpha)
        assert found.forget_full == pytest.approx(0.5 * ((forget @ delta) ** 2).mean(), rel=1e-3)
        assert found.retain_diagonal == pytest.approx(0.5 * (retain**2).mean(0) @ delta**2, rel=1e-3)
        assert found.retain_first == pytest.approx(retain.mean(0) @ delta, rel=1e-3, abs=1e-6)
        assert found.relative_change == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(analysis.theta), rel=1e-3)


def test_dampen_is_the_ssd_rule_on_the_models_own_parameters(task, analysis):
    f, o = (analysis.unflatten(torch.from_numpy(d)) for d in (analysis.forget.diagonal, analysis.denominator_diagonal))
    wanted = dampen(task.params, f, o, 1.5, 0.5, 2.0)
    found = analysis.dampen(1.5, 0.5, 2.0)
    assert list(found) == list(task.params)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_float64_parameters_are_kept_exactly(varnet_task):
    analysis = analyse(varnet_task)
    untouched = analysis.dampen(1e30, 1.0)
    assert all(torch.equal(untouched[name], value) for name, value in varnet_task.params.items())
    assert 0 < analysis.features()["depth_sensitivity"] < 1
    assert analysis.features()["log10_entanglement"] != 0


def test_alpha_and_selected_fraction_take_numbers_and_arrays(analysis):
    assert isinstance(analysis.alpha_at(0.1), float) and isinstance(analysis.selected_fraction(2.0), float)
    rho = analysis.selected_fraction(np.array([0.1, 1.0, 10.0]))
    np.testing.assert_array_equal(analysis.selected_fraction(analysis.alpha_at(rho)), rho)


def test_a_tight_memory_budget_changes_nothing(make):
    task = make.perceptron(retain=60, forget=40, hidden=500)
    roomy = analyse(task)
    tight = analyse(task, memory_budget=2**25 + 66 * 4503)
    assert roomy.record["rows"] == {"forget": "memory", "retain": "memory"}
    assert tight.record["rows"] == {"forget": "disk", "retain": "disk"}
    np.testing.assert_allclose(tight.forget.diagonal, roomy.forget.diagonal, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(tight.forget.gram, roomy.forget.gram, rtol=1e-4, atol=1e-5)
    for one, other in zip(tight.damage(2, 1).as_dict().values(), roomy.damage(2, 1).as_dict().values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_rows_are_kept_of_a_spread_of_at_most_so_many_units(make):
    task = make.perceptron(retain=50)
    capped, whole = analyse(task, max_gram_samples=6), analyse(task)
    assert list(capped.retain.kept) == [0, 10, 20, 29, 39, 49]
    np.testing.assert_allclose(capped.retain.diagonal, whole.retain.diagonal, rtol=1e-4, atol=1e-12)
    expected = whole.retain.gram[np.ix_(capped.retain.kept, capped.retain.kept)]
    np.testing.assert_allclose(capped.retain.gram, expected, rtol=1e-4, atol=1e-6)
    assert len(capped.retain.losses) == 50


def test_progress_counts_every_gradient(task):
    seen = {}

    def track(items, description, total):
        for item in items:
            seen[description] = (seen.get(description, (0, 0))[0] + 1, total)
            yield item

    analyse(task, track=track)
    assert seen["gradients of the forget set"] == (12, 12)
    assert seen["gradients of the retain set"] == (30, 30)


def test_too_few_samples_are_said_aloud_and_recorded(make):
    with pytest.warns(FisherWarning, match="3 forget samples are too few"):
        analysis = analyse(make.perceptron(forget=3))
    assert any("3 forget samples" in text for text in analysis.warnings)


def test_degenerate_tasks_are_analysed(make):
    """One sample, identical samples."""
    same_samples = make.samples(1, 0) * 5
    tasks = [
        make.perceptron(retain=1, forget=1),
        make.perceptron(retain=same_samples, forget=same_samples),
    ]
    for task in tasks:
        analysis = analyse(task)
        assert all(np.isfinite(list(analysis.features().values())))
        assert all(np.all(np.isfinite(term)) for term in analysis.damage([0.1, 1, 10], 1.0).as_dict().values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"definition": "per-batch"},
        {"denominator": "all"},
        {"batch_size": 0, "definition": "batch"},
        {"max_gram_samples": 0},
        {"memory_budget": 1000},
        {"groups": "cascade"},
    ],
)
def test_wrong_arguments_are_refused(task, wrong):
    with pytest.raises(ConfigError):
        analyse(task, **wrong)


def test_gradients_that_vanish_are_refused_or_said_aloud(make):
    """All of a set: nothing can be told apart. A layer's: the analysis stands, but no setting reaches the layer."""
    for name in ("forget", "retain"):
        flat = [(inputs, {"class": target, "weight": torch.tensor(0.0)}) for inputs, target in make.samples(9, 1)]
        lively = [(inputs, {"class": target, "weight": torch.tensor(1.0)}) for inputs, target in make.samples(9, 2)]
        sets = {"retain": lively, "forget": lively} | {name: flat}

        def loss(output, target):
            return (target["weight"] * nn.functional.cross_entropy(output, target["class"], reduction="none")).mean()

        with pytest.raises(ModelError, match=f"all gradients of the {name} set are zero") as caught:
            analyse(make.perceptron(loss=loss, **sets))
        assert "\n" not in str(caught.value)

    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(5, 3), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.warns(FisherWarning, match=r"vanish in 1 of 2 layers \(idle"):
        analyse(make.perceptron(model=Partly()))


def test_torchs_default_dtype_changes_nothing(make, tmp_path, monkeypatch):
    """Gradients are float32 whatever torch makes by default, and are kept before they are squared."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    task = make.perceptron(retain=60, forget=40, hidden=500)
    budgets = (2.0**30, 2.0**25 + 66 * 4503)  # rows in memory, and on disk
    wanted = [analyse(task, memory_budget=budget) for budget in budgets]
    torch.set_default_dtype(torch.float64)
    try:
        found = [analyse(task, memory_budget=budget) for budget in budgets]
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, wanted, strict=True):
        for a, b in ((one.forget, other.forget), (one.retain, other.retain)):
            np.testing.assert_allclose(a.gram, b.gram, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(a.diagonal, b.diagonal, rtol=1e-5, atol=1e-12)
        assert one.damage(2.0, 1.0).forget_full == pytest.approx(other.damage(2.0, 1.0).forget_full, rel=1e-4)
        assert one.forget.spectrum.trace == pytest.approx(other.forget.squared_norms.mean(), rel=1e-5)


def test_the_same_task_gives_the_same_bits(varnet_task, make):
    for task in (varnet_task, make.perceptron(retain=60)):
        same(analyse(task), analyse(task))


def test_a_model_without_parameters_is_refused(make):
    with pytest.raises(ModelError, match="no parameters"):
        analyse(make.perceptron(model=nn.Tanh()))


def test_saved_and_loaded_it_is_the_same(task, analysis, tmp_path):
    analysis.save(tmp_path / "fisher.h5")
    loaded = FisherAnalysis.load(tmp_path / "fisher.h5", task.identity)
    same(analysis, loaded)
    assert loaded.record == analysis.record and loaded.identity.items() <= task.identity.items()
    full = analyse(task, denominator="full")
    full.save(tmp_path / "full.h5")
    same(full, FisherAnalysis.load(tmp_path / "full.h5"))


def test_a_file_of_the_first_format_is_read(analysis, tmp_path):
    """It had a table for each exponent, eigenvectors in parameter space, and spectra by Lanczos."""
    path = tmp_path / "fisher.h5"
    analysis.save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 1
        for part in (file["forget"], file["retain"]):
            for number, exponent in enumerate((0.5, 1.0)):
                part.copy("table", f"tables/{number}")
                part[f"tables/{number}/exponent"] = str(exponent)
            del part["tables/0/plain"]  # the other exponent's are not looked at
            del part["table"]
            part["vectors"], part["spectrum/method"] = np.zeros((0, 5), np.float32), '"gram"'
    same(FisherAnalysis.load(path), analysis)


def test_a_file_of_something_else_is_refused_with_the_reason(task, analysis, tmp_path, make):
    path = tmp_path / "fisher.h5"
    analysis.save(path)
    other_model = copy.deepcopy(task.model)
    with torch.no_grad():
        other_model[0].bias[0] += 1
    parts = {"model": task.model, "loss": task.loss, "retain": task.retain, "forget": task.forget}
    for change, error, words in (
        ({"model": other_model}, ModelError, "another model"),
        ({"forget": task.forget[:-1]}, DataError, "another forget"),
        ({"retain": task.retain[::-1]}, DataError, "another retain"),
        ({"loss_name": "mse"}, DataError, "another loss"),
    ):
        with pytest.raises(error, match=words):
            FisherAnalysis.load(path, Task(quality=task.quality, **parts | change).identity)


def point_nowhere(file):
    del file["theta"]
    file["theta"] = h5py.SoftLink("/nowhere")


def test_a_broken_file_is_refused(analysis, tmp_path):
    path = tmp_path / "fisher.h5"
    analysis.save(path)
    whole = path.read_bytes()
    with pytest.raises(DataError, match="no such file"):
        FisherAnalysis.load(tmp_path / "absent.h5")
    for content in (whole[: len(whole) // 2], b"", b"not HDF5 at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            FisherAnalysis.load(path)
    path.write_bytes(whole)
    for change, words in (
        (lambda file: file.attrs.modify("format", "something"), "not a Fisher analysis"),
        (lambda file: file.attrs.modify("format_version", 99), "version 99"),
        (lambda file: file.pop("theta"), "damaged"),
        (point_nowhere, "damaged"),
    ):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(DataError, match=words):
            FisherAnalysis.load(path)


def test_a_folder_that_cannot_be_written_leaves_nothing(analysis, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        analysis.save(tmp_path / "file" / "fisher.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
