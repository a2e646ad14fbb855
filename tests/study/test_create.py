"""Making studies: baseline, floor and its source, provenance, and what is refused before anything is written."""

import csv
import json
from dataclasses import replace

import pytest
import small_task
import torch
from torch import nn

import ssdtune
from ssdtune.errors import ConfigError, DataError, StorageError
from ssdtune.objective.evaluation import evaluate
from ssdtune.samplers.recorded import recorded
from ssdtune.study.create import write_study
from ssdtune.study.export import export_study, study_document
from ssdtune.study.facts import is_ours, read_facts
from ssdtune.study.run import run_study
from ssdtune.study.storage import load_study, open_storage, study_names
from ssdtune.study.tune import tune, unlearned_params


def test_facts_survive_the_storage(storage, new_study, task):
    facts = read_facts(new_study(storage=storage, exponent=2.0))
    again = read_facts(load_study("demo", storage))
    assert again == facts
    assert again.identity == task.identity
    assert again.rule.floor == 0.02
    assert again.floor_source == "number"
    assert again.search.exponent == 2.0
    assert again.baseline == pytest.approx(evaluate(task).summary())
    assert again.versions.keys() >= {"python", "torch", "optuna", "ssdtune"}
    json.dumps(load_study("demo", storage).user_attrs, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "wanted", "source"),
    [
        ({"oracle": True}, "auto", "oracle"),
        ({"oracle": True, "floor_sources": {"clean": lambda q: 0.1 * q}}, "auto", "oracle"),
        ({"floor_sources": {"clean": lambda q: 0.1 * q, "zero-filled": lambda q: 0.2}}, "auto", "clean"),
        ({"floor_sources": {"clean": lambda q: 0.1 * q, "zero-filled": lambda q: 0.2}}, "zero-filled", "zero-filled"),
        ({"oracle": True}, 0.3, "number"),
        ({"floor": 0.0}, "auto", "number"),
    ],
)
def test_the_floor_is_the_best_available_or_the_one_asked_for(changes, wanted, source, new_study):
    task = small_task.make_task(**changes)
    facts = read_facts(new_study(task=task, score={"floor": wanted}))
    expected = {
        "oracle": (facts.oracle or {}).get("forget_confidence"),
        "clean": 0.1 * facts.rule.q_retain,
        "zero-filled": 0.2,
        "number": wanted if wanted != "auto" else 0.0,
    }
    assert facts.floor_source == source
    assert facts.rule.floor == pytest.approx(expected[source])


def test_a_floor_that_cannot_be_had_is_refused(new_study):
    with pytest.raises(ConfigError, match=r"no floor 'clean'.*this task offers number"):
        new_study(score={"floor": "clean"})
    with pytest.raises(ConfigError, match="no floor 'auto'"):
        new_study(task=small_task.make_task(floor=None))


def test_the_raw_score_needs_no_floor(new_study):
    facts = read_facts(new_study(task=small_task.make_task(floor=None), score={"kind": "raw"}))
    assert facts.floor_source == "none"


def test_an_oracle_that_knows_the_forget_set_is_refused(storage, new_study, task):
    with pytest.raises(ConfigError, match=r"nothing to forget: .* is not 0.05 above the oracle's"):
        new_study(task=replace(task, oracle=task.model), storage=storage)
    assert study_names(storage) == []


def test_an_untouched_model_that_is_not_finite_is_refused(new_study, task):
    broken = nn.Sequential(*[nn.Linear(2, 3)])
    with torch.no_grad():
        broken[0].bias.fill_(torch.nan)
    with pytest.raises(DataError, match="the untouched model gives non-finite output, retain set"):
        new_study(task=replace(task, model=broken))


def test_a_study_is_written_whole_or_not_at_all(storage, new_study):
    class Strange:
        def to_attributes(self):
            yield from ()
            raise TypeError

    with pytest.raises(AttributeError):
        write_study("half", Strange(), storage)
    assert study_names(storage) == []


def test_a_study_cut_short_is_not_taken_for_whole(storage, new_study):
    whole = new_study(storage=storage)
    attributes = dict(list(read_facts(whole).to_attributes().items())[:-1])
    assert is_ours(read_facts(whole).to_attributes())
    assert not is_ours(attributes)
    with pytest.raises(StorageError, match="creation was cut short"):
        read_facts(write_study_of(attributes, storage))


def write_study_of(attributes, storage):
    class Facts:
        untouched = None

        def to_attributes(self):
            return attributes

    return write_study("cut", Facts(), storage)


def test_export_round_trips(storage, new_study, task, analysis, tmp_path):
    study = new_study(storage=storage, trials=3)
    run_study(study, task, analysis)
    document = json.loads(export_study(study, tmp_path / "study.json").read_text())
    assert document == study_document(study)
    assert document["name"] == "demo"
    assert document["score"]["retain_weight"] == 0.2
    with export_study(study, tmp_path / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, trial in zip(rows, study.trials, strict=True):
        assert int(row["number"]) == trial.number
        assert float(row["alpha"]) == trial.params["alpha"]
        assert float(row["score"]) == trial.value
        assert float(row["violation_min_retained"]) == trial.constraints["min_retained"]
        assert float(row["forget_confidence"]) == recorded(trial)["forget_confidence"]
    with pytest.raises(ConfigError, match="cannot tell the format"):
        export_study(study, tmp_path / "study.xlsx")
    with pytest.raises(DataError, match="cannot write"):
        export_study(study, tmp_path / "study.csv" / "inside.csv")


def test_tune_finds_a_model_that_forgets(task, analysis, url):
    study = tune(task, trials=15, sampler="tpe", storage=url, analysis=analysis)
    params = unlearned_params(study, analysis)
    unlearned = evaluate(task, params)
    assert unlearned.quality("forget") < 0.5 < 0.95 < unlearned.quality("retain")
    assert load_study("points", open_storage(url)).best_trial.params == study.best_trial.params


def test_tune_refuses_values_out_of_range(task, analysis):
    with pytest.raises(ConfigError, match="retain_weight"):
        tune(task, retain_weight=2.0, analysis=analysis)
    with pytest.raises(ConfigError, match="sampler"):
        tune(task, sampler="annealing", analysis=analysis)


def test_no_feasible_trial_has_no_unlearned_parameters(task, analysis):
    study = tune(task, trials=2, alpha=(0.001, 0.01), lam=(0.001, 0.002), analysis=analysis)
    with pytest.raises(ConfigError, match="no feasible trial"):
        unlearned_params(study, analysis)


def test_the_public_names_are_there():
    assert ssdtune.tune is tune
