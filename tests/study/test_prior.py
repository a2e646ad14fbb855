"""The prior of a study: fixed once, kept exactly, and the same search whatever mapper is there later."""

import json

import optuna
import pytest
from closed_form import ClosedForm
from small_task import ssd

from ssdtune.errors import DataError, StorageError
from ssdtune.fisher.analysis import analyse
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.report.dashboard_storage import DashboardStorage
from ssdtune.study.export import study_document
from ssdtune.study.prior import fix_prior, keep_prior, read_prior, study_sampler
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.storage import load_study, open_storage


@pytest.fixture(scope="module")
def analysis(task):
    return analyse(task)


def test_the_prior_is_predicted_for_the_studys_own_goal_and_kept_exactly(new_study, storage, task, analysis):
    study = new_study(storage=storage, sampler="spectrum", score={"retain_weight": 0.4, "min_retained": 0.9})
    record, mapper = read_record(study), ClosedForm("one", members=200)
    assert read_prior(study) is None
    fixed = fix_prior(study, record, ssd(task, analysis), mapper)
    weight, least, floor_ratio, box = mapper.asked
    assert (weight, least) == (0.4, 0.9)
    assert floor_ratio == record.rule.floor / record.rule.q_forget
    assert (box.alpha, box.lam) == ((0.1, 300.0), (0.03, 300.0))
    assert study.user_attrs["prior"]["pieces"] > 1
    kept_pieces = storage.get_study_system_attrs(storage.get_study_id_from_name("demo"))
    assert max(len(json.dumps(value)) for value in kept_pieces.values()) < 65535
    assert max(len(json.dumps(value)) for value in study.user_attrs.values()) < 4000
    kept = read_prior(load_study("demo", storage))
    assert kept.prior.to_json() == fixed.prior.to_json()
    assert (kept.mapper, kept.trust, kept.leans_on_data) == ("one", 0.9, False)
    assert study.user_attrs["prior"]["mode"] == kept.prior.mode
    assert study_document(study)["prior"]["mapper"] == "one"


def test_a_resumed_study_goes_on_with_the_prior_it_began_with(new_study, storage, task, analysis):
    whole = new_study(sampler="spectrum", trials=6)
    fix_prior(whole, read_record(whole), ssd(task, analysis), ClosedForm("one"))
    run_study(whole, task, ssd(task, analysis))
    for mapper, trials in ((ClosedForm("one"), 2), (ClosedForm("two", shift=1.0), 6)):
        study = load_study("demo", storage) if trials > 2 else new_study(storage=storage, sampler="spectrum", trials=6)
        assert fix_prior(study, read_record(study), ssd(task, analysis), mapper).mapper == "one"
        run_study(study, task, ssd(task, analysis), trials=trials)
    assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]
    assert whole.trials[0].params == pytest.approx(read_prior(whole).prior.mode)


def test_the_bundled_mapper_serves_a_study_by_itself(new_study, task, analysis, tmp_path):
    study = new_study(sampler="spectrum", trials=2)
    run_study(study, task, ssd(task, analysis))
    kept = read_prior(study)
    assert kept.mapper == SpectrumMapper.load().version
    assert kept.leans_on_data or study.trials[0].params == pytest.approx(kept.prior.mode)
    own = tmp_path / "own.npz"
    SpectrumMapper.load().save(own)
    other = new_study(name="other", sampler="spectrum", mapper=own, trials=1)
    assert fix_prior(other, read_record(other), ssd(task, analysis)).mapper == kept.mapper
    with pytest.raises(DataError, match="cannot read the mapper"):
        missing = new_study(name="missing", sampler="spectrum", mapper=tmp_path / "missing.npz")
        run_study(missing, task, ssd(task, analysis))


@pytest.mark.parametrize("changed", [{"score": {"kind": "raw"}}, {"exponent": 2.0}])
def test_where_no_prior_can_be_had_the_search_does_without(new_study, task, analysis, changed):
    study = new_study(sampler="spectrum", trials=3, **changed)
    made = ssd(task, analysis, exponent=changed.get("exponent", 1.0))
    assert fix_prior(study, read_record(study), made, ClosedForm("one")) is None
    run_study(study, task, made)
    assert len(study.trials) == 3
    assert read_prior(study) is None


def test_an_unlike_task_is_recorded_and_said(new_study, task, analysis):
    study = new_study(sampler="spectrum")
    fixed = fix_prior(study, read_record(study), ssd(task, analysis), ClosedForm("one", trust=0.2))
    assert study.user_attrs["prior"]["leans_on_data"] is True
    assert "leans on the data" in fixed.in_words()
    assert (
        "leans on the data"
        not in fix_prior(new_study(name="other"), read_record(study), ssd(task, analysis), ClosedForm("one")).in_words()
    )


def test_the_dashboard_does_not_show_the_packed_surfaces(new_study, storage, url, task, analysis):
    study = new_study(storage=storage, sampler="spectrum")
    fix_prior(study, read_record(study), ssd(task, analysis), ClosedForm("one"))
    seen = optuna.load_study(study_name="demo", storage=DashboardStorage(url)).user_attrs
    assert seen["prior"]["mapper"] == "one"
    assert not [name for name in seen if name.startswith("prior:")]


def test_two_machines_that_start_at_once_end_with_one_prior_whole(new_study, storage, url, task, analysis):
    """Each writes its own pieces before the other's header; whichever header is last, its pieces are all there."""
    one, two = new_study(storage=storage, sampler="spectrum"), load_study("demo", open_storage(url))
    record, made = read_record(one), ssd(task, analysis)
    first = fix_prior(new_study("a", sampler="spectrum"), record, made, ClosedForm("one", members=200))
    second = fix_prior(new_study("b", sampler="spectrum"), record, made, ClosedForm("two", shift=1.0, members=150))
    sampler = study_sampler(one, record, made)  # has a prior of its own by now
    written = []

    def interleave(study, prior):
        header = {}
        study_set, kept = study.set_user_attr, study
        study.set_user_attr = lambda name, value: header.update({name: value})
        keep_prior(kept, prior)
        study.set_user_attr = study_set
        written.append((study, header))

    interleave(one, first)
    interleave(two, second)
    for study, header in reversed(written):
        for name, value in header.items():
            study.set_user_attr(name, value)
    assert read_prior(one).prior.to_json() == read_prior(two).prior.to_json() == first.prior.to_json()
    assert sampler.prior().to_json() == first.prior.to_json()  # follows the one that the study ended up with


def test_a_prior_of_an_earlier_version_whose_pieces_mixed_counts_as_none(new_study, task, analysis):
    study = new_study(sampler="spectrum")
    study.set_user_attr("prior:0", "pieces of one")
    study.set_user_attr("prior:1", "machine and another")
    study.set_user_attr("prior", {"mapper": "one", "pieces": 2})
    assert read_prior(study) is None
    assert fix_prior(study, read_record(study), ssd(task, analysis), ClosedForm("two")).mapper == "two"


def test_pieces_that_are_gone_are_one_line(new_study, storage, task, analysis):
    study = new_study(storage=storage, sampler="spectrum")
    fix_prior(study, read_record(study), ssd(task, analysis), ClosedForm("one"))
    study.set_user_attr("prior", {**study.user_attrs["prior"], "content": "0" * 32})
    with pytest.raises(StorageError, match="the study's 'prior' is incomplete"):
        read_prior(study)
