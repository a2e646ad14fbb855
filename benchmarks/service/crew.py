"""Workers as they are run, `ssdtune worker --watch --log-json`, each forked from a process that has imported all.

Their task is a small one made from Python, so that only what surrounds trials takes time.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import torch
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.house import small_task
from benchmarks.service import sleeping
from ssdtune.cli import work  # noqa: F401  what a worker imports, once, for all that are forked
from ssdtune.cli.worker_processes import ending_with_parent
from ssdtune.report import dashboard, spectrum  # noqa: F401
from ssdtune.task import Task

STUDY = "storm"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@cache
def task() -> Task:
    """That of all workers, on one thread: what is forked would wait for the threads of a pool that it does not have."""
    torch.set_num_threads(1)
    return small_task(0)


def make_study(url: str | None, trials: int, seconds: float, seed: int, sampler: str = "random") -> optuna.Study:
    """A new study of the sleeping method; its storage is made where there is none, None keeps it in memory."""
    from ssdtune.study.create import create_study
    from ssdtune.study.storage import open_storage, quiet_optuna
    from ssdtune.studyfile import ScoreSection, SearchSection

    quiet_optuna()
    sleeping.install()
    return create_study(
        task(),
        open_storage(url, create=True) if url else None,
        name=STUDY,
        method={"name": sleeping.NAME, "seconds": seconds},
        search=SearchSection(sampler=sampler, trials=trials, seed=seed),
        score=ScoreSection(min_retained=0.0),
    )


class Crew:
    """``size`` workers on a storage; ``keep_full`` starts those that are gone anew. Each writes events to a file."""

    def __init__(self, url: str, size: int, folder: Path, options: Sequence[str] = ("--watch", "0.2")) -> None:
        self.url, self.size, self.folder, self.options = url, size, folder, options
        self.started = 0
        self.members: list[multiprocessing.process.BaseProcess] = []
        self.exits: list[int | None] = []
        self.told: set[int | None] = set()

    def keep_full(self) -> None:
        for member in [member for member in self.members if not member.is_alive()]:
            self.members.remove(member)
            self.exits.append(member.exitcode)
        while len(self.members) < self.size:
            self.started += 1
            log = self.folder / f"worker-{self.started}.log"
            arguments = ["worker", "--storage", self.url, "--log-json", *self.options]
            given = (arguments, log, ending_with_parent(signal.SIGKILL))
            member = multiprocessing.get_context("fork").Process(target=_work, args=given, daemon=True)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until it answers as a program does
            member.start()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self.members.append(member)

    def send(self, member: Any, number: int) -> None:
        """A signal to a worker; none is told twice to stop, which would end its ending."""
        if number == signal.SIGTERM and member.pid in self.told:
            return
        self.told.add(member.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, number)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.kill()

    def stop(self, patience: float = 30) -> float:
        """SIGTERM to all; seconds until the last is gone."""
        started = time.monotonic()
        for member in self.members:
            self.send(member, signal.SIGTERM)
        for member in self.members:
            member.join(patience)
            if member.is_alive():
                member.kill()
                member.join()
            self.exits.append(member.exitcode)
        self.members = []
        return time.monotonic() - started

    def events(self) -> Iterator[dict[str, Any]]:
        """What all workers have logged; a line that SIGKILL cut short is none."""
        for log in sorted(self.folder.glob("worker-*.log")):
            for line in log.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    yield {**json.loads(line), "worker": log.stem}


def _work(arguments: list[str], log: Path, end_with_parent: Callable[[], None]) -> None:
    """A worker in a process of its own; the study file that it would load is a task made here."""
    import ssdtune.cli.study_run as study_run
    from ssdtune.cli import main
    from ssdtune.study.tune import prepare

    end_with_parent()
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def load_inputs(name: str, record: Any, device: str, crew: Any = None) -> Any:
        return task(), prepare(record, task())

    vars(study_run)["load_inputs"] = load_inputs  # the workers' task is made in memory
    count_storage()
    with open(os.devnull, "w") as nowhere, log.open("w") as events:
        sys.stdout, sys.stderr = nowhere, events
        try:
            main(arguments)
        except Exception:  # a program would print it
            traceback.print_exc()
            raise
        finally:  # a late signal changes no exit code of a program, but that of multiprocessing's processes
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def count_storage() -> None:
    """Let a worker's events have ``storage_cpu`` among a trial's seconds, those in the storage, and ``statements``."""
    from ssdtune.cli.work import Work
    from ssdtune.study import patience

    spent = {"storage_cpu": 0.0, "statements": 0.0}
    call, tell = patience._Call.__call__, Work._trial

    def timed(self: Any, *given: Any, **named: Any) -> Any:
        began = time.thread_time()
        try:
            return call(self, *given, **named)
        finally:
            spent["storage_cpu"] += time.thread_time() - began

    def counted(*_: Any) -> None:
        spent["statements"] += 1

    def told(self: Work, words: str, facts: dict[str, Any]) -> None:
        facts["seconds"] |= spent
        spent.update(storage_cpu=0.0, statements=0.0)
        tell(self, words, facts)

    patience._Call.__call__ = timed  # type: ignore[method-assign]
    Work._trial = told  # type: ignore[method-assign]
    for event in ("after_cursor_execute", "commit", "rollback"):
        sqlalchemy.event.listen(sqlalchemy.Engine, event, counted)


class Progress:
    """How many trials a storage has finished, asked without keeping a connection that a fork would share."""

    def __init__(self, url: str) -> None:
        self.engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)

    def finished(self) -> int | None:
        """None while the database does not answer."""
        query = "select count(*) from trials where state in ('COMPLETE', 'PRUNED')"
        try:
            with self.engine.connect() as connection:
                return int(connection.exec_driver_sql(query).scalar() or 0)
        except SQLAlchemyError:
            return None


def read_trials(url: str) -> tuple[optuna.Study, list[FrozenTrial]]:
    from ssdtune.study.storage import load_study, open_storage

    study = load_study(STUDY, open_storage(url), url)
    return study, study.get_trials(deepcopy=False)
