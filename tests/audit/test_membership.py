"""Attacks: by hand, and at their own level where there is nothing to find."""

import numpy as np
import pytest

from ssdtune.audit.membership import (
    attack,
    auc,
    calibrated_score,
    likelihood_ratio,
    loss_score,
    paired_attack,
    true_positives,
)


def test_the_auc_counts_pairs_and_ties_half():
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 1.0, 0.0])) == pytest.approx((3 + 1.5) / 6)
    assert auc(np.arange(3.0), -1 - np.arange(4.0)) == 1
    assert auc(np.zeros(3), np.zeros(5)) == 0.5


def test_true_positives_keep_to_the_rate_and_need_enough_others():
    others = np.arange(200.0)
    assert true_positives(np.array([0.0, 197.0, 197.5, 300.0]), others) == 0.5  # 198 and 199 may be above
    assert true_positives(np.array([1.0]), others[:99]) is None


def test_low_losses_look_like_members():
    assert (np.argsort(loss_score(np.array([0.1, 0.3, 0.2]))) == [1, 2, 0]).all()


def test_calibration_takes_out_how_hard_a_slice_is():
    hardness = np.array([0.01, 0.1, 1.0])
    assert np.ptp(calibrated_score(0.5 * hardness, hardness)) == pytest.approx(0, abs=1e-12)
    assert calibrated_score(0.5 * hardness, hardness)[0] == pytest.approx(np.log(2))
    assert np.isfinite(calibrated_score(np.zeros(1), hardness[:1])).all()


def test_the_likelihood_ratio_by_hand():
    """Two models of each kind and two slices, in logarithms: means 1 and 3, deviations ±1 but for one ±2."""
    unlearned = np.exp(np.array([[0.0, 0.0], [2.0, 2.0]]))
    oracles = np.exp(np.array([[2.0, 1.0], [4.0, 5.0]]))
    variance = (2 + 2 + 2 + 8) / (2 * (2 + 2 - 2))
    t = np.array([1.0, 3.0])
    expected = ((t - 3) ** 2 - (t - 1) ** 2) / (2 * variance)
    assert likelihood_ratio(np.exp(t), unlearned, oracles) == pytest.approx(expected)
    same = np.ones((2, 2))
    assert np.isfinite(likelihood_ratio(np.exp(t), same, same)).all()


def exchangeable(rng, volumes=8, slices=5):
    """Scores whose volumes differ more than their slices, members and others alike."""
    return (rng.normal(size=(volumes, 1)) + 0.3 * rng.normal(size=(volumes, slices))).ravel()


@pytest.fixture(scope="module")
def level():
    """(found attacks, names of volumes) where members are exchangeable with others."""
    rng, volumes = np.random.default_rng(0), [str(number) for number in range(8) for _ in range(5)]
    return [attack((exchangeable(rng), exchangeable(rng)), (volumes, volumes)) for _ in range(60)], volumes


def test_exchangeable_members_have_an_auc_of_a_half(level):
    assert np.mean([found.auc for found in level[0]]) == pytest.approx(0.5, abs=0.05)


def test_intervals_are_of_volumes_and_hold_the_truth(level):
    """Drawn by slices they would be a third as wide, and miss it half the time."""
    found, volumes = level
    assert np.mean([one.interval[0] <= 0.5 <= one.interval[1] for one in found]) >= 0.85
    rng = np.random.default_rng(1)
    members, others = exchangeable(rng), exchangeable(rng)
    apart = [str(number) for number in range(40)]
    grouped, single = (attack((members, others), (names, names)) for names in (volumes, apart))
    assert grouped.auc == single.auc
    assert np.diff(grouped.interval) > 1.5 * np.diff(single.interval)


def test_one_volume_gives_no_interval():
    found = attack((np.arange(4.0), np.arange(5.0)), (["a"] * 4, ["b", "c", "c", "d", "d"]))
    assert found.interval is None
    assert paired_attack(np.arange(4.0), np.arange(4.0), ["a"] * 4).interval is None


def test_a_pair_is_drawn_together():
    """What every volume agrees on has no spread over volumes, however much they differ."""
    hard = np.repeat([0.0, 10.0, 20.0], 2) + np.tile([0.0, 1.0], 3)
    found = paired_attack(hard + 0.5, hard, [str(number) for number in np.repeat([0, 1, 2], 2)])
    low, high = found.interval
    assert 0.5 <= low <= found.auc <= high


def test_lira_finds_nothing_where_unlearned_models_are_as_oracles():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=40)

    def losses(models):
        return np.exp(hard + 0.2 * rng.normal(size=(models, 40)))

    found = [
        paired_attack(*(likelihood_ratio(losses(1)[0], *of) for _ in range(2)), ["a", "b"] * 20)
        for of in ((losses(3), losses(3)) for _ in range(40))
    ]
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.05)
    apart = np.exp(hard) / 3
    unlearned = np.array([apart, 1.1 * apart])
    scores = [likelihood_ratio(one, unlearned, losses(3)) for one in (apart, losses(1)[0])]
    assert auc(*scores) == 1
