"""What studies of SSD teach the mapper: each keeps its task view, so that a refit needs the storage alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ssdtune.arrays import Array
from ssdtune.errors import ConfigError
from ssdtune.files import content_hash
from ssdtune.plane.bilinear import cell, interpolate
from ssdtune.plane.settings import GRID_KAPPA, GRID_RHO
from ssdtune.prior.experience import Experience
from ssdtune.prior.view import TaskView
from ssdtune.study.large import read_large, write_large
from ssdtune.study.record import VIEW, StudyRecord, as_number, is_ours, read_record, read_trial
from ssdtune.unlearning.method import Unlearner

_FEWEST = 5
_WIDEST = 0.03  # standard error of an estimate that is learned from
_LEAST = 1e-30


def keep_view(study: optuna.Study, record: StudyRecord, unlearner: Unlearner) -> None:
    """Keep in the study what the mapper sees of its task, once, where it can be learned from later."""
    view = None if VIEW in study.user_attrs else unlearner.view()
    if view is not None:
        write_large(study, VIEW, view, {"forget": record.counts.get("fisher.forget")})


def study_experiences(storage: optuna.storages.BaseStorage) -> list[Experience]:
    """What every finished study of a storage taught, in order of their names.

    Studies with too few settings that are known well enough, with an exponent other than 1, or made when views were
    not kept or were on another grid teach nothing and are left out.
    """
    names = sorted(optuna.get_all_study_names(storage))
    found = (experience_of(optuna.load_study(study_name=name, storage=storage)) for name in names)
    return [each for each in found if each is not None]


def _teaches(values: Mapping[str, Any]) -> bool:
    """Whether a trial's outcome is known well enough: in full, or by a narrow estimate; nothing selected is no news."""
    errors = [values.get(f"{name}_se", 0.0) for name in ("retained", "remembered")]
    return bool(values.get("rho", 0) > 0 and max(errors) <= _WIDEST)


def experience_of(study: optuna.Study) -> Experience | None:
    """One study as experience; None if it is not finished or cannot be learned from.

    Studies on the same model and data are one family, however many there are.
    """
    kept = read_large(study, VIEW) if is_ours(study.user_attrs) else None
    if kept is None:
        return None
    try:
        view = TaskView.from_json(kept[1])
    except ConfigError:  # of another version's grid
        return None
    record = read_record(study)
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    full = [trial for trial in finished if _teaches(read_trial(trial))]
    if len(finished) < record.search.trials or len(full) < _FEWEST or not record.rule.q_forget > record.rule.floor:
        return None
    rho, kappa = (np.array([float(read_trial(trial)[name]) for trial in full]) for name in ("rho", "kappa"))
    alpha = np.array([float(read_trial(trial)["effective_alpha"]) for trial in full])
    retain, forget = (f"{name}_{record.quality}" for name in ("retain", "forget"))
    return Experience(
        key=study.study_name,
        family=f"study/{content_hash([f'{name}={value}' for name, value in sorted(record.identity.items())])[:12]}",
        recipe={"kind": "study", "name": study.study_name, "created": record.created},
        q_retain=retain,
        q_forget=forget,
        baseline={retain: record.rule.q_retain, forget: record.rule.q_forget},
        oracle={forget: record.rule.floor},
        alpha=alpha,
        lam=alpha * kappa,
        measures={retain: _column(full, record, 0), forget: _column(full, record, 1)},
        features=view.features,
        tables={
            "grid_alpha": view.alpha,
            **{f"grid_{name}": term for name, term in view.terms.items()},
            **{f"design_{name}": term for name, term in terms_at(view, rho, kappa).items()},
        },
    )


def terms_at(view: TaskView, rho: Array, kappa: Array) -> dict[str, Array]:
    """Damage terms (n,) between the nodes of a view's grid, linear in log rho and log kappa; terms that cannot be
    negative are interpolated as logarithms."""
    place = cell(np.log(GRID_RHO), np.log(rho)), cell(np.log(GRID_KAPPA), np.log(kappa))
    found = {}
    for name, term in view.terms.items():
        if name.endswith("_first"):
            found[name] = interpolate(term, *place)
        else:
            found[name] = np.exp(interpolate(np.log(np.maximum(term, _LEAST)), *place))
    return found


def _column(trials: list[FrozenTrial], record: StudyRecord, which: int) -> Array:
    return np.array([as_number(record.qualities(read_trial(trial))[which]) for trial in trials])
