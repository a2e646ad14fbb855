"""What a mapper learns of the methods beside SSD, and the search that it serves."""

from dataclasses import replace

import numpy as np
import pytest
from small_task import make_task
from taught_of_ft import with_responses

from ssdtune.learning.fit_methods import fit_methods, predict_rows, rows_of
from ssdtune.learning.training import Recipe
from ssdtune.prior.knobs import KnobPrior
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.study.create import create_study
from ssdtune.study.prior import read_prior
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.tune import prepare
from ssdtune.studyfile import ScoreSection, SearchSection

QUICK = Recipe(networks=1, epochs=30, batch=96, hidden=16)


@pytest.fixture(scope="module")
def taught(experiences):
    return [with_responses(record, seed) for seed, record in enumerate(experiences)]


@pytest.fixture(scope="module")
def methods(taught):
    return fit_methods(taught, recipe=QUICK)


@pytest.fixture(scope="module")
def mapper_file(mapper, methods, tmp_path_factory):
    path = tmp_path_factory.mktemp("mapper") / "mapper.npz"
    replace(mapper, methods=methods).save(path)
    return path


def test_only_what_enough_tasks_recorded_is_learned(taught, methods):
    assert set(methods) == {"ft"}
    assert methods["ft"].tasks == len(taught)
    assert fit_methods(taught[:5], recipe=QUICK) == {}


def test_tasks_of_unseen_families_are_foreseen_in_units_of_their_own(taught):
    """Better than the mean response does, though every task has another best rate."""
    rows = [rows_of(record, "ft") for record in taught]
    foreseen = predict_rows("ft", rows, recipe=QUICK)
    mean = np.mean([each.y for each in foreseen], axis=(0, 1))
    error = np.mean([(each.members.mean(axis=0) - each.y) ** 2 for each in foreseen])
    assert error < 0.5 * np.mean([(mean - each.y) ** 2 for each in foreseen])


def test_an_output_that_is_not_finite_is_the_worst(taught):
    response = taught[0].responses["ft"]
    spoilt = {name: np.where(np.arange(24) == 3, np.nan, column) for name, column in response.measures.items()}
    rows = rows_of(replace(taught[0], responses={"ft": replace(response, measures=spoilt)}), "ft")
    assert rows.y[3].tolist() == [0.0, 1.0]
    assert np.isfinite(rows.y).all()


def test_they_are_kept_with_the_mapper(mapper, methods, mapper_file):
    loaded = SpectrumMapper.load(mapper_file)
    assert loaded.methods.keys() == methods.keys()
    assert loaded.version != mapper.version
    assert loaded.summary()["methods"] == {"ft": 12}
    local = np.random.default_rng(0).normal(size=(6, 4))
    features = dict.fromkeys(methods["ft"].global_.names, 0.4) | {
        name.removeprefix("log10_"): 0.4 for name in methods["ft"].global_.names
    }
    before, after = (each.members(local, features, 0.3) for each in (methods["ft"], loaded.methods["ft"]))
    np.testing.assert_allclose(after, before, atol=2e-3)


def new_study(mapper, method=None, **search):
    search = SearchSection(sampler="ei", mapper=mapper, **{"trials": 3, **search})
    task = make_task(oracle=True)
    study = create_study(task, method=method or {"name": "ft"}, search=search, score=ScoreSection(), name="moved")
    return study, task


def test_a_study_begins_where_other_tasks_foretell(mapper_file):
    study, task = new_study(mapper_file)
    unlearner = prepare(read_record(study), task)
    run_study(study, task, unlearner)
    kept = read_prior(study)
    assert isinstance(kept.prior, KnobPrior)
    assert study.trials[0].params == pytest.approx(kept.prior.mode)
    assert kept.summary()["mode"] == kept.prior.mode
    assert unlearner.preparation == 3 * (len(task.retain) + len(task.forget))  # the analysis is billed
    again, task = new_study(mapper_file)
    run_study(again, task, prepare(read_record(again), task))
    assert [trial.params for trial in again.trials] == [trial.params for trial in study.trials]


@pytest.mark.parametrize("method", [{"name": "ng"}, {"name": "ft", "batch_size": 1}, {"name": "ssd"}])
def test_what_the_mapper_does_not_know_begins_with_the_published_setting(mapper_file, method):
    study, task = new_study(mapper_file, method, trials=4)
    run_study(study, task, prepare(read_record(study), task), stop_early=False)
    chosen = read_record(study).chosen
    assert study.trials[0].params == pytest.approx(chosen.method.published(chosen.options)[0])
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 4
