"""How trials per second grow with workers, what a trial costs in the storage, and what proposing at once costs."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from benchmarks.harness import Metrics
from benchmarks.service.crew import FINISHED, STUDY, Crew, Progress, make_study, read_trials, task

LIMIT = 900.0


def run_crew(url: str, workers: int, trials: int, folder: Path) -> Crew:
    """Run workers until the study has its trials."""
    progress, began = Progress(url), time.monotonic()
    with Crew(url, workers, folder) as crew:
        while (done := progress.finished()) is None or done < trials:
            crew.keep_full()
            if time.monotonic() - began > LIMIT:
                raise TimeoutError(f"{done} of {trials} trials after {LIMIT:.0f} s")
            time.sleep(0.1)
        crew.stop()
    return crew


def scale(fresh_url: Iterable[str], workers: Iterable[int], each: int, seconds: float = 1.0) -> Metrics:
    """Trials per second of ``workers`` at once, ``each`` trials a worker that sleep ``seconds``.

    Counted from when the last worker began its first trial to when the first one ran out: starting is not in it.
    """
    found: Metrics = {}
    for url, count in zip(fresh_url, workers, strict=False):
        with tempfile.TemporaryDirectory() as folder:
            make_study(url, count * each, seconds, seed=0)
            run_crew(url, count, count * each, Path(folder))
        found[f"trials_per_s_{count}"] = rate(read_trials(url)[1])
        found[f"efficiency_{count}"] = found[f"trials_per_s_{count}"] * seconds / count
    return found


def rate(trials: list[FrozenTrial]) -> float:
    """Trials a second between the last worker's first start and the first worker's last end."""
    spans: dict[str, list[datetime]] = {}
    for trial in trials:
        if trial.state in FINISHED and trial.datetime_start and trial.datetime_complete:
            spans.setdefault(trial.user_attrs["origin"]["worker"], []).extend(
                [trial.datetime_start, trial.datetime_complete]
            )
    first, last = max(min(times) for times in spans.values()), min(max(times) for times in spans.values())
    whole = (last - first).total_seconds()
    ends = [trial.datetime_complete for trial in trials if trial.state in FINISHED and trial.datetime_complete]
    return sum(first < end <= last for end in ends) / whole


def storage_ms(url: str, before: int, workers: int, trials: int) -> Metrics:
    """Milliseconds in the storage, and beside the sleep, of a trial of a study that has ``before`` trials already."""
    fill(url, before, trials)
    with tempfile.TemporaryDirectory() as folder:
        crew = run_crew(url, workers, before + trials, Path(folder))
        events = [event for event in crew.events() if event["event"] == "trial"]
    firsts = {event["worker"]: event["trial"] for event in reversed(events)}  # they have a worker's start in them
    counted = [event["seconds"] for event in events if firsts[event["worker"]] != event["trial"]]
    spent = [seconds["storage"] for seconds in counted]
    searching = [seconds.get("search", 0.0) for seconds in counted]
    return {"storage_ms": 1e3 * statistics.median(spent), "search_ms": 1e3 * statistics.median(searching)}


def fill(url: str, count: int, more: int) -> None:
    """A study with ``count`` finished trials, copies of one that was run with other settings, and ``more`` to do."""
    from ssdtune.study.record import ORIGIN, SEED_NUMBER, read_record
    from ssdtune.study.run import run_study
    from ssdtune.study.tune import prepare

    study = make_study(url, count + more, 1.0, seed=0)
    record = read_record(study)
    record.method["seconds"] = 0.0  # type: ignore[index]
    run_study(study, task(), prepare(record, task()), trials=1)
    (done,) = study.get_trials(states=FINISHED)
    rng = np.random.default_rng(0)
    for start in range(1, count, 500):
        copies = []
        for number in range(start, min(start + 500, count)):
            params = {name: float(rng.random()) for name in done.params}
            attributes = {**done.user_attrs, ORIGIN: {**done.user_attrs[ORIGIN], SEED_NUMBER: number}}
            copies.append(
                optuna.trial.create_trial(
                    params=params,
                    distributions=done.distributions,
                    value=done.value,
                    user_attrs=attributes,
                    system_attrs=done.system_attrs,
                )
            )
        study.add_trials(copies)


def proposals(folder: Path, seeds: int, trials: int, workers: int, seconds: float) -> Metrics:
    """Regret after ``trials`` of TPE with ``workers`` at once, over that of one, the mean over seeds.

    The best value there is comes from a fine grid of settings.
    """
    regrets: dict[int, list[float]] = {1: [], workers: []}
    for count, found in regrets.items():
        for seed in range(seeds):
            url = f"sqlite:///{folder}/{STUDY}-{count}-{seed}.db"
            place = folder / f"{count}-{seed}"
            place.mkdir()
            study = make_study(url, trials, seconds, seed, sampler="tpe")
            run_crew(url, count, trials, place)
            found.append(best_there_is(study) - read_trials(url)[0].best_value)
    one, several = (statistics.mean(found) for found in regrets.values())
    return {"regret_1": one, f"regret_{workers}": several, "regret_ratio": several / max(one, 1e-4)}


def best_there_is(study: optuna.Study) -> float:
    from ssdtune.objective.measure import measure_exactly
    from ssdtune.study.record import read_record
    from ssdtune.study.tune import prepare

    record = read_record(study)
    record.method["seconds"] = 0.0  # type: ignore[index]
    unlearner = prepare(record, task())
    values = []
    for product in np.linspace(0, 1, 201):  # the method knows x * y alone
        outcome = measure_exactly(task(), unlearner, {"x": float(product), "y": 1.0}, 0)
        values.append(record.rule(*record.qualities(outcome.values())).value)
    return max(values)
