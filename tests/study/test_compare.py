"""A comparison: published settings first, equal budgets, gone on with after any stop, refused when it is of another."""

from dataclasses import replace

import optuna
import pytest
from small_task import make_task
from sqlalchemy.exc import OperationalError

from ssdtune.errors import ConfigError, StorageError
from ssdtune.objective.evaluator import Evaluator
from ssdtune.progress import silent
from ssdtune.study import lost as lost_module
from ssdtune.study import run as run_module
from ssdtune.study.compare import (
    Budget,
    Rival,
    by_method,
    enqueue_published,
    lacking,
    middle,
    price_of,
    rivals_of,
    run_rivals,
    spent,
)
from ssdtune.study.create import measure_record
from ssdtune.study.record import PREPARATION_SECONDS, read_baseline, read_record, write_record
from ssdtune.study.series import open_series
from ssdtune.study.storage import open_storage
from ssdtune.study.trials import count_trials
from ssdtune.study.tune import prepare
from ssdtune.studyfile import SearchSection
from ssdtune.unlearning.ft import FTUnlearner
from ssdtune.unlearning.method import Knob
from ssdtune.unlearning.methods import Chosen, choose_method, find_method
from ssdtune.unlearning.training import Trainer

GIVEN = {"name": "spectral"}
FT = {"name": "ft", "steps": [1, 3]}


@pytest.fixture
def storage():
    return optuna.storages.InMemoryStorage()


@pytest.fixture
def opened(task, storage):
    """``opened("ft,ng", seeds=1)``: the studies of a comparison called field."""

    def make(labels, seeds=1, given=GIVEN, trials=3, on=storage):
        rivals = rivals_of(labels.split(","), range(seeds), given)
        search = SearchSection(sampler="tpe", trials=trials)
        measure = lambda: measure_record(task, method=rivals[0].chosen.section(), search=search)  # noqa: E731
        return open_series("field", rivals, on, measure)

    return make


def carry_out(studies, task, budget, **more):
    for group in by_method(studies).values():
        study = next(iter(group.values()))
        run_rivals(group, task, prepare(read_record(study), task), budget, **more)


def test_each_method_has_studies_that_differ_in_the_method_alone(opened):
    studies = opened("ft,ssd@random", seeds=2, given=FT)
    assert [study.study_name for study in studies.values()] == [
        "field-ft-s0",
        "field-ft-s1",
        "field-ssd.random-s0",
        "field-ssd.random-s1",
    ]
    records = [read_record(study) for study in studies.values()]
    assert [record.method["name"] for record in records] == ["ft", "ft", "ssd", "ssd"]
    assert [(record.search.sampler, record.search.seed) for record in records] == [
        ("tpe", 0),
        ("tpe", 1),
        ("random", 0),
        ("random", 1),
    ]
    assert records[0].method["steps"] == [1, 3]  # the study file's own method keeps its options
    assert len({(record.rule, record.quality) for record in records}) == 1
    assert all(read_baseline(study).columns for study in studies.values())


def test_published_settings_come_first_also_after_a_stop(opened, task):
    studies = opened("ng", given={"name": "ng", "steps": [1, 3]}, trials=4)
    ((rival, study),) = studies.items()
    published = find_method("ng").published(rival.chosen.options)
    enqueue_published(study, rival.chosen, rival.knobs)
    study.tell(study.ask().number, state=optuna.trial.TrialState.FAIL)  # interrupted
    carry_out(studies, task, Budget(trials=4))
    finished = [trial.params for trial in study.trials if trial.state.is_finished() and trial.values]
    assert sorted(setting["mu"] for setting in finished[:2]) == [setting["mu"] for setting in published]
    count = len(study.trials)
    enqueue_published(study, rival.chosen, rival.knobs)
    assert len(study.trials) == count


def test_equal_cost_stops_each_study_where_it_is_spent_and_bills_the_preparation(opened, task):
    studies = opened("ft,ssd", given=FT)
    carry_out(studies, task, Budget(cost=400.0), seconds=2.5)
    for rival, study in studies.items():
        costs = [trial.user_attrs["measures"]["cost"] for trial in study.trials if trial.values]
        once = 3 * (40 + 12) if rival.label == "ssd" else 0
        assert spent(study) == once + sum(costs)
        assert spent(study) >= 400 > spent(study) - costs[-1]
        assert study.user_attrs[PREPARATION_SECONDS] == 2.5
    carry_out(studies, task, Budget(cost=400.0))  # nothing is left to do, and a cache makes no bill smaller
    assert all(study.user_attrs[PREPARATION_SECONDS] == 2.5 for study in studies.values())


def test_a_comparison_whose_storage_is_lost_goes_on(opened, task, tmp_path, monkeypatch):
    storage = open_storage(f"sqlite:///{tmp_path}/field.db", create=True)
    written, write = [], run_module.write_outcome

    def lost(*arguments):
        written.append(arguments)
        if len(written) == 3:
            raise OperationalError("insert", {}, Exception("disk I/O error"))
        return write(*arguments)

    monkeypatch.setattr(run_module, "write_outcome", lost)
    with pytest.raises(StorageError, match="disk I/O error"):
        carry_out(opened("ft,ssd", given=FT, on=storage), task, Budget(trials=2))
    monkeypatch.setattr(lost_module, "_is_alive", lambda process: False)  # the next one runs elsewhere
    studies = opened("ft,ssd", given=FT, on=open_storage(f"sqlite:///{tmp_path}/field.db"))
    assert [count_trials(study).finished for study in studies.values()] == [2, 0]
    carry_out(studies, task, Budget(trials=2))
    assert [count_trials(study).finished for study in studies.values()] == [2, 2]


def test_a_comparison_grows_by_methods_seeds_and_trials(opened, task):
    carry_out(opened("ft", given=FT), task, Budget(trials=1))
    studies = opened("ft,ssd", seeds=2, given=FT, trials=2)
    carry_out(studies, task, Budget(trials=2))
    assert {count_trials(study).finished for study in studies.values()} == {2}
    late = studies[Rival("ssd", 1, "tpe", choose_method({"name": "ssd"}))]
    assert read_baseline(late).columns.keys() == {"retain", "forget", "unknown"}  # taken over, not measured again


def test_studies_of_other_options_are_refused(opened):
    opened("ft", given=FT)
    with pytest.raises(StorageError, match="made with other settings"):
        opened("ft", given={"name": "ft", "steps": [1, 4]})


def test_labels_must_be_known():
    for labels, words in (
        (["ftt"], "did you mean 'ft'"),
        (["ft@annealing"], "no sampler 'annealing'"),
        ([], "name some"),
    ):
        with pytest.raises(ConfigError, match=words):
            rivals_of(labels, [0], GIVEN)
    everyone = {rival.label for rival in rivals_of(["all", "ssd@spectrum"], [0], GIVEN)}
    assert {"ft", "ssd", "ssd@spectrum"} <= everyone


def test_a_method_that_the_task_cannot_serve_is_named(task):
    rivals = rivals_of(["ng", "ft"], [0], {"name": "ng", "bounded": True})
    assert lacking(rivals, task) == {"ng": "an oracle, whose loss bounds the ascent"}
    assert not lacking(rivals, make_task(oracle=True))


class Fixed:
    """A method without knobs."""

    name, summary, sampler, Options = "fixed", "", "tpe", find_method("ft").Options

    def needs(self, task, options):
        return None

    def knobs(self, options):
        return ()

    def published(self, options):
        return [{}]

    def prepare(self, task, options, *, analyse, track):
        return FixedUnlearner(Trainer(task, options))


class FixedUnlearner(FTUnlearner):
    def __call__(self, setting, seed):
        return super().__call__({"lr": 1.0, "steps": 2}, seed)

    def effect(self, setting):
        return "fixed"

    def notes(self, setting):
        return {}


def test_a_method_without_knobs_is_one_trial(task, storage):
    method = Fixed()
    rival = Rival("fixed", 0, "tpe", Chosen(method, method.Options()))
    rivals = [*rivals_of(["ft"], [0], FT), rival]
    measure = lambda: measure_record(task, method=FT, search=SearchSection(sampler="tpe", trials=3))  # noqa: E731
    budget = Budget(trials=3)
    assert budget.of(rival) == 1
    record = rival.record(measure())
    assert (record.knobs, record.search.trials) == ((), 1)
    study = optuna.create_study(study_name="fixed", storage=storage, direction="maximize")

    write_record(study, replace(record, method=FT))
    unlearner = method.prepare(task, method.Options(), analyse=None, track=silent)
    run_rivals({rival: study}, task, unlearner, budget)
    run_rivals({rival: study}, task, unlearner, budget)
    assert len(study.trials) == 1 and budget.is_spent(rival, study)
    assert rivals[0].knobs


def test_the_middle_of_a_range_is_that_of_its_scale():
    knobs = [Knob("a", 0.01, 1.0), Knob("b", 0.0, 4.0, "linear"), Knob("n", 4, 25, integer=True)]
    assert middle(knobs) == {"a": pytest.approx(0.1), "b": 2.0, "n": 10}


def test_of_a_method_that_chooses_each_is_priced_and_the_dearest_taken_to_win(task, opened):
    def price(given, budget):
        (rival,) = rivals_of([given["name"]], [0], given)
        ((_, study),) = opened(given["name"], given=given, on=optuna.storages.InMemoryStorage()).items()
        record = read_record(study)
        return price_of(rival, record, prepare(record, task), Evaluator(task), budget)

    both = {"name": "auto", "methods": ["ft", "ng"]}
    few, more = (price(both, Budget(trials=trials)) for trials in (2, 12))
    assert few.trials == 2 and more.trials == 12
    assert few.preparation == more.preparation
    assert few.cost < more.cost  # of two trials one is of each, of twelve most are of the dearer
    limited = price(both, Budget(cost=more.preparation + 3 * more.cost))
    assert 3 <= limited.trials < 12
