"""How trials per second grow with workers, what a trial costs in the storage, and what proposing at once costs."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.trial import FrozenTrial

from benchmarks.harness import Metrics
from benchmarks.service.crew import FINISHED, Crew, Progress, make_study, read_trials, task

LIMIT = 900.0


def run_crew(url: str, workers: int, trials: int, folder: Path) -> Crew:
    """Run workers until the study has its trials."""
    progress = Progress(url)
    with Crew(url, workers, folder) as crew:
        run_until(crew, lambda: (progress.finished() or 0) >= trials)
        crew.stop()
    return crew


def run_until(crew: Crew, reached: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not reached():
        crew.keep_full()
        if time.monotonic() - began > LIMIT:
            raise TimeoutError(f"workers are not done after {LIMIT:.0f} s")
        time.sleep(0.1)


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

    Medians of ``trials`` at least, from when each worker has run one until they are told to stop: reading all trials
    at a worker's start is not in it, nor the pages that are made of a study at its end. ``server``, the database's
    process, and all that it has started: CPU time over trials.
    """
    fill(url, before, 100_000)
    progress = Progress(url)
    with tempfile.TemporaryDirectory() as folder, Crew(url, workers, Path(folder)) as crew:
        run_until(crew, lambda: len({event["worker"] for event in events_of_trials(crew)}) == workers)
        used, begun = cpu_seconds(server), progress.finished() or 0
        began = datetime.now(UTC).isoformat(timespec="milliseconds")
        run_until(crew, lambda: (progress.finished() or 0) >= begun + trials)
        used, trials = cpu_seconds(server) - used, (progress.finished() or 0) - begun
        crew.stop()
        events = [event for event in events_of_trials(crew) if event["time"] > began]
    firsts = {event["worker"]: event["trial"] for event in reversed(events)}  # begun before that
    counted = [event["seconds"] for event in events if firsts[event["worker"]] != event["trial"]]

    def median(name: str) -> float:
        return float(statistics.median(seconds.get(name, 0.0) for seconds in counted))

    return {
        "storage_ms": 1e3 * median("storage"),
        "storage_cpu_ms": 1e3 * median("storage_cpu"),
        "server_cpu_ms": 1e3 * used / trials,
        "statements": median("statements"),
        "search_ms": 1e3 * median("search"),
    }


def events_of_trials(crew: Crew) -> list[dict[str, Any]]:
    return [event for event in crew.events() if event["event"] == "trial"]


def cpu_seconds(process: int) -> float:
    """Of a process and its children, those that have ended too."""
    import psutil

    found = psutil.Process(process)
    running = sum(sum(child.cpu_times()[:2]) for child in found.children(recursive=True))
    return float(sum(found.cpu_times()[:4]) + running)


def fill(url: str, count: int, more: int) -> None:
    """A study with ``count`` finished trials, copies of one that was run with other settings, and ``more`` to do.

    In PostgreSQL's own words: through Optuna 5,000 trials take minutes.
    """
    from ssdtune.study.record import read_record
    from ssdtune.study.run import run_study
    from ssdtune.study.tune import prepare

    study = make_study(url, count + more, 1.0, seed=0)
    record = read_record(study)
    record.method["seconds"] = 0.0  # type: ignore[index]
    run_study(study, task(), prepare(record, task()), trials=1)
    with sqlalchemy.create_engine(url).begin() as connection:
        connection.exec_driver_sql(
            "insert into trials (number, study_id, state, datetime_start, datetime_complete)"
            " select n, study_id, state, datetime_start, datetime_complete"
            f" from trials cross join generate_series(1, {count - 1}) n where number = 0"
        )
        for name, columns in COPIED.items():
            ours = ", ".join(columns)
            connection.exec_driver_sql(
                f"insert into {name} (trial_id, {ours}) select new.trial_id, {', '.join(columns.values())}"
                f" from {name} old join trials first using (trial_id), trials new"
                " where first.number = 0 and new.number > 0"
            )


COPIED = {
    "trial_params": {"param_name": "param_name", "param_value": "random()", "distribution_json": "distribution_json"},
    "trial_values": {"objective": "objective", "value": "value", "value_type": "value_type"},
    "trial_intermediate_values": {name: name for name in ("step", "intermediate_value", "intermediate_value_type")},
    "trial_user_attributes": {
        "key": "key",
        "value_json": "case key when 'origin' then"
        " jsonb_set(value_json::jsonb, '{seed_number}', to_jsonb(new.number))::text else value_json end",
    },
    "trial_system_attributes": {"key": "key", "value_json": "value_json"},
}
"""Columns of what a trial has, and what a copy of it has in each."""
