"""Making studies: baseline, floor and its source, provenance, and what is refused before anything is written."""

import csv
import json
from dataclasses import replace

import pytest
import small_task
from small_task import ssd

import ssdtune
from ssdtune.errors import ConfigError, DataError, StorageError
from ssdtune.objective.evaluation import evaluate
from ssdtune.study.create import create_study, write_study
from ssdtune.study.export import export_study, study_document
from ssdtune.study.record import is_ours, read_baseline, read_columns, read_record, read_trial
from ssdtune.study.run import run_study
from ssdtune.study.storage import load_study, open_storage, study_names
from ssdtune.study.tune import prepare, tune, unlearned_params
from ssdtune.studyfile import FisherSection, SearchSection


def test_record_survive_the_storage(storage, new_study, task):
    record = read_record(new_study(storage=storage, exponent=2.0))
    again = read_record(load_study("demo", storage))
    assert again == record
    assert again.identity == task.identity
    assert again.rule.floor == 0.02
    assert again.floor_source == "number"
    assert again.method == {"name": "ssd", "seed": 0, "alpha": [0.1, 300.0], "lambda": [0.03, 300.0], "exponent": 2.0}
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
    record = read_record(new_study(task=task, score={"floor": wanted}))
    expected = {
        "oracle": (record.oracle or {}).get("forget_confidence"),
        "clean": 0.1 * record.rule.q_retain,
        "zero-filled": 0.2,
        "number": wanted if wanted != "auto" else 0.0,
    }
    assert record.floor_source == source
    assert record.rule.floor == pytest.approx(expected[source])


def test_a_floor_that_cannot_be_had_is_refused(new_study):
    with pytest.raises(ConfigError, match=r"no floor 'clean'.*this task offers number"):
        new_study(score={"floor": "clean"})
    with pytest.raises(ConfigError, match="no floor 'auto'"):
        new_study(task=small_task.make_task(floor=None))


def test_the_raw_score_needs_no_floor(new_study):
    record = read_record(new_study(task=small_task.make_task(floor=None), score={"kind": "raw"}))
    assert record.floor_source == "none"


def test_an_oracle_that_knows_the_forget_set_is_refused(storage, new_study, task):
    with pytest.raises(ConfigError, match=r"nothing to forget: .* is not 0.05 above the oracle's"):
        new_study(task=replace(task, oracle=task.model), storage=storage)
    assert study_names(storage) == []


def test_a_sample_of_which_the_output_is_not_finite_is_named(new_study, task):
    point, label = task.retain[3]
    broken = [*task.retain[:3], (point * float("nan"), label), *task.retain[4:]]
    with pytest.raises(DataError, match="non-finite output for 1 of its samples, 3 of the retain set"):
        new_study(task=replace(task, retain=broken))


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
    attributes = dict(list(read_record(whole).to_attributes().items())[:-1])
    assert is_ours(read_record(whole).to_attributes())
    assert not is_ours(attributes)
    with pytest.raises(StorageError, match="creation was cut short"):
        read_record(write_study_of(attributes, storage))


def write_study_of(attributes, storage):
    class Record:
        untouched = None

        def to_attributes(self):
            return attributes

    return write_study("cut", Record(), storage)


def test_export_round_trips(storage, new_study, task, analysis, tmp_path):
    study = new_study(storage=storage, trials=3)
    run_study(study, task, ssd(task, analysis))
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
        assert float(row["forget_confidence"]) == read_trial(trial)["forget_confidence"]
    with pytest.raises(ConfigError, match="cannot tell the format"):
        export_study(study, tmp_path / "study.xlsx")
    with pytest.raises(DataError, match="cannot write"):
        export_study(study, tmp_path / "study.csv" / "inside.csv")


def test_tune_finds_a_model_that_forgets(task, analysis, url):
    study = tune(task, trials=15, sampler="tpe", storage=url, analysis=analysis)
    params = unlearned_params(study, task, analysis)
    unlearned = evaluate(task, params)
    assert unlearned.quality("forget") < 0.5 < 0.95 < unlearned.quality("retain")
    assert load_study("points", open_storage(url)).best_trial.params == study.best_trial.params


def test_tune_refuses_values_out_of_range(task, analysis):
    with pytest.raises(ConfigError, match="retain_weight"):
        tune(task, retain_weight=2.0, analysis=analysis)
    with pytest.raises(ConfigError, match="sampler"):
        tune(task, sampler="annealing", analysis=analysis)


def test_no_feasible_trial_has_no_unlearned_parameters(task, analysis):
    method = {"name": "ssd", "alpha": (0.001, 0.01), "lambda": (0.001, 0.002)}
    study = tune(task, trials=2, method=method, analysis=analysis)
    with pytest.raises(ConfigError, match="no feasible trial"):
        unlearned_params(study, task, analysis)


def test_the_public_names_are_there():
    assert ssdtune.tune is tune


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"name": "sdd"}, r"no method 'sdd', method.name, did you mean 'ssd'\?"),
        ({"name": "ssd", "alpah": [1, 2]}, r"unknown key 'method.alpah'.*did you mean 'alpha'"),
        ({"name": "ssd", "alpha": [2, 1]}, r"'method.alpha' = \[2, 1\] is not valid.*the range must rise"),
        ({"name": "ssd", "exponent": 0}, "'method.exponent' = 0 is not valid"),
    ],
)
def test_a_method_section_that_is_wrong_is_one_line(section, words, storage, task):
    with pytest.raises(ConfigError, match=words) as caught:
        create_study(task, storage, method=section)
    assert len(str(caught.value).splitlines()) == 1
    assert study_names(storage) == []


def test_the_sampler_is_the_methods_unless_it_is_named(new_study):
    assert read_record(new_study("own", sampler="auto")).search.sampler == "spectrum"
    assert read_record(new_study("named", sampler="tpe")).search.sampler == "tpe"


def test_slices_are_kept_with_study_and_trials(storage, new_study, task, analysis):
    study = new_study(storage=storage, trials=3)
    run_study(study, task, ssd(task, analysis), stop_early=False)
    study = load_study("demo", storage)
    baseline = read_baseline(study)
    assert baseline.ids["forget"] == [str(number) for number in range(12)]
    for name, columns in baseline.columns.items():
        assert columns["confidence"].mean() == pytest.approx(read_record(study).baseline[f"{name}_confidence"])
    for trial in study.trials:
        columns = read_columns(trial)
        assert {name: len(column) for name, column in columns.items()} == {"retain": 40, "forget": 12, "unknown": 8}
        for name, column in columns.items():
            assert column.mean() == pytest.approx(read_trial(trial)[f"{name}_confidence"], abs=1e-6)


def test_a_study_of_a_newer_version_is_refused_in_words(storage, new_study):
    study = new_study(storage=storage)
    study.set_user_attr("version", 99)
    with pytest.raises(StorageError, match="made by a newer ssdtune"):
        read_record(study)


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_from_python_too_the_analysis_is_that_of_the_study_and_the_inputs_are_checked(task):
    study = create_study(
        task, method={"name": "ssd"}, fisher=FisherSection(definition="batch", batch_size=4, denominator="full")
    )
    found = prepare(read_record(study), task).analysis
    assert (found.definition, found.batch_size, found.denominator) == ("batch", 4, "full")
    study = tune(task, 3, sampler="random", min_retained=0.0)
    other = replace(task, model=small_task.trained_model(task.retain, seed=5))
    with pytest.raises(DataError, match="model"):
        unlearned_params(study, other)


def test_the_spectrum_sampler_is_refused_for_other_knobs(storage, task):
    with pytest.raises(ConfigError, match="sampler 'spectrum' is made for the knobs of ssd, not for those of 'ft'"):
        create_study(task, storage, method={"name": "ft"}, search=SearchSection(sampler="spectrum"))
    assert study_names(storage) == []
