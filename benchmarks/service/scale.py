"""How trials per second grow with workers, what a trial costs in the storage, and what proposing at once costs."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime
from functools import partial
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


def storage_ms(url: str, before: int, workers: int, trials: int, server: int) -> Metrics:
    """Milliseconds in the storage, and beside the sleep, of a trial of a study that has ``before`` trials already.

    Medians of trials; ``server``, the database's process, and all that it has started: CPU time over trials.
    """
    fill(url, before, trials)
    with tempfile.TemporaryDirectory() as folder:
        used = cpu_seconds(server)
        crew = run_crew(url, workers, before + trials, Path(folder))
        used = cpu_seconds(server) - used
        events = [event for event in crew.events() if event["event"] == "trial"]
    firsts = {event["worker"]: event["trial"] for event in reversed(events)}  # they have a worker's start in them
    counted = [event["seconds"] for event in events if firsts[event["worker"]] != event["trial"]]

    def median(name: str) -> float:
        return statistics.median(seconds.get(name, 0.0) for seconds in counted)

    return {
        "storage_ms": 1e3 * median("storage"),
        "storage_cpu_ms": 1e3 * median("storage_cpu"),
        "server_cpu_ms": 1e3 * used / trials,
        "statements": median("statements"),
        "search_ms": 1e3 * median("search"),
    }


def cpu_seconds(process: int) -> float:
    """Of a process and its children, those that have ended too."""
    import psutil

    found = psutil.Process(process)
    running = sum(sum(child.cpu_times()[:2]) for child in found.children(recursive=True))
    return float(sum(found.cpu_times()[:4]) + running)


def fill(url: str, count: int, more: int) -> None:
    """A study with ``count`` finished trials, copies of one that was run with other settings, and ``more`` to do."""
    from ssdtune.study.record import ORIGIN, SEED_NUMBER, read_record
    from ssdtune.study.run import run_study
    from ssdtune.study.storage import load_study, open_storage
    from ssdtune.study.together import in_one_transaction
    from ssdtune.study.tune import prepare

    make_study(url, count + more, 1.0, seed=0)
    storage = open_storage(url)
    study = load_study(STUDY, storage, url)
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
        in_one_transaction(storage, partial(study.add_trials, copies))  # ten times as quick
