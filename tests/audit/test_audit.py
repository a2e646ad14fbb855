"""The whole evaluation of an unlearned model on tiny real tasks, with and without what some measures need."""

import json
from dataclasses import replace

import numpy as np
import pytest
import small_task
import torch

from ssdtune.audit.audit import LOSS_ATTACK, Audit, Peers, audit
from ssdtune.audit.losses import relearn_steps, slicewise
from ssdtune.audit.sets import subject_names, volume_names
from ssdtune.mri.floors import zero_filled
from ssdtune.objective.evaluation import evaluate
from ssdtune.task import Chosen
from ssdtune.unlearning.method import Stage

TEST_SETS = {
    "retain": small_task.points(0, 8, 11) + small_task.points(1, 8, 12),
    "unseen": small_task.points(2, 12, 13),
    "unknown": small_task.points(2, 8, 14),
}


@pytest.fixture(scope="module")
def whole():
    return small_task.make_task(oracle=True, evaluation=TEST_SETS)


def values(found):
    return {row.name: row.values for row in found.rows}


def of_the_oracle(task):
    return Stage(task.state(task.oracle), 12.0)


def test_the_oracle_in_the_place_of_the_unlearned_model_is_at_no_distance(whole):
    found = values(audit(whole, of_the_oracle(whole), 1.5, once=(30.0, 2.0)))
    for name, row in found.items():
        if name[:2] in ("UA", "BT", "RA", "KT") or name == LOSS_ATTACK:
            assert row["unlearned"] == row["oracle"] != row["untouched"]
    assert found["ToW (UA, RA, BTA)"]["unlearned"] == 1
    assert found["oracle gap, mean of UA, RA, BTA, MIA"]["unlearned"] == 0
    assert found["weights from the oracle"]["unlearned"] == 0
    assert found["MIA calibrated by oracle"]["unlearned"] == 0.5
    assert found["ToW-MIA (RA, BTA, MIA)"]["unlearned"] == 1
    assert found["RTE seconds"] == {"unlearned": 3.5}
    assert found["RTE slice passes"] == {"unlearned": 42.0}
    assert found["RTE slice passes, without what trials share"] == {"unlearned": 12.0}


def test_the_untouched_model_is_as_far_as_it_is(whole):
    found = values(audit(whole, Stage(whole.params), 0.0))
    assert found["weights moved"]["unlearned"] == 0
    assert found["ToW (UA, RA, BTA)"]["unlearned"] == found["ToW (UA, RA, BTA)"]["untouched"] < 0.2
    assert found["relearn time, steps (of 30)"]["unlearned"] == 0
    means = evaluate(whole).summary()
    assert found["UA confidence"]["unlearned"] == pytest.approx(means["forget_confidence"], abs=1e-5)
    assert found["BTA confidence"]["unlearned"] == pytest.approx(means["retain_confidence"], abs=1e-5)
    assert found["KTA confidence"]["unlearned"] == pytest.approx(means["unseen_confidence"], abs=1e-5)


def test_what_a_task_does_not_have_is_said_and_not_zero():
    task = small_task.make_task(evaluation={})
    found = audit(task, Stage(task.params), 0.0)
    assert not [name for name in values(found) if name.startswith(("ToW", "AIN", "MIA", "LiRA", "KTA", "corrective"))]
    said = " ".join(found.missing)
    assert all(
        words in said for words in ("ToW", "membership", "KTA", "corrective", "LiRA", "no oracle", "data.unseen")
    )
    assert "no held-out ones were given" in found.sets["BTA"]
    assert "RA" not in found.sets


def test_unknown_slices_stand_in_for_unseen_ones_and_it_says_so(whole):
    task = replace(whole, evaluation={"unknown": TEST_SETS["unknown"]})
    found = audit(task, Stage(task.params), 0.0)
    assert "KTA confidence" in values(found)
    assert "trained on" in found.sets["KTA"]
    assert "unknown" not in found.sets


def test_trained_retain_slices_are_capped(whole):
    found = audit(whole, Stage(whole.params), 0.0, most=10)
    assert found.sets["RA"].startswith("10 ")
    assert "of 40 in all" in found.sets["RA"]


class Scans(list):
    """Samples of three subjects with two scans each."""

    volumes = tuple(f"scan {place // 2}" for place in range(12))
    subjects = tuple(f"subject {place // 4}" for place in range(12))


def test_intervals_of_membership_resample_subjects_not_their_scans(whole):
    samples = Scans(TEST_SETS["unseen"])
    assert subject_names(samples) == list(Scans.subjects)
    assert subject_names(Chosen(samples, [11, 0])) == ["subject 2", "subject 0"]
    assert subject_names(TEST_SETS["unseen"]) == volume_names(TEST_SETS["unseen"])
    wide, narrow = (
        {
            row.name: row.interval
            for row in audit(
                replace(whole, forget=forget, evaluation={"unseen": samples}), Stage(whole.params), 0.0
            ).rows
        }[LOSS_ATTACK]["unlearned"]
        for forget in (Scans(whole.forget), list(whole.forget))
    )
    assert wide != narrow


def test_lira_tells_unlearned_models_that_kept_what_oracles_never_had(whole):
    """The unlearned models are as the untouched one, so the attack finds all; too few models are said."""
    peers = Peers([whole.params] * 2, [whole.state(whole.oracle)] * 2)
    (row,) = [row for row in audit(whole, Stage(whole.params), 0.0, peers=peers).rows if row.name.startswith("LiRA")]
    assert row.values["unlearned"] == 1
    few = audit(whole, Stage(whole.params), 0.0, peers=Peers([whole.params] * 2, []))
    assert any(words.startswith("LiRA") for words in few.missing)


def test_an_audit_comes_back_from_json(whole):
    found = audit(whole, Stage(whole.params), 0.0)
    assert Audit.from_json(json.loads(json.dumps(found.to_json()))).to_json() == json.loads(json.dumps(found.to_json()))


def test_losses_are_those_of_each_sample_alone(whole):
    found = slicewise(whole, whole.forget, None).losses
    inputs, targets = (torch.stack(part) for part in zip(*whole.forget, strict=True))
    expected = torch.nn.functional.cross_entropy(whole.model(inputs), targets, reduction="none")
    assert found == pytest.approx(expected.numpy(), rel=1e-5)


def test_errors_are_the_nmse_where_it_is_measured_else_the_loss(whole, mri_task):
    found = slicewise(whole, whole.forget, None)
    assert (found.errors == found.losses).all()
    task = mri_task()
    found = slicewise(task, task.forget, None)
    expected = evaluate(task).values["forget"]["nmse"]
    assert found.errors == pytest.approx(expected, rel=1e-4) and not (found.errors == found.losses).any()


def test_relearning_counts_steps_and_leaves_the_task_alone(whole):
    before = {name: value.clone() for name, value in whole.params.items()}
    oracle = whole.state(whole.oracle)
    start = float(slicewise(whole, whole.forget, oracle).losses.mean())
    assert relearn_steps(whole, whole.forget, oracle, start * 1.0001) == (0, 30)  # batches round apart
    assert relearn_steps(whole, whole.forget, oracle, 0.0) == (None, 30)
    some, _ = relearn_steps(whole, whole.forget, oracle, 0.95 * start)
    more, _ = relearn_steps(whole, whole.forget, oracle, 0.90 * start)
    assert 0 < some <= more
    assert all(torch.equal(value, before[name]) for name, value in whole.params.items())


def test_volumes_are_files_else_the_samples_themselves(whole, mri_task):
    assert len(set(volume_names(whole.forget))) == len(whole.forget)
    assert set(volume_names(mri_task().retain)) == {"retain0.h5", "retain1.h5", "retain2.h5"}


def test_reconstructions_have_psnr_clean_targets_and_zero_filled_images(mri_task, dampened):
    task = mri_task(oracle=mri_task(seed=1).model)
    task = replace(task, evaluation={**task.evaluation, "unseen": task.retain})
    found = audit(task, Stage(dampened(task)), 0.1, reference=zero_filled)
    rows = {row.name: row for row in found.rows}
    means, clean = evaluate(task).summary(), rows["corrective: unknown, against clean targets"]
    assert clean.values["untouched"] == pytest.approx(means["unknown_clean_ssim"], abs=1e-4)
    assert rows["KTA psnr"].values["untouched"] == pytest.approx(means["unseen_psnr"], abs=1e-2)
    assert rows["KTA ssim"].spread["unlearned"] > 0
    assert "KTA nmse" not in rows
    lost = rows["corrective: lost on retain"].values["unlearned"]
    assert lost == pytest.approx(rows["BTA ssim"].values["untouched"] - rows["BTA ssim"].values["unlearned"])
    assert rows["MIA calibrated by zero-filled"].values.keys() == {"untouched", "unlearned", "oracle"}
    assert np.isfinite([value for row in found.rows for value in row.values.values() if value is not None]).all()
