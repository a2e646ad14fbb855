"""Checkpoints of one trajectory are trials of their own, at no more than their evaluation's cost."""

import pytest
import small_task

from ssdtune.errors import ConfigError
from ssdtune.objective.evaluation import evaluate
from ssdtune.study.create import create_study
from ssdtune.study.record import read_record, read_trial, setting_of
from ssdtune.study.run import run_study, setting_seed
from ssdtune.study.tune import prepare
from ssdtune.studyfile import SearchSection
from ssdtune.unlearning.method import run
from ssdtune.unlearning.methods import choose_method

SECTION = {"checkpoints": 3, "decay": False, "steps": [2, 40], "lr": [0.1, 3.0]}


@pytest.mark.parametrize("name", ["ft", "nl-ft", "psg"])
def test_each_is_a_trial_with_the_steps_that_it_took(name):
    task = small_task.make_task(oracle=True)
    study = create_study(task, method={"name": name, **SECTION}, search=SearchSection(trials=7, sampler="random"))
    record = read_record(study)
    unlearner = prepare(record, task)
    run_study(study, task, unlearner, stop_early=False)
    finished = [trial for trial in study.trials if trial.value is not None]
    passed = [trial for trial in finished if "reused_from" in read_trial(trial)]
    assert len(finished) == 7 and len(passed) >= 3
    for trial in passed:
        parent = study.trials[int(read_trial(trial)["reused_from"].split()[1])]
        setting, values = setting_of(trial, record), read_trial(trial)
        assert setting["steps"] < parent.params["steps"] and setting["lr"] == parent.params["lr"]
        again = run(unlearner, setting, setting_seed(record, setting))
        assert evaluate(task, again.params).summary()["forget_confidence"] == pytest.approx(
            values["forget_confidence"], abs=1e-5
        )
        assert values["cost"] == values["slices"] == values["slices_possible"]
    trained = [trial for trial in finished if trial not in passed]
    for trial in trained:
        setting = setting_of(trial, record)
        values, stage = read_trial(trial), run(unlearner, setting, setting_seed(record, setting))
        assert values["cost"] == stage.cost + values["slices"]


@pytest.mark.parametrize("name", ["scrub", "ssd-repair"])
def test_a_method_whose_course_hangs_on_its_length_has_none(name):
    with pytest.raises(ConfigError, match=r"method.checkpoints"):
        choose_method({"name": name, "checkpoints": 3, "decay": False}, "study.toml")


def test_a_rate_that_falls_has_no_checkpoints():
    with pytest.raises(ConfigError, match="only at a constant rate: add decay = false") as caught:
        choose_method({"name": "ft", "checkpoints": 3}, "study.toml")
    assert len(str(caught.value).splitlines()) == 1
