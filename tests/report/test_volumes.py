"""Quality by volume is what evaluating the slices one by one gives, whatever order they were scored in."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ssdtune.objective.evaluation import evaluate
from ssdtune.report.html import measures_table, study_page
from ssdtune.report.page import render
from ssdtune.report.pictures import slice_pictures
from ssdtune.report.statement import fact_rows
from ssdtune.report.summary import summary_of
from ssdtune.report.view import read_view
from ssdtune.report.volumes import CHANGED, MOST, WORST, notable_slices, retained_interval, volume_table, volumes_of
from ssdtune.study.record import read_trial
from ssdtune.study.tune import prepare
from ssdtune.unlearning.method import run


@pytest.fixture(scope="module")
def view(volumes):
    return read_view(volumes[0])


def test_volumes_are_means_of_their_slices(view, volumes):
    task = volumes[1]
    params = run(prepare(view.record, task), view.best.setting, 0).params
    found = volumes_of(view)["retain"]
    assert found.names == ["a.h5", "b.h5", "c.h5", "d.h5"]
    for shown, given in ((found.untouched, None), (found.best, params)):
        by_slice = evaluate(task, given).values["retain"]["ssim"]
        np.testing.assert_allclose(shown, by_slice.reshape(4, 4).mean(1), atol=1e-5)
    assert np.ptp(found.best) > 1e-3, "the volumes must differ for their order to matter"
    assert found.best.mean() == pytest.approx(read_trial(view.best.trial)["retain_ssim"], abs=1e-5)
    assert found.spread()["best"] == pytest.approx(np.std(found.best, ddof=1))


def test_the_most_changed_come_first_and_the_spread_stands_by_the_mean(view):
    found = volumes_of(view)
    table = volume_table(found, {"retain": "kept"})
    assert [row[0] for row in table.rows] == ["kept"] * 4 + ["forget"] * 3
    changes = [abs(float(row[5])) for row in table.rows[:4]]
    assert changes == sorted(changes, reverse=True)
    assert len(volume_table(found, {}, most=2).rows) == 2 <= MOST
    rows = {(row[0], row[1]): row[2:] for row in measures_table(view).rows}
    spread = found["retain"].spread()
    assert rows["retain", "ssim, sd over volumes"] == [
        f"{spread[label]:.4f}" for label in ("original", "best", "change")
    ]
    assert "By volume (q = ssim; volumes: retain 4, forget (known) 3)" in render(study_page(view))


def test_without_a_trial_the_untouched_model_is_shown(view):
    empty = replace(view, trials=[])
    assert volumes_of(empty)["retain"].best is None
    assert [row[4:] for row in volume_table(volumes_of(empty), {}).rows] == [["", ""]] * 7
    render(study_page(empty))


def test_studies_that_kept_no_slices_have_no_volumes(view):
    assert volumes_of(replace(view, slices=None)) == {}
    assert "By volume" not in render(study_page(replace(view, slices=replace(view.slices, order=None))))


def test_the_interval_of_retained_is_that_of_a_ratio_of_means(view, volumes):
    found = volumes_of(view)["retain"]
    interval = retained_interval(view)
    assert interval.low < found.best.sum() / found.untouched.sum() < interval.high
    assert interval.volumes == 4
    # where the untouched model is equally good everywhere, it is Student's interval of a mean
    flat = replace(view.slices, columns=dict(view.slices.columns))
    flat.columns["retain"] = {view.record.quality: np.full(16, 0.8)}
    interval = retained_interval(replace(view, slices=flat))
    ratios = found.best / 0.8
    expected = stats.t.interval(0.95, 3, ratios.mean(), stats.sem(ratios))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert "paired t over 4 volumes" in interval.in_words()
    assert summary_of(view)["best"]["retained_interval"]["volumes"] == 4
    assert "95% interval" in dict(fact_rows(view))["best trial's retained"]


def test_one_volume_has_no_interval(view):
    kept = view.slices
    one = replace(kept, ids={"retain": [f"a.h5:{number}" for number in range(16)]}, order=kept.order)
    assert retained_interval(replace(view, slices=one)) is None
    assert retained_interval(replace(view, trials=[])) is None


def test_the_slices_to_look_at_are_the_most_changed_and_the_worst(view, volumes):
    task = volumes[1]
    params = run(prepare(view.record, task), view.best.setting, 0).params
    before, after = (evaluate(task, given).values["retain"]["ssim"] for given in (None, params))
    found = notable_slices(view)["retain"]
    assert abs(after - before)[found[CHANGED]] == pytest.approx(abs(after - before).max(), abs=1e-5)
    assert after[found.get(WORST, found[CHANGED])] == pytest.approx(after.min(), abs=1e-5)
    shown = slice_pictures(task, params, "retain", 2, {"retain": found})
    assert [picture.remark for picture in shown] == list(found)
    assert [picture.sample_id for picture in shown] == [task.retain.ids[index] for index in found.values()]
    assert notable_slices(replace(view, slices=None)) == {}
