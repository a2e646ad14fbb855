"""``ssdtune.tune``: the whole search in one call, for any task made in Python."""

from __future__ import annotations

import optuna
from torch import Tensor

from ssdtune.errors import ConfigError
from ssdtune.progress import Track, silent
from ssdtune.samplers.space import Analysis
from ssdtune.study.create import create_study
from ssdtune.study.records import best_to_apply
from ssdtune.study.run import run_study
from ssdtune.study.storage import open_storage
from ssdtune.studyfile import ScoreSection, SearchSection
from ssdtune.task import Task


def tune(
    task: Task,
    trials: int = 30,
    *,
    sampler: str = "spectrum",
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    seed: int = 0,
    retain_weight: float = 0.2,
    min_retained: float = 0.95,
    alpha: tuple[float, float] = (0.1, 300.0),
    lam: tuple[float, float] = (0.03, 300.0),
    analysis: Analysis | None = None,
    track: Track = silent,
) -> optuna.Study:
    """Search (alpha, lambda) for a task and return the finished Optuna study.

    ``study.best_trial`` is the best; as for any Optuna study it raises ValueError if there is none (where no trial came
    near being feasible and better than the untouched model, all were stopped early). storage : a storage URL or an
    Optuna storage; None keeps the study in memory. analysis : the task's Fisher analysis, computed if it is not given.

    Raises
    ------
    ConfigError : a value out of range, no such sampler, or nothing to forget.
    StorageError : the name is taken, or the storage cannot be written.
    """
    section = {"sampler": sampler, "trials": trials, "seed": seed, "alpha": alpha, "lambda": lam}
    try:
        search = SearchSection.model_validate(section)
        score = ScoreSection(retain_weight=retain_weight, min_retained=min_retained)
    except ValueError as reason:
        raise ConfigError(" ".join(str(reason).split()), "tune", "see its documentation") from reason
    kept = open_storage(storage, create=True) if isinstance(storage, str) else storage
    study = create_study(task, kept, name=name, search=search, score=score, track=track)
    run_study(study, task, analysis or analyse(task, track), track=track)
    return study


def analyse(task: Task, track: Track = silent) -> Analysis:
    from ssdtune.fisher.analysis import analyse as compute

    analysis: Analysis = compute(task, track=track)
    return analysis


def unlearned_params(study: optuna.Study, analysis: Analysis) -> dict[str, Tensor]:
    """Dampened parameters of a study's best feasible trial, by name; load them into the model as they are.

    Raises
    ------
    ConfigError : the study has no feasible trial, or all feasible ones were stopped early.
    """
    best = best_to_apply(study, "run more trials, or ask for less")
    return dict(analysis.dampen(*best.setting))
