"""Running a study: what is left of its budget, one trial at a time, stopped and resumed without loss."""

from __future__ import annotations

import hashlib
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

import optuna
from optuna.trial import FrozenTrial, TrialState

from ssdtune.errors import DataError
from ssdtune.objective.evaluator import Evaluator, Say
from ssdtune.objective.precision import Precision
from ssdtune.progress import Track, silent
from ssdtune.samplers.recorded import EXACT, WORKER, origin
from ssdtune.samplers.space import Analysis
from ssdtune.samplers.table import ReproducibleSampler, build_sampler, choose_sampler, interrupted
from ssdtune.study.experience import keep_view
from ssdtune.study.facts import StudyFacts, read_facts, read_untouched
from ssdtune.study.interrupts import Interrupts
from ssdtune.study.measuring import Fast
from ssdtune.study.objective import Memo, Objective, OverBudget, memo_of
from ssdtune.study.prior import fix_prior
from ssdtune.study.records import counts_of
from ssdtune.study.storage import GRACE, storage_errors
from ssdtune.study.trial_storage import TrialStorage
from ssdtune.surrogate.improvement import Goal
from ssdtune.task import Task

EVALUATION = "evaluation"
"""The study's user attribute that says how its last run evaluated."""

OnTrial = Callable[[optuna.Study, FrozenTrial], None]


def run_study(
    study: optuna.Study,
    task: Task,
    analysis: Analysis,
    *,
    trials: int | None = None,
    memo: Memo | None = None,
    batch_size: int | None = None,
    exact: bool = False,
    stop_early: bool = True,
    precision: Precision = "auto",
    evaluator: Evaluator | None = None,
    on_trial: OnTrial | None = None,
    say: Say = lambda words: None,
    track: Track = silent,
) -> None:
    """Run the study until it has ``trials`` finished trials (None: as many as it was made for).

    Several processes may run one study on one storage; each counts the trials of all. Ctrl-C keeps every finished
    trial and gives the one under way back to the budget. ``on_trial`` is called after every finished trial; ``memo``
    shares measures between studies on the same inputs.

    exact : evaluate every slice of every trial, one by one, the plain way; nothing is reused. stop_early : whether
    trials that are clearly not the best may end before their last slice (not for samplers that learn nothing of them).
    batch_size : see ``scoring.evaluator``. precision : see ``scoring.precision``. evaluator : data prepared for another
    study on the same inputs; prepared anew, which ``say`` is told, if model or data are not those.

    Raises
    ------
    DataError : model or data are not those that the study was made with.
    TrialError : a trial failed.
    StorageError : the storage failed, or the study was not made by ssdtune.
    KeyboardInterrupt : passed on, after the trial under way is marked as interrupted.
    """
    facts = read_facts(study)
    check_inputs(facts, task)
    release_lost_trials(study)
    memo = {} if memo is None else memo
    memo |= memo_of(study, facts)
    sampler = study_sampler(study, facts, analysis)
    study.sampler = sampler
    total = trials or facts.search.trials
    worker = f"{_machine()}-{os.getpid()}"
    interrupts = Interrupts()
    if evaluator is None or not evaluator.fits(task):
        if evaluator is not None:
            say("model or data changed: preparing them anew")
        evaluator = Evaluator(task, batch_size=batch_size, say=say)
    stop_early = stop_early and choose_sampler(facts.search.sampler).sees_stopped
    fast = None
    if not exact:
        known = read_untouched(study)
        fast = Fast(evaluator, facts, stop_early=stop_early, precision=precision, untouched=known)
    objective = Objective(
        task,
        analysis,
        facts,
        memo,
        budget=total,
        sampler=sampler,
        worker=worker,
        interrupts=interrupts,
        fast=fast,
    )
    with storage_errors():
        study.set_user_attr(EVALUATION, {EXACT: exact, "stop_early": stop_early and not exact})
        keep_view(study, facts, analysis)
    with storage_errors(), _stopping_cleanly(study, objective, sampler), interrupts.taken():
        left = max(total - counts_of(sampler.read(study)).finished, 0)
        for _ in track(_turns(sampler, total), "trials", left):
            _run_one(study, objective)
            done = sampler.read(study)[objective.current]
            if on_trial is not None and not interrupted(done):
                on_trial(study, done)
            interrupts.check()


def study_sampler(study: optuna.Study, facts: StudyFacts, analysis: Analysis) -> ReproducibleSampler:
    """The study's sampler; the prior, where it uses one, is fixed in the study.

    Raises
    ------
    ConfigError, DataError : the mapper or the kept prior cannot be read.
    """
    rule = facts.rule
    fixed = fix_prior(study, facts, analysis) if choose_sampler(facts.search.sampler).uses_prior else None
    return build_sampler(
        facts.search.sampler,
        facts.search.seed,
        study.study_name,
        goal=Goal(rule.retain_weight, rule.min_retained),
        prior=fixed.prior if fixed is not None else None,
        plane=analysis,
    )


def check_inputs(facts: StudyFacts, task: Task) -> None:
    """Refuse inputs that are not those the study was made with, saying which changed.

    Raises
    ------
    DataError
    """
    changed = changed_inputs(facts.identity, task.identity)
    if changed:
        raise DataError(
            f"inputs changed since the study was made: {', '.join(changed)}",
            facts.task,
            "restore them, or create a new study",
        )


def changed_inputs(recorded: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Names of the inputs whose hashes differ, were added or are gone."""
    names = [*recorded, *(name for name in present if name not in recorded)]
    changed = [_input_name(name) for name in names if recorded.get(name) != present.get(name)]
    return list(dict.fromkeys(changed))


def release_lost_trials(study: optuna.Study, storage: optuna.storages.BaseStorage | None = None) -> list[int]:
    """Mark running trials whose process is gone as interrupted; returns the numbers of those of this machine.

    A process of this machine is asked for directly. Trials of other machines are found by their signs of life: here if
    the study's ``storage`` is given, else as its trials run (``search.trial_storage``).
    """
    if isinstance(storage, TrialStorage):
        storage.fail_lost_trials(storage.get_study_id_from_name(study.study_name))
    lost = [
        trial.number
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if _is_lost(origin(trial).get(WORKER, ""), trial.datetime_start)
    ]
    for number in lost:
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    return lost


def _turns(sampler: ReproducibleSampler, total: int) -> Iterator[None]:
    """One item for each trial to run here, until those finished and under way make up the budget."""
    while True:
        counts = counts_of(sampler.last_read)
        if counts.finished + counts.running >= total:
            return
        yield None


def _run_one(study: optuna.Study, objective: Objective) -> None:
    """Run one trial, which may give way to another process, or be taken for lost by one (after long suspension)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", "Constraints have been set")  # CMA-ES; the sampler's settings say so
            study.optimize(objective, n_trials=1, catch=(OverBudget,))
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        if not interrupted(study.get_trials(deepcopy=False)[objective.current]):
            raise


@contextmanager
def _stopping_cleanly(study: optuna.Study, objective: Objective, sampler: ReproducibleSampler) -> Iterator[None]:
    """On Ctrl-C, mark this process's own running trial as interrupted, wherever the signal arrived."""
    try:
        yield
    except KeyboardInterrupt:
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if origin(trial).get(WORKER) == objective.worker or trial.number in sampler.seed_numbers:
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        raise


def _is_lost(worker: str, started: datetime | None) -> bool:
    machine, _, process = worker.rpartition("-")
    if not worker:  # stopped before it could sign
        return started is not None and datetime.now() - started > timedelta(seconds=GRACE)
    return machine == _machine() and not _is_alive(int(process))


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _machine() -> str:
    """A short name of this machine that does not give its host name away."""
    return hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()


def _input_name(name: str) -> str:
    """``data.fisher.retain`` as a user would say it."""
    kind, _, rest = name.partition(".")
    return name if kind != "data" else f"{rest.removeprefix('fisher.')} data"
