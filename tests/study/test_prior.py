"""The prior of a study: fixed once, kept exactly, and the same search whatever mapper is there later."""

import json

import optuna
import pytest
from closed_form import ClosedForm

from ssdtune.errors import DataError
from ssdtune.fisher.analysis import analyse
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.report.dashboard_storage import DashboardStorage
from ssdtune.study.export import study_document
from ssdtune.study.facts import read_facts
from ssdtune.study.prior import fix_prior, read_prior
from ssdtune.study.run import run_study
from ssdtune.study.storage import load_study


@pytest.fixture(scope="module")
def analysis(task):
    return analyse(task)


def test_the_prior_is_predicted_for_the_studys_own_goal_and_kept_exactly(new_study, storage, analysis):
    study = new_study(storage=storage, sampler="spectrum", score={"retain_weight": 0.4, "min_retained": 0.9})
    facts, mapper = read_facts(study), ClosedForm("one", members=200)
    assert read_prior(study) is None
    fixed = fix_prior(study, facts, analysis, mapper)
    weight, least, floor_ratio, box = mapper.asked
    assert (weight, least) == (0.4, 0.9)
    assert floor_ratio == facts.rule.floor / facts.rule.q_forget
    assert (box.alpha, box.lam) == (facts.search.alpha, facts.search.lam)
    assert study.user_attrs["prior"]["pieces"] > 1
    assert max(len(json.dumps(value)) for name, value in study.user_attrs.items() if name.startswith("prior")) < 65535
    kept = read_prior(load_study("demo", storage))
    assert kept.prior.to_json() == fixed.prior.to_json()
    assert (kept.mapper, kept.trust, kept.leans_on_data) == ("one", 0.9, False)
    assert study.user_attrs["prior"]["mode"] == kept.prior.mode
    assert study_document(study)["prior"]["mapper"] == "one"


def test_a_resumed_study_goes_on_with_the_prior_it_began_with(new_study, storage, task, analysis):
    whole = new_study(sampler="spectrum", trials=6)
    fix_prior(whole, read_facts(whole), analysis, ClosedForm("one"))
    run_study(whole, task, analysis)
    for mapper, trials in ((ClosedForm("one"), 2), (ClosedForm("two", shift=1.0), 6)):
        study = load_study("demo", storage) if trials > 2 else new_study(storage=storage, sampler="spectrum", trials=6)
        assert fix_prior(study, read_facts(study), analysis, mapper).mapper == "one"
        run_study(study, task, analysis, trials=trials)
    assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]
    assert whole.trials[0].params == pytest.approx(read_prior(whole).prior.mode)


def test_the_bundled_mapper_serves_a_study_by_itself(new_study, task, analysis, tmp_path):
    study = new_study(sampler="spectrum", trials=2)
    run_study(study, task, analysis)
    kept = read_prior(study)
    assert kept.mapper == SpectrumMapper.load().version
    assert kept.leans_on_data or study.trials[0].params == pytest.approx(kept.prior.mode)
    own = tmp_path / "own.npz"
    SpectrumMapper.load().save(own)
    other = new_study(name="other", sampler="spectrum", mapper=own, trials=1)
    assert fix_prior(other, read_facts(other), analysis).mapper == kept.mapper
    with pytest.raises(DataError, match="cannot read the mapper"):
        missing = new_study(name="missing", sampler="spectrum", mapper=tmp_path / "missing.npz")
        run_study(missing, task, analysis)


@pytest.mark.parametrize("changed", [{"score": {"kind": "raw"}}, {"exponent": 2.0}])
def test_where_no_prior_can_be_had_the_search_does_without(new_study, task, analysis, changed):
    study = new_study(sampler="spectrum", trials=3, **changed)
    assert fix_prior(study, read_facts(study), analysis, ClosedForm("one")) is None
    run_study(study, task, analysis)
    assert len(study.trials) == 3
    assert read_prior(study) is None


def test_an_unlike_task_is_recorded_and_said(new_study, analysis):
    study = new_study(sampler="spectrum")
    fixed = fix_prior(study, read_facts(study), analysis, ClosedForm("one", trust=0.2))
    assert study.user_attrs["prior"]["leans_on_data"] is True
    assert "leans on the data" in fixed.in_words()
    assert (
        "leans on the data"
        not in fix_prior(new_study(name="other"), read_facts(study), analysis, ClosedForm("one")).in_words()
    )


def test_the_dashboard_does_not_show_the_packed_surfaces(new_study, storage, url, analysis):
    study = new_study(storage=storage, sampler="spectrum")
    fix_prior(study, read_facts(study), analysis, ClosedForm("one"))
    seen = optuna.load_study(study_name="demo", storage=DashboardStorage(url)).user_attrs
    assert seen["prior"]["mapper"] == "one"
    assert not [name for name in seen if name.startswith("prior:")]
