"""A competition: shared measures, one prior, gone on with after a stop, refused when it is of something else."""

import sqlite3

import optuna
import pytest
from closed_form import ClosedForm
from small_task import ssd

from ssdtune.errors import ConfigError, StorageError
from ssdtune.fisher.analysis import analyse
from ssdtune.study.compete import Entry, entries_of, run_competition, share_prior
from ssdtune.study.create import measure_record
from ssdtune.study.prior import fix_prior, read_prior
from ssdtune.study.record import read_record, read_trial
from ssdtune.study.series import open_series
from ssdtune.study.storage import open_storage
from ssdtune.study.trials import count_trials
from ssdtune.studyfile import ScoreSection, SearchSection

SSD = {"name": "ssd"}
SEARCH = SearchSection.model_validate({"trials": 4})


@pytest.fixture(scope="module")
def analysis(task):
    return analyse(task)


@pytest.fixture
def storage():
    return optuna.storages.InMemoryStorage()


@pytest.fixture
def opened(task, storage):
    """``opened(*samplers, seeds=2, **score)``: the studies of a competition called cup."""

    def make(*samplers, seeds=2, search=SEARCH, **score):
        section = ScoreSection(**score)
        entries = entries_of(samplers, range(seeds))
        return open_series(
            "cup", entries, storage, lambda: measure_record(task, method=SSD, search=search, score=section)
        )

    return make


def test_every_sampler_runs_with_every_seed_and_shares_measures(opened, task, analysis):
    studies = opened("tpe", "random")
    assert [study.study_name for study in studies.values()] == [
        "cup-tpe-s0",
        "cup-random-s0",
        "cup-tpe-s1",
        "cup-random-s1",
    ]
    done = []
    run_competition(studies, task, ssd(task, analysis), 4, on_study=lambda entry, study: done.append(entry))
    assert done == list(studies)
    for entry, study in studies.items():
        record = read_record(study)
        assert (record.search.sampler, record.search.seed) == (entry.sampler, entry.seed)
        assert len(study.trials) == 4
    assert len({study.trials[0].params["alpha"] for study in studies.values()}) == 4


def test_a_setting_is_evaluated_once_for_all(opened, task, analysis):
    studies = opened("tpe", "random", seeds=1)
    first, second = studies.values()
    run_competition(studies, task, ssd(task, analysis), 2)
    setting = first.trials[0].params
    second.enqueue_trial(setting)
    run_competition(studies, task, ssd(task, analysis), 3)
    assert second.trials[2].params == setting
    assert read_trial(second.trials[2])["reused_from"] == "trial 0 of cup-tpe-s0"


def test_a_stopped_competition_goes_on_and_may_grow(opened, task, analysis):
    class Stop(Exception):
        pass

    def stop(entry, study):
        raise Stop

    with pytest.raises(Stop):
        run_competition(opened("random", "tpe"), task, ssd(task, analysis), 3, on_study=stop)
    studies = opened("random", "tpe", "qmc")
    assert [len(study.trials) for study in studies.values()] == [3, 0, 0, 0, 0, 0]
    run_competition(studies, task, ssd(task, analysis), 3)
    assert {len(study.trials) for study in studies.values()} == {3}


def test_all_studies_have_the_same_prior(opened, task, analysis):
    studies = opened("spectrum", "tpe", seeds=2)
    last = studies[Entry("spectrum", 1)]
    fixed = fix_prior(last, read_record(last), ssd(task, analysis), ClosedForm("one"))
    share_prior(studies, ssd(task, analysis))
    for entry, study in studies.items():
        kept = read_prior(study)
        if entry.sampler == "tpe":
            assert kept is None
        else:
            assert kept.mapper == "one"
            assert kept.prior.to_json() == fixed.prior.to_json()
    run_competition(studies, task, ssd(task, analysis), 2)
    firsts = [study.trials[0].params for entry, study in studies.items() if entry.sampler != "tpe"]
    assert firsts == [pytest.approx(fixed.prior.mode)] * 2


def test_without_a_prior_the_samplers_do_without(opened, task, analysis):
    assert share_prior(opened("spectrum", kind="raw"), ssd(task, analysis)) is None
    assert share_prior(opened("tpe"), ssd(task, analysis)) is None


def test_studies_of_something_else_are_refused(opened, new_study, storage):
    new_study("cup-random-s0", storage=storage, score={"retain_weight": 0.5})
    opened("tpe", seeds=1)
    with pytest.raises(StorageError, match="made with other settings"):
        opened("tpe", "random", seeds=1)


def test_samplers_must_be_known():
    with pytest.raises(ConfigError, match="no sampler 'annealing'"):
        entries_of(["tpe", "annealing"], [0])
    with pytest.raises(ConfigError, match="no samplers"):
        entries_of([], [0])
    assert entries_of(["tpe", "tpe"], [3]) == [Entry("tpe", 3)]


def test_one_bar_counts_the_trials_of_all(opened, task, analysis):
    seen = []

    def track(items, description, total):
        for item in items:
            seen.append((item, total))
            yield item

    run_competition(opened("random", "tpe", seeds=1), task, ssd(task, analysis), 2, track=track)
    assert seen == [(place, 4) for place in range(4)]


def test_a_place_that_another_machine_has_lost_is_taken(task, analysis, tmp_path):
    def opened():
        storage = open_storage(f"sqlite:///{tmp_path}/cup.db", create=True)
        return open_series(
            "cup",
            entries_of(["random"], range(1)),
            storage,
            lambda: measure_record(task, method=SSD, search=SEARCH),
        )

    (study,) = opened().values()
    for _ in range(4):
        study.ask().set_user_attr("worker", "elsewhere-1")
    storage = open_storage(f"sqlite:///{tmp_path}/cup.db")
    for trial_id in range(1, 5):
        storage.record_heartbeat(trial_id)
    with sqlite3.connect(tmp_path / "cup.db") as database:
        database.execute("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'")
    run_competition(opened(), task, ssd(task, analysis), 4)
    assert count_trials(study).finished == 4
