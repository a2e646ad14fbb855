"""The closed form against the dampening rule itself, parameter by parameter."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssdtune.dampening import dampening_factors
from ssdtune.errors import ConfigError, DataError
from ssdtune.fisher import ratios as ratios_module
from ssdtune.fisher.damage import DamageSurfaces, DamageTerms
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.sums import DiagonalSums
from ssdtune.fisher.tables import Bins, RowTables, _CudaBinner, log_spaced_counts


def surfaces(theta, f, o, retain, forget_rows, retain_rows, counts=None, rank=None):
    """Everything from raw arrays, as the analysis does it."""
    ratios = SortedRatios.of(f, o)
    sums = DiagonalSums(
        ratios,
        theta,
        forget=f,
        retain=retain,
        forget_mean=forget_rows.mean(0),
        retain_mean=retain_rows.mean(0),
    )
    tables = []
    for rows in (forget_rows, retain_rows):
        gradients = torch.from_numpy(rows)
        blocks = [(slice(0, 1), gradients[:1]), (slice(1, len(rows)), gradients[1:])]
        table = RowTables.of(ratios, theta, blocks, len(rows), counts)
        vectors = np.linalg.eigh(rows @ rows.T)[1][:, ::-1][:, :rank]
        tables.append((table, table.project(vectors)))
    return DamageSurfaces(sums, tables[0][0], tables[1][0], tables[0][1], tables[1][1])


def direct(theta, f, o, retain, forget_rows, retain_rows, alpha, lam):
    """The definition: dampen, subtract, sum."""
    factors = dampening_factors(torch.from_numpy(f), torch.from_numpy(o), alpha, lam).numpy()
    delta = theta * factors - theta
    return {
        "selected_fraction": np.mean(factors < 1),
        "relative_change": np.linalg.norm(delta) / (np.linalg.norm(theta) or 1),
        "mean_dampening": np.mean(1 - factors),
        "forget_diagonal": 0.5 * np.sum(f * delta**2),
        "retain_diagonal": 0.5 * np.sum(retain * delta**2),
        "forget_full": 0.5 * np.mean((forget_rows @ delta) ** 2),
        "retain_full": 0.5 * np.mean((retain_rows @ delta) ** 2),
        "forget_low_rank": 0.5 * np.mean((forget_rows @ delta) ** 2),
        "retain_low_rank": 0.5 * np.mean((retain_rows @ delta) ** 2),
        "forget_first": np.mean(forget_rows @ delta),
        "retain_first": np.mean(retain_rows @ delta),
    }


def random_case(size=60, samples=(5, 7), seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=size)
    forget_rows, retain_rows = (rng.normal(size=(n, size)) * np.exp(rng.normal(size=size)) * scale for n in samples)
    retain = (retain_rows**2).mean(0)
    return SimpleNamespace(
        theta=theta,
        f=(forget_rows**2).mean(0),
        o=retain,
        retain=retain,
        forget_rows=forget_rows,
        retain_rows=retain_rows,
    )


def assert_same(terms: DamageTerms, expected: dict, tolerance=1e-9):
    for name, value in terms.as_dict().items():
        np.testing.assert_allclose(value, expected[name], rtol=tolerance, atol=1e-10, err_msg=name)


small_integers = st.integers(0, 4).map(float)  # zeros and ties are the rule, and ratios are exact


@st.composite
def cases(draw):
    size = draw(st.integers(1, 24))

    def vector(elements):
        return draw(hnp.arrays(np.float64, size, elements=elements))

    rows = st.integers(-3, 3).map(float)
    return SimpleNamespace(
        theta=vector(st.floats(-2, 2).map(lambda value: round(value, 3))),
        f=vector(small_integers),
        o=vector(small_integers),
        retain=vector(small_integers),
        forget_rows=draw(hnp.arrays(np.float64, (3, size), elements=rows)),
        retain_rows=draw(hnp.arrays(np.float64, (2, size), elements=rows)),
    )


eighths = st.integers(1, 48).map(lambda value: value / 8)


@settings(max_examples=150)
@given(case=cases(), alpha=eighths, lam=eighths)
def test_closed_form_is_the_rule_with_ties_zeros_and_lambda_above_alpha(case, alpha, lam):
    assert_same(surfaces(**vars(case))(alpha, lam), direct(**vars(case), alpha=alpha, lam=lam))


def test_a_plane_is_its_points_and_keeps_the_broadcast_shape():
    case = random_case(size=900)
    alphas, lams = np.geomspace(0.05, 50, 7)[:, None], np.geomspace(0.01, 100, 5)
    plane = surfaces(**vars(case), counts=np.arange(1, 901))(alphas, lams)
    assert plane.retain_full.shape == (7, 5)
    for place in np.ndindex(7, 5):
        point = DamageTerms(**{name: value[place] for name, value in plane.as_dict().items()})
        assert_same(point, direct(**vars(case), alpha=alphas[place[0], 0], lam=lams[place[1]]))
    scalar = surfaces(**vars(case))(2.0, 1.0)
    assert scalar.retain_full.shape == ()


def test_lambda_above_alpha_is_the_point_on_the_diagonal():
    terms = surfaces(**vars(random_case()))
    for name, value in terms(0.5, 3.0).as_dict().items():
        assert value == terms(3.0, 3.0).as_dict()[name]


def test_selecting_nothing_changes_nothing():
    terms = surfaces(**vars(random_case()))(1e9, 1.0)
    assert all(value == 0 for value in terms.as_dict().values())


def test_few_eigenvectors_give_less_and_all_give_the_per_sample_form():
    case = random_case()
    full, partial = surfaces(**vars(case))(0.7, 0.3), surfaces(**vars(case), rank=2)(0.7, 0.3)
    np.testing.assert_allclose(full.forget_low_rank, full.forget_full, rtol=1e-10)
    assert 0 < partial.forget_low_rank < partial.forget_full
    # u_j of the Fisher matrix itself
    fisher = case.forget_rows.T @ case.forget_rows / len(case.forget_rows)
    values, vectors = np.linalg.eigh(fisher)
    delta = dampened_change(case, 0.7, 0.3)
    expected = 0.5 * np.sum(values[-2:] * (vectors[:, -2:].T @ delta) ** 2)
    np.testing.assert_allclose(partial.forget_low_rank, expected, rtol=1e-9)


def dampened_change(case, alpha, lam):
    factors = dampening_factors(torch.from_numpy(case.f), torch.from_numpy(case.o), alpha, lam).numpy()
    return case.theta * (factors - 1)


def test_scaling_the_loss_scales_second_order_by_its_square_and_first_order_by_itself():
    case, scaled = random_case(), random_case(scale=6.0)
    one, two = surfaces(**vars(case))(0.8, 0.4).as_dict(), surfaces(**vars(scaled))(0.8, 0.4).as_dict()
    for name, value in one.items():
        power = 2 if name.endswith(("diagonal", "full", "low_rank")) else 1 if name.endswith("first") else 0
        np.testing.assert_allclose(two[name], 2**power * value, rtol=1e-10, err_msg=name)


def test_blocks_of_the_sums_and_float32_inputs():
    """More parameters than one kept block, in the precision that models have."""
    rng = np.random.default_rng(1)
    size = 40_000
    f, o, theta = (np.exp(rng.normal(size=size)).astype(np.float32) for _ in range(3))
    rows = rng.normal(size=(3, size)).astype(np.float32)
    case = {"theta": theta, "f": f, "o": o, "retain": o, "forget_rows": rows, "retain_rows": rows}
    plane = surfaces(**case)
    exact = {key: value.astype(np.float64) for key, value in case.items()}
    for rho in (1e-4, 0.01, 0.3, 1.0):
        alpha = float(plane.sums.ratios.alpha_at(rho))
        expected = direct(**exact, alpha=alpha, lam=0.6 * alpha)
        terms = plane(alpha, 0.6 * alpha).as_dict()
        for name, value in terms.items():
            # rows are interpolated between 512 counts, which are 1.7 % apart here
            tolerance = 0.05 if name.endswith(("full", "low_rank")) else 1e-6
            np.testing.assert_allclose(value, expected[name], rtol=tolerance, err_msg=name)


def test_rows_are_exact_at_their_counts():
    case = random_case(size=3000)
    wanted = np.array([7, 450, 2999])
    plane = surfaces(**vars(case), counts=wanted)
    for count in wanted:
        alpha = float(plane.sums.ratios.alpha_at(count / 3000))
        np.testing.assert_allclose(
            plane(alpha, alpha / 2).retain_full, direct(**vars(case), alpha=alpha, lam=alpha / 2)["retain_full"]
        )


@pytest.mark.parametrize(("numbers", "size"), [(2**16 - 1, 256), (19, 512)], ids=["usual", "larger blocks"])
def test_blocks_are_places_in_the_order(monkeypatch, numbers, size):
    """Also where 16 bits would not hold the number of blocks of the usual size; zeros are in none."""
    monkeypatch.setattr(ratios_module, "_NUMBERS", numbers)
    case = random_case(size=5000)
    case.f[:700] = 0
    ratios = SortedRatios.of(case.f, case.o)
    assert ratios.block_size == size and ratios.block_count == -(-4300 // size)
    place = np.empty(5000, int)
    place[ratios.order] = np.arange(5000)
    np.testing.assert_array_equal(ratios.blocks, np.where(case.f > 0, place // size, ratios.block_count))
    np.testing.assert_array_equal(ratios.of_parameters(ratios.order[:40].astype(int)), ratios.values[:40])
    alpha = float(ratios.alpha_at(0.3))
    assert_same(
        surfaces(**vars(case), counts=np.arange(1, 4301))(alpha, 1.0), direct(**vars(case), alpha=alpha, lam=1.0)
    )


def test_the_gpu_way_of_summing_rows_is_the_cpu_way():
    case, device = random_case(size=3000), torch.device("cpu")
    case.f[:700] = 0  # never selected
    ratios, knots = SortedRatios.of(case.f, case.o), np.array([0, 1, 40, 900, 2300])
    rows = torch.from_numpy(case.forget_rows)
    host = Bins.of(ratios, case.theta, knots)(rows)
    cuda = _CudaBinner(ratios, case.theta, knots, device)(rows)
    np.testing.assert_allclose(cuda, host, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("total", [0, 1, 5, 512, 513, 2000, 30_000_000])
def test_counts_rise_from_one_to_all(total):
    counts = log_spaced_counts(total)
    assert len(counts) <= 512 and np.all(np.diff(counts) > 0)
    assert len(counts) >= min(total, 500)
    if total:
        assert counts[0] == 1 and counts[-1] == total


@settings(max_examples=200)
@given(
    f=st.lists(small_integers, min_size=1, max_size=12),
    o=st.lists(small_integers, min_size=1, max_size=12),
    alpha=eighths,
    rho=st.floats(0, 1),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_alpha_and_selected_fraction_lead_back_to_each_other(f, o, alpha, rho, dtype):
    size = min(len(f), len(o))
    f, o = np.array(f[:size], dtype), np.array(o[:size], dtype)
    ratios = SortedRatios.of(f, o)
    selected = ratios.selected_fraction(alpha)
    assert selected == np.mean(f > alpha * o)  # exact in these numbers
    again = ratios.alpha_at(selected)
    assert np.isfinite(again) and again > 0
    np.testing.assert_array_equal(f > again * o, f > alpha * o)
    # no other alpha comes nearer to a wanted share
    thresholds = np.unique(np.concatenate([[1e-3, 1e3], (f / np.maximum(o, 1)), (f / np.maximum(o, 1)) + 1e-3]))
    reachable = [np.mean(f > t * o) for t in thresholds if t > 0]
    nearest = min(abs(share - rho) for share in reachable)
    got = ratios.selected_fraction(ratios.alpha_at(rho))
    assert abs(got - rho) <= nearest + 1e-12


def test_extreme_ratios_stay_finite():
    f = np.array([1e-38, 1e38, 1.0, 0.0, 1e-45], np.float32)
    o = np.array([1e38, 1e-38, 0.0, 1.0, 1.0], np.float32)
    rows = np.ones((2, 5), np.float32)
    plane = surfaces(np.ones(5, np.float32), f, o, o, rows, rows)
    terms = plane(np.geomspace(1e-30, 1e30, 9)[:, None], np.geomspace(1e-30, 1e30, 9))
    assert all(np.all(np.isfinite(value)) for value in terms.as_dict().values())
    assert plane.sums.ratios.alpha_at(0.0) > 0


def test_an_empty_forget_fisher_selects_nothing():
    zero, one = np.zeros(4), np.ones(4)
    plane = surfaces(one, zero, one, one, np.zeros((2, 4)), np.ones((2, 4)))
    assert plane(0.1, 0.1).retain_full == 0 and plane.sums.ratios.alpha_at(0.5) == 1.0


def test_what_cannot_be_used_is_refused():
    ratios = SortedRatios.of(np.ones(3), np.ones(3))
    with pytest.raises(DataError, match="negative, infinite or missing"):
        SortedRatios.of(np.array([1.0, np.nan]), np.ones(2))
    with pytest.raises(DataError, match="shapes"):
        SortedRatios.of(np.ones(3), np.ones(2))
    with pytest.raises(ConfigError, match=r"\[0, 1\]"):
        ratios.alpha_at(1.5)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="positive"):
            ratios.selected_fraction(bad)
    plane = surfaces(**vars(random_case()))
    with pytest.raises(ConfigError, match="positive"):
        plane(1.0, 0.0)
