"""A comparison of methods on one task: a study for each method and seed on one storage, at equal trials or equal cost.

All have the same sampler unless another is asked for, so that they differ in the method alone; published settings come
first. A method without knobs is one trial. A comparison that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ssdtune.errors import ConfigError
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.measure import Objective
from ssdtune.objective.outcome import Outcome
from ssdtune.objective.stopping import Incumbent
from ssdtune.samplers.table import choose_sampler
from ssdtune.study.cost import PHASES, cost_of
from ssdtune.study.create import enqueue_published
from ssdtune.study.pool import OpenPool
from ssdtune.study.record import ERROR, PREPARATION_SECONDS, StudyRecord
from ssdtune.study.run import run_study, setting_seed
from ssdtune.study.series import with_sections
from ssdtune.study.trials import count_trials
from ssdtune.studyfile import MethodSection
from ssdtune.task import Task
from ssdtune.unlearning.method import UNTOUCHED, Chooser, Knob, Setting, Tried, Unlearner
from ssdtune.unlearning.methods import Chosen, choose_method, find_method, method_names

SAMPLER = "tpe"
MOST = 1000  # trials of a study whose budget is a cost: settings that do nothing cost nothing

OnTrial = Callable[[optuna.Study, FrozenTrial], None]
OnStudy = Callable[[optuna.Study], None]


@dataclass(frozen=True)
class Rival:
    """One method with one sampler and one seed; ``label`` is METHOD, or METHOD@SAMPLER where that was asked for."""

    label: str
    seed: int
    sampler: str = field(compare=False)
    chosen: Chosen = field(compare=False)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        return self.chosen.method.knobs(self.chosen.options)

    def study_name(self, series: str) -> str:
        """Name of its study."""
        return f"{series}-{self.label.replace('@', '.')}-s{self.seed}"

    def record(self, common: StudyRecord) -> StudyRecord:
        """Its record, from that of any other study of the comparison."""
        own = {"sampler": self.sampler, "seed": self.seed} | ({} if self.knobs else {"trials": 1})
        section = self.chosen.section()
        file = with_sections(common.study_file, search=own)
        return replace(
            common,
            method=section,
            knobs=self.knobs,
            search=common.search.model_copy(update=own),
            sampler=choose_sampler(self.sampler).settings,
            study_file=file and {**file, "method": MethodSection.model_validate(section).model_dump(mode="json")},
        )


@dataclass(frozen=True)
class Budget:
    """Of each study: finished trials, or slice passes, everything billed, of which the last may end beyond."""

    trials: int | None = None
    cost: float | None = None

    def of(self, rival: Rival) -> int:
        """The most trials of a study."""
        return (self.trials or MOST) if rival.knobs else 1

    def is_spent(self, rival: Rival, study: optuna.Study) -> bool:
        finished = count_trials(study).finished
        return finished >= self.of(rival) or bool(finished and self.cost and spent(study) >= self.cost)


def spent(study: optuna.Study) -> float:
    """Slice passes of a study: preparation, unlearning and evaluation."""
    found = cost_of(study)
    return found.preparation + found.passes


def rivals_of(labels: Sequence[str], seeds: Sequence[int], given: Mapping[str, Any]) -> list[Rival]:
    """All that are compared, method by method. labels : METHOD or METHOD@SAMPLER; ``all`` for every method there is.

    given : the ``[method]`` section of the study file, whose options its method keeps.

    Raises
    ------
    ConfigError : no label, or no such method or sampler.
    """
    if not labels:
        raise ConfigError("no methods to compare", "--methods", "name some, as in ft,ng, or all")
    rivals = []
    # one that chooses among the others is none of them
    everyone = [name for name in method_names() if not isinstance(find_method(name), Chooser)]
    names = [name for label in labels for name in (everyone if label == "all" else [label])]
    for label in dict.fromkeys(names):
        name, at, sampler = label.partition("@")
        if at and not sampler:
            raise ConfigError(f"no sampler after '@' in '{label}'", "--methods", f"write {name}@random, or {name}")
        choose_sampler(sampler or SAMPLER, "--methods")
        chosen = choose_method(given if name == given["name"] else {"name": name}, "--methods")
        rivals += [Rival(label, seed, sampler or SAMPLER, chosen) for seed in seeds]
    return rivals


def lacking(rivals: Iterable[Rival], task: Task) -> dict[str, str]:
    """What the task lacks, by the label of each method that cannot serve it."""
    found = {rival.label: rival.chosen.method.needs(task, rival.chosen.options) for rival in rivals}
    return {label: what for label, what in found.items() if what is not None}


def by_method(studies: Mapping[Rival, optuna.Study]) -> dict[str, dict[Rival, optuna.Study]]:
    """The studies by label."""
    found: dict[str, dict[Rival, optuna.Study]] = {}
    for rival, study in studies.items():
        found.setdefault(rival.label, {})[rival] = study
    return found


class _Spent(Exception):
    """The study has spent its slice passes."""


def run_rivals(
    studies: Mapping[Rival, optuna.Study],
    task: Task,
    unlearner: Unlearner,
    budget: Budget,
    *,
    seconds: float = 0.0,
    evaluator: Evaluator | None = None,
    pool: OpenPool | None = None,
    on_trial: OnTrial | None = None,
    on_study: OnStudy | None = None,
) -> None:
    """Run the studies of one method until each has spent its budget. ``seconds`` : that its preparation took.

    pool : see ``run_study``; trials under way when a budget of slice passes is spent are given up.

    Raises
    ------
    As ``run_study``.
    """
    for rival, study in studies.items():
        # what is found in a cache takes no time: the bill is that of whoever computed it
        known = study.user_attrs.get(PREPARATION_SECONDS, 0.0)
        study.set_user_attr(PREPARATION_SECONDS, max(known, seconds))
        enqueue_published(study, rival.chosen, rival.knobs)

        def after(study: optuna.Study, trial: FrozenTrial, rival: Rival = rival) -> None:
            if on_trial is not None:
                on_trial(study, trial)
            if budget.is_spent(rival, study):
                raise _Spent

        if budget.is_spent(rival, study):
            continue
        with suppress(_Spent):
            run_study(study, task, unlearner, trials=budget.of(rival), evaluator=evaluator, pool=pool, on_trial=after)
        if on_study is not None:
            on_study(study)


def middle(knobs: Sequence[Knob]) -> Setting:
    """The setting in the middle of every range, on its scale."""
    return {
        knob.name: knob.clip((knob.low * knob.high) ** 0.5 if knob.scale == "log" else (knob.low + knob.high) / 2)
        for knob in knobs
    }


@dataclass(frozen=True)
class Price:
    """What a study comes to at most: its trials, slice passes of its preparation, and those and the seconds of a trial,
    of which the mean where they differ."""

    trials: int
    preparation: float
    cost: float
    seconds: float


def price_of(rival: Rival, record: StudyRecord, unlearner: Unlearner, evaluator: Evaluator, budget: Budget) -> Price:
    """The price of a rival's study, from one trial at the middle of its ranges, which is kept nowhere.

    Of a method that chooses among others a trial of each of them, and the dearest are taken to win.
    """
    method, options, once, most = rival.chosen.method, rival.chosen.options, unlearner.preparation, budget.of(rival)
    if not isinstance(method, Chooser):
        outcome = _measure_once(record, unlearner, evaluator, middle(rival.knobs))
        trials = most
        if budget.cost is not None:
            trials = min(max(1, -int(-(budget.cost - once) // max(outcome.cost, 1.0))), most)
        return Price(trials, once, outcome.cost, _took(outcome))
    measured: dict[tuple[str, ...], Outcome] = {}
    tried: list[Tried] = []
    passes = seconds = 0.0
    while len(tried) < most and (budget.cost is None or once + passes < budget.cost):
        choice = method.choose(options, tried, most)
        if choice is None:
            break
        setting = {**middle(choice.knobs), **choice.given}
        key = tuple(setting)
        if key not in measured:
            first, measured[key] = (_measure_once(record, unlearner, evaluator, setting) for _ in range(2))
            once += first.cost - measured[key].cost  # a method's preparation is billed to its first trial
        cost = measured[key].cost
        tried.append(Tried(setting, cost, (0.0, cost)))
        passes, seconds = passes + cost, seconds + _took(measured[key])
    return Price(len(tried), once, passes / max(len(tried), 1), seconds / max(len(tried), 1))


def _took(outcome: Outcome) -> float:
    return sum(outcome.seconds.get(phase, 0.0) for phase in PHASES)


def _measure_once(record: StudyRecord, unlearner: Unlearner, evaluator: Evaluator, setting: Setting) -> Outcome:
    """One whole trial, kept nowhere."""
    if unlearner.effect(setting) == UNTOUCHED:
        return Outcome(record.baseline)
    rule = record.rule
    objective = Objective(evaluator, rule, record.baseline, untouched=record.untouched, stop_early=False)
    incumbent = Incumbent(rule(*record.qualities(record.baseline)), label=UNTOUCHED)
    return objective.measure(unlearner, setting, incumbent, setting_seed(record, setting))


def failure_of(study: optuna.Study) -> str | None:
    """What the last failed trial of a study failed of; None if none did."""
    failed = [trial.user_attrs[ERROR] for trial in study.get_trials(deepcopy=False) if ERROR in trial.user_attrs]
    return failed[-1] if failed else None
