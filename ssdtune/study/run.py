"""Running a study: ask, measure, record, tell, until its budget is used up; stopped and resumed without loss."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import NoReturn

import optuna
from optuna.trial import FrozenTrial, TrialState

from ssdtune.errors import ConfigError, DataError, StorageError, TrialError
from ssdtune.objective.evaluator import Evaluator, Say
from ssdtune.objective.measure import Objective, measure_exactly
from ssdtune.objective.outcome import EXACT, PRECISION, Outcome
from ssdtune.objective.precision import Precision
from ssdtune.objective.stopping import Incumbent
from ssdtune.progress import Track, silent
from ssdtune.samplers.table import SamplerFactory, seed_of
from ssdtune.study import interrupts
from ssdtune.study.ask import Asked, Seeds, ask
from ssdtune.study.experience import keep_view
from ssdtune.study.lost import give_back, release_lost_trials, signs_of_life
from ssdtune.study.own import OwnView
from ssdtune.study.pool import OneByOne, OpenPool, Pool
from ssdtune.study.prior import study_sampler
from ssdtune.study.record import (
    ERROR,
    EVALUATION,
    PREPARATION,
    StudyRecord,
    read_baseline,
    read_record,
    write_outcome,
)
from ssdtune.study.storage import storage_errors
from ssdtune.study.trials import Known, Scores, count_trials, in_words, incumbent_of, known_outcomes
from ssdtune.task import Task
from ssdtune.unlearning.method import UNTOUCHED, Setting, Unlearner

OnTrial = Callable[[optuna.Study, FrozenTrial], None]


def run_study(
    study: optuna.Study,
    task: Task,
    unlearner: Unlearner,
    *,
    trials: int | None = None,
    known: Known | None = None,
    exact: bool = False,
    stop_early: bool = True,
    precision: Precision = "float32",
    evaluator: Evaluator | None = None,
    pool: OpenPool | None = None,
    on_trial: OnTrial | None = None,
    say: Say = lambda words: None,
    track: Track = silent,
) -> None:
    """Run the study until it has ``trials`` finished trials (None: as many as it was made for).

    Several processes may run one study on one storage; each counts the trials of all. Ctrl-C keeps every finished
    trial and gives the one under way back to the budget. ``on_trial`` is called after every finished trial; ``known``
    shares outcomes, those in full, between studies on the same inputs and grows.

    exact : evaluate every slice of every trial, one by one, the plain way; nothing is reused. stop_early : whether
    trials that are clearly not the best may end before their last slice (not for samplers that learn nothing of them).
    precision : see ``objective.precision``. evaluator : data prepared for another study on the same inputs; prepared
    anew, which ``say`` is told, if model or data are not those. pool : what measures several trials at once, such as
    ``study.actors.actor_pool``; each is then proposed with those under way in mind.

    Raises
    ------
    DataError : model or data are not those that the study was made with.
    TrialError : a trial failed.
    StorageError : the storage failed, or the study was not made by ssdtune.
    KeyboardInterrupt : passed on, after the trial under way is marked as interrupted.
    """
    record = read_record(study)
    check_inputs(record, task)
    if evaluator is None or not evaluator.fits(task):
        if evaluator is not None:
            say("model or data changed: preparing them anew")
        evaluator = Evaluator(task, say=say)
    with storage_errors():
        release_lost_trials(study)
        keep_view(study, record, unlearner)
        sampler = study_sampler(study, record, unlearner)
        stop_early = stop_early and not exact and sampler.choice.sees_stopped
        how = {EXACT: exact, "stop_early": stop_early, PRECISION: "float32" if exact else precision}
        study.set_user_attr(EVALUATION, how)
        study.set_user_attr(PREPARATION, unlearner.preparation)
        baseline = read_baseline(study)
        known = {} if known is None else known
        known |= known_outcomes(study, record, unlearner, method_seed(record))
    objective = Objective(
        evaluator,
        record.rule,
        record.baseline,
        untouched=baseline.columns if baseline is not None else None,
        stop_early=stop_early,
        precision=precision,
    )

    def measure(setting: Setting, incumbent: Incumbent, seed: int) -> Outcome:
        if exact:
            return measure_exactly(task, unlearner, setting, seed)
        return objective.measure(unlearner, setting, incumbent, seed)

    if pool is not None and not exact:
        evaluator.prepare()  # once, for all that the pool makes copies for
    with storage_errors(), pool(measure) if pool is not None else nullcontext(OneByOne(measure)) as opened:
        budget = trials or record.search.trials
        runner = _Runner(study, record, unlearner, sampler, budget, opened, None if exact else known)
        with interrupts.taken(), closing(runner.trials()) as finished:
            left = max(budget - count_trials(study).finished, 0)
            for done in track(finished, "trials", left):
                if on_trial is not None and done is not None:
                    on_trial(runner.own.study, done)


@dataclass(frozen=True)
class _Begun:
    """A trial under way: what it took to propose it (seconds), and its signs of life until it is closed."""

    asked: Asked
    searching: float
    life: ExitStack


@dataclass
class _Runner:
    """The loop of one process. ``known`` : None measures every setting, whatever was measured before. ``stopped`` : the
    same of trials stopped early, which says nothing to a study of another goal, so it is not shared."""

    study: optuna.Study
    record: StudyRecord
    unlearner: Unlearner
    sampler: SamplerFactory
    budget: int
    pool: Pool
    known: Known | None

    def __post_init__(self) -> None:
        self.own = OwnView(self.study)
        self.scores, self.seeds = Scores(self.record), Seeds()
        self.stopped: Known = {}
        self.idle_since = 0.0

    def trials(self) -> Generator[FrozenTrial | None, None, None]:
        """Run trials, each yielded when it is finished (None: another process took it for lost), until none is left."""
        begun: dict[int, _Begun] = {}
        self.idle_since = time.perf_counter()
        try:
            while True:
                asked = ask(self.own, self.record, self.sampler, self.budget, self.seeds) if self.pool.free else None
                if asked is not None:
                    number = asked.trial.number
                    begun[number] = self._begin(asked)
                    found = self._recalled(asked.setting)
                    if found is None:
                        seed = setting_seed(self.record, asked.setting)
                        incumbent = incumbent_of(asked.others, self.record, self.scores)
                        self.pool.submit(number, asked.setting, incumbent, seed)
                        continue
                elif begun:
                    number, measured = self.pool.wait()
                    found = self._taken(begun[number].asked, measured)
                else:
                    return
                done = self._end(begun[number], found)
                del begun[number]
                yield done
                interrupts.check()
        except (KeyboardInterrupt, TrialError, ConfigError, GeneratorExit):
            # those under way are marked as interrupted, wherever the signal arrived; others find one lost if that fails
            for each in begun.values():
                with suppress(StorageError), storage_errors():
                    give_back(self.study, each.asked.trial.number)
            raise
        finally:
            for each in begun.values():
                each.life.close()

    def _begin(self, asked: Asked) -> _Begun:
        life = ExitStack()
        life.enter_context(signs_of_life(self.study, asked.trial))
        before, self.idle_since = self.idle_since, time.perf_counter()
        return _Begun(asked, self.idle_since - before, life)

    def _end(self, begun: _Begun, outcome: Outcome) -> FrozenTrial | None:
        self.idle_since = time.perf_counter()
        done = self._tell(begun.asked, replace(outcome, seconds={**outcome.seconds, "search": begun.searching}))
        begun.life.close()
        return done

    def _recalled(self, setting: Setting) -> Outcome | None:
        """What the setting comes to, if that is known from one that does the same."""
        if self.known is None:
            return None
        effect = self.unlearner.effect(setting)
        if effect == UNTOUCHED:
            notes = dict(self.unlearner.notes(setting))
            return Outcome(self.record.baseline, notes=notes, reused="untouched model")
        key = effect, method_seed(self.record)
        for known in (self.known, self.stopped):
            if key in known:
                found = replace(known[key], notes=dict(self.unlearner.notes(setting)))
                known[key] = replace(found, slices=0, cost=0.0, seconds={})  # a checkpoint is billed once
                return found
        return None

    def _taken(self, asked: Asked, found: Outcome | Exception) -> Outcome:
        """An outcome that was measured, kept for settings that do the same; raises TrialError where there is none."""
        if isinstance(found, Exception):
            self._fail(asked, found)
        if self.known is not None:
            name = f"trial {asked.trial.number} of {self.study.study_name}"
            self._keep(asked.setting, replace(found, slices=0, cost=0.0, seconds={}, reused=name))
            for setting, passed in found.checkpoints:
                self._keep(setting, replace(passed, reused=name))
                self.study.enqueue_trial(dict(setting), skip_if_exists=True)
        return replace(found, checkpoints=())

    def _keep(self, setting: Setting, outcome: Outcome) -> None:
        known = self.known if outcome.stopped is None else self.stopped
        if known is not None:
            known[self.unlearner.effect(setting), method_seed(self.record)] = replace(outcome, checkpoints=())

    def _tell(self, asked: Asked, outcome: Outcome) -> FrozenTrial | None:
        trial, number = asked.trial, asked.trial.number
        try:
            with self.own.together(), warnings.catch_warnings():
                score = write_outcome(self.own.study, trial, self.record, outcome)
                warnings.filterwarnings("ignore", "Constraints have been set")  # CMA-ES; its settings say so
                if outcome.stopped is None:
                    return self.own.study.tell(number, score.value, skip_if_finished=True)
                trial.report(score.value, outcome.seen)
                return self.own.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
        except optuna.exceptions.UpdateFinishedTrialError:
            return None  # taken for lost by another process, after long suspension

    def _fail(self, asked: Asked, reason: Exception) -> NoReturn:
        what = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # as in ``_tell``
            asked.trial.set_user_attr(ERROR, f"{type(reason).__name__}: {what}")
        give_back(self.study, asked.trial.number)
        raise TrialError(
            f"trial {asked.trial.number} failed ({what})",
            f"study '{self.study.study_name}', {in_words(asked.setting)}",
            "finished trials are kept; mend the cause and run again",
        ) from reason


def method_seed(record: StudyRecord) -> int:
    """The seed of everything random that the study's method does."""
    return int(record.method.get("seed", 0))


def setting_seed(record: StudyRecord, setting: Setting) -> int:
    """The seed of one setting, the same on every machine, so that applying it repeats what was scored."""
    return seed_of(method_seed(record), "setting", in_words_exactly(setting))


def in_words_exactly(setting: Setting) -> str:
    """A setting such that equal words mean equal floats."""
    return ", ".join(f"{name}={float(value).hex()}" for name, value in sorted(setting.items()))


def check_inputs(record: StudyRecord, task: Task) -> None:
    """Refuse inputs that are not those the study was made with, saying which changed.

    Raises
    ------
    DataError
    """
    changed = changed_inputs(record.identity, task.identity)
    if changed:
        raise DataError(
            f"inputs changed since the study was made: {', '.join(changed)}",
            record.task,
            "restore them, or create a new study",
        )


def changed_inputs(recorded: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Names of the inputs whose hashes differ, were added or are gone."""
    names = [*recorded, *(name for name in present if name not in recorded)]
    changed = [_input_name(name) for name in names if recorded.get(name) != present.get(name)]
    return list(dict.fromkeys(changed))


def _input_name(name: str) -> str:
    """``data.fisher.retain`` as a user would say it."""
    kind, _, rest = name.partition(".")
    return name if kind != "data" else f"{rest.removeprefix('fisher.')} data"
