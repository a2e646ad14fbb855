"""Features against their definitions on dense Fisher matrices, and their behaviour on degenerate input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdtune.errors import DataError
from ssdtune.fisher import depth
from ssdtune.fisher.bootstrap import Interval, intervals, too_few
from ssdtune.fisher.features import FEATURES, FeatureInputs, features
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.statistics import SetStatistics

NAMES = [
    "net.sens_net.norm_unet.unet.down_sample_layers.0.layers.0.weight",
    "net.sens_net.norm_unet.unet.conv.layers.0.weight",
    "net.cascades.0.dc_weight",
    "net.cascades.0.model.unet.down_sample_layers.0.layers.0.weight",
    "net.cascades.1.model.unet.conv.layers.0.weight",
    "net.cascades.2.model.unet.up_transpose_conv.0.layers.0.weight",
    "net.cascades.2.model.unet.up_conv.0.layers.0.weight",
]


def inputs_of(forget, retain, *, denominator="retain", phi=0.1, embeddings=(None, None), losses=None):
    """From gradient rows, as the analysis does it."""
    f, o = (forget**2).mean(0), (retain**2).mean(0)
    over = phi * f + (1 - phi) * o if denominator == "full" else o
    sizes = [forget.shape[1] // len(NAMES)] * (len(NAMES) - 1)
    sizes.append(forget.shape[1] - sum(sizes))
    losses = losses or (np.full(len(forget), 0.3), np.full(len(retain), 0.2))
    return FeatureInputs(
        forget=SetStatistics(forget @ forget.T, losses[0], embeddings[0]),
        retain=SetStatistics(retain @ retain.T, losses[1], embeddings[1]),
        cross=forget @ retain.T,
        ratios=SortedRatios.of(f, over),
        depth_profile=depth.profile(laid(NAMES, sizes), f),
        phi=phi,
        known_share=1.0,
        denominator=denominator,
    )


def laid(names, sizes):
    return Layout(tuple(names), tuple((size,) for size in sizes), ("float32",) * len(names))


def random_rows(seed=0, samples=(9, 12), size=70):
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=size))
    return tuple(rng.normal(size=(n, size)) * scale + 0.3 * side for side, n in enumerate(samples))


def embeddings(seed=0, samples=(9, 12), width=4):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(n, width)) + side for side, n in enumerate(samples))


def test_spectral_features_are_those_of_the_dense_fisher_matrix():
    forget, retain = random_rows()
    values = np.linalg.eigvalsh(forget.T @ forget / len(forget))[::-1][: len(forget)]
    found = features(inputs_of(forget, retain))
    p = values / values.sum()
    assert found["forget_top_share"] == pytest.approx(p[0])
    assert found["forget_effective_rank"] == pytest.approx(np.exp(-np.sum(p * np.log(p))))
    assert found["forget_participation_ratio"] == pytest.approx(1 / np.sum(p**2))
    assert found["forget_log10_trace"] == pytest.approx(np.log10(np.mean(np.sum(forget**2, axis=1))))
    assert found["forget_mean_share"] == pytest.approx(np.sum(forget.mean(0) ** 2) / values.sum())
    slope = np.polyfit(np.log(np.arange(1, 10)), np.log(values), 1)[0]
    assert found["forget_decay_slope"] == pytest.approx(slope)


def test_features_of_both_sets_are_those_of_explicit_subspaces():
    forget, retain = random_rows()
    found = features(inputs_of(forget, retain))
    mean_f, mean_r = forget.mean(0), retain.mean(0)
    cosine = mean_f @ mean_r / np.linalg.norm(mean_f) / np.linalg.norm(mean_r)
    assert found["mean_alignment"] == pytest.approx(cosine)

    def leading(rows):
        values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
        held = np.cumsum(values[::-1]) / values.sum()
        return vectors[:, ::-1][:, : np.searchsorted(held, 0.9) + 1]

    u_f, u_r = leading(forget), leading(retain)
    cosines = np.linalg.svd(u_f.T @ u_r, compute_uv=False)
    assert found["subspace_overlap"] == pytest.approx(np.mean(cosines**2))
    energy = np.sum((forget @ u_r) ** 2) / np.sum(forget**2)
    assert found["forget_energy_in_retain"] == pytest.approx(energy)


def test_equal_sets_overlap_wholly_and_orthogonal_sets_not_at_all():
    rows, _ = random_rows()
    same = features(inputs_of(rows, rows))
    assert same["subspace_overlap"] == pytest.approx(1) and same["mean_alignment"] == pytest.approx(1)
    assert same["log10_ratio_q0.5"] == pytest.approx(0)
    left, right = np.zeros((2, 5, 40))
    left[:, :20], right[:, 20:] = rows[:5, :20], rows[:5, 20:40]
    apart = features(inputs_of(left, right))
    assert apart["subspace_overlap"] == apart["forget_energy_in_retain"] == apart["mean_alignment"] == 0


def test_sample_order_does_not_matter():
    forget, retain = random_rows()
    rng = np.random.default_rng(1)
    order_f, order_r = rng.permutation(9), rng.permutation(12)
    e_f, e_r = embeddings()
    one = features(inputs_of(forget, retain, embeddings=(e_f, e_r)))
    two = features(inputs_of(forget[order_f], retain[order_r], embeddings=(e_f[order_f], e_r[order_r])))
    assert two == pytest.approx(one, rel=1e-8)


def test_duplicated_samples_change_nothing():
    forget, retain = random_rows()
    one = features(inputs_of(forget, retain))
    two = features(inputs_of(np.repeat(forget, 3, axis=0), np.repeat(retain, 2, axis=0)))
    assert two == pytest.approx(one, rel=1e-7)


@pytest.mark.parametrize("factor", [1e-4, 10.0])
def test_scaling_the_loss_moves_only_the_traces(factor):
    forget, retain = random_rows()
    one, two = features(inputs_of(forget, retain)), features(inputs_of(factor * forget, factor * retain))
    for name in one:
        shift = 2 * np.log10(factor) if name.endswith("log10_trace") else 0.0
        assert two[name] == pytest.approx(one[name] + shift, rel=1e-6, abs=1e-9), name


def test_ratio_features():
    forget, retain = random_rows(size=7000)
    inputs = inputs_of(forget, retain)
    found = features(inputs)
    ratio = np.sort((forget**2).mean(0) / (retain**2).mean(0))
    for level in (0.1, 0.5, 0.999):
        assert found[f"log10_ratio_q{level:g}"] == pytest.approx(np.log10(np.quantile(ratio, level)), abs=0.02)
    assert inputs.ratios.selected_fraction(10 ** found["log10_ratio_q0.999"]) == pytest.approx(0.001, abs=2e-4)


@pytest.mark.parametrize("index", [0.3, 1.0])
def test_tail_index_of_a_power_law(index):
    rng = np.random.default_rng(0)
    ratio = rng.uniform(size=200_000) ** -index
    inputs = replace(inputs_of(*random_rows()), ratios=SortedRatios.of(ratio, np.ones_like(ratio)))
    assert FEATURES["tail_index"].compute(inputs) == pytest.approx(index, rel=0.05)


def test_ceiling_is_reached_by_a_parameter_that_only_the_forget_set_uses():
    forget, retain = random_rows()
    retain[:, 3] = 0
    for denominator in ("full", "retain"):
        assert features(inputs_of(forget, retain, denominator=denominator))["ceiling_share"] == pytest.approx(1)
    forget, retain = random_rows()
    full, over_retain = (features(inputs_of(forget, retain, denominator=d)) for d in ("full", "retain"))
    assert full["ceiling_share"] == pytest.approx(over_retain["ceiling_share"])
    assert 0 < full["ceiling_share"] < 1


def test_entanglement_falls_as_the_sets_part():
    forget, retain = random_rows()
    e_f, e_r = embeddings()
    near = features(inputs_of(forget, retain, embeddings=(e_f, e_r)))["log10_entanglement"]
    far = features(inputs_of(forget, retain, embeddings=(e_f - 10, e_r)))["log10_entanglement"]
    assert far < near
    both = np.concatenate([e_f - 10, e_r])
    within = np.mean(np.sum((e_f - e_f.mean(0)) ** 2, 1)) + np.mean(np.sum((e_r - e_r.mean(0)) ** 2, 1))
    between = np.sum((e_f.mean(0) - 10 - both.mean(0)) ** 2) + np.sum((e_r.mean(0) - both.mean(0)) ** 2)
    assert far == pytest.approx(np.log10(within / (between / 2)))


CASES = {
    "all-zero gradients": (np.zeros((4, 70)), np.zeros((5, 70))),
    "zero forget": (np.zeros((4, 70)), random_rows()[1]),
    "zero retain": (random_rows()[0], np.zeros((5, 70))),
    "one sample": (random_rows()[0][:1], random_rows()[1][:1]),
    "identical samples": (np.ones((6, 70)), np.ones((6, 70))),
    "tiny": (1e-30 * random_rows()[0], 1e-30 * random_rows()[1]),
    "huge": (1e30 * random_rows()[0], 1e-30 * random_rows()[1]),
    "one parameter": (np.ones((3, 7))[:, :7], np.ones((2, 7))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("denominator", ["retain", "full"])
@pytest.mark.filterwarnings("error")
def test_every_feature_is_finite(case, denominator):
    forget, retain = CASES[case]
    vectors = (np.zeros((len(forget), 3)), np.zeros((len(retain), 3)))
    for embedded in ((None, None), vectors):
        inputs = inputs_of(forget, retain, denominator=denominator, embeddings=embedded)
        found = features(inputs)
        assert list(found) == list(FEATURES)
        assert all(np.isfinite(value) for value in found.values())
        spread = intervals(inputs, draws=5)
        assert all(np.isfinite(end) for interval in spread.values() for end in interval)
        too_few(inputs, found, spread)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), n_f=st.integers(1, 5), n_r=st.integers(1, 5), power=st.integers(-20, 20))
def test_shares_stay_in_their_ranges(seed, n_f, n_r, power):
    rng = np.random.default_rng(seed)
    forget, retain = (10.0**power * rng.integers(-1, 2, size=(n, 14)) for n in (n_f, n_r))
    found = features(inputs_of(forget, retain))
    for name, value in found.items():
        if name.endswith(("share", "overlap", "in_retain")) or name.startswith("depth"):
            assert -1e-12 <= value <= 1 + 1e-9, name
        if name.endswith(("effective_rank", "participation_ratio")):
            assert value <= max(n_f, n_r) + 1e-9


def test_missing_values_are_refused():
    forget = random_rows()[0]
    forget[0, 0] = np.nan
    good = inputs_of(*random_rows())
    with pytest.raises(DataError, match="NaN"):
        features(replace(good, forget=SetStatistics(forget @ forget.T, good.forget.losses)))
    with pytest.raises(DataError, match="forget_loss"):
        features(replace(good, forget=replace(good.forget, losses=np.array([np.nan]))))


def test_depth_profile_of_a_varnet_and_of_other_models():
    assert depth.stages(NAMES) == ["sensitivity net"] * 2 + ["cascade 1"] * 2 + ["cascade 2"] + ["cascade 3"] * 2
    sizes = [1, 2, 3, 4, 5, 6, 7]
    found = depth.profile(laid(NAMES, sizes), np.ones(28))
    assert found["sensitivity net"] == pytest.approx(3 / 28)
    assert [found[third] for third in depth.THIRDS] == pytest.approx([7 / 28, 5 / 28, 13 / 28])
    assert [found[path] for path in depth.PATHS] == pytest.approx([5 / 28, 7 / 28, 13 / 28])
    generic = ["a.weight", "a.bias", "b.weight", "c.weight"]
    assert depth.stages(generic) == ["first third", "first third", "middle third", "last third"]
    other = depth.profile(laid(generic, [1, 1, 1, 1]), np.array([1.0, 1, 2, 4]))
    assert other["sensitivity net"] == other["bottleneck"] == 0 and other["last third"] == 0.5


@pytest.mark.parametrize("cascades", [1, 2, 3, 12])
def test_any_number_of_cascades_falls_into_three_thirds(cascades):
    names = [f"cascades.{place}.dc_weight" for place in range(cascades)]
    found = depth.thirds(names)
    assert found == sorted(found, key=depth.THIRDS.index)
    assert set(found) == {1: {"middle third"}, 2: {"first third", "last third"}}.get(cascades, set(depth.THIRDS))


def test_intervals_are_seeded_and_hold_a_settled_value():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(3, 70))
    rows = tuple(rng.normal(size=(n, 3)) @ directions for n in (200, 150))
    inputs = inputs_of(*rows)
    one = intervals(inputs, seed=4, draws=60)
    assert one == intervals(inputs, seed=4, draws=60) != intervals(inputs, seed=5, draws=60)
    found = features(inputs)
    assert set(one) == {name for name, feature in FEATURES.items() if feature.resampled}
    for name in ("forget_effective_rank", "retain_top_share", "subspace_overlap"):
        assert one[name].low - 1e-9 <= found[name] <= one[name].high + 1e-9
    assert too_few(inputs, found, one) == []


def test_a_resampled_set_has_the_spectrum_of_its_repeated_rows():
    forget, retain = random_rows()
    counts = np.array([3, 0, 1, 2, 0, 0, 1, 1, 1])
    repeated = np.repeat(forget, counts, axis=0)
    rows, weights = np.flatnonzero(counts), np.sqrt(counts[counts > 0])
    scaled = forget[rows] * weights[:, None]
    wanted = inputs_of(repeated, retain)
    got = replace(
        wanted, forget=SetStatistics(scaled @ scaled.T, np.zeros(9), None, weights, 9), cross=scaled @ retain.T
    )
    for name, feature in FEATURES.items():
        if feature.resampled:
            assert feature.compute(got) == pytest.approx(feature.compute(wanted), rel=1e-9), name


def test_few_samples_and_growing_spectra_are_reported():
    inputs = inputs_of(*random_rows(samples=(5, 30)))
    found, spread = features(inputs), intervals(inputs, draws=40)
    complaints = too_few(inputs, found, spread)
    assert complaints[0].startswith("5 forget samples are too few")
    assert "30 retain samples do not settle the spectrum" in complaints[1] and "effective rank" in complaints[1]
    sure = {name: Interval(value, value) for name, value in found.items()}
    assert len(too_few(inputs, found, sure)) == 1


def test_every_feature_is_in_the_docs_with_formula_and_source():
    page = Path(__file__).parents[2].joinpath("docs/reference/features.md").read_text()
    lines = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    assert set(lines) == set(FEATURES)
    for name, feature in FEATURES.items():
        assert feature.formula in lines[name] and feature.source in lines[name]
