"""From the studies of a competition on one task to its regret arrays and the points of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssdtune.errors import ConfigError
from ssdtune.report.competition import TARGET, Competition, competition_page
from ssdtune.report.competition_figures import Points, Surface
from ssdtune.report.page import write_page
from ssdtune.report.regret import incumbent_regret
from ssdtune.report.view import StudyView
from ssdtune.study.prior import StudyPrior


def competition_of(views: Mapping[str, Sequence[StudyView]], *, target: float = TARGET) -> Competition:
    """The competition of ``views[sampler]`` (one study a seed), all on one task and under one score rule.

    The best known s is the best feasible one of all these trials. Every study counts as far as the shortest one goes.

    Raises
    ------
    ConfigError : samplers with different numbers of studies, a study without trials, or different score rules.
    """
    everything = [view for studies in views.values() for view in studies]
    budget = min((len(view.trials) for view in everything), default=0)
    if budget == 0 or len({len(studies) for studies in views.values()}) != 1:
        raise ConfigError("not every sampler has run on every seed", "competition", "run all its studies first")
    if len({view.facts.rule for view in everything}) != 1:
        raise ConfigError("the studies have different score rules", "competition", "compare studies of one task")
    start = everything[0].untouched.value
    scores = [item.score.value for view in everything for item in view.trials if item.score.feasible]
    best_known = max([start, *scores])
    regret = {
        name: np.stack([_regret(points_of(view), budget, best_known, start) for view in studies])[None]
        for name, studies in views.items()
    }
    return Competition(regret, [everything[0].facts.task], target=target)


def write_competition(
    views: Mapping[str, Sequence[StudyView]], competition: Competition, title: str, path: Path | str
) -> Path:
    """Write the page of a competition's studies.

    Raises
    ------
    DataError : ``path`` cannot be written.
    """
    everything = [view for studies in views.values() for view in studies]
    fixed = next((view.prior for view in everything if view.prior is not None), None)
    page = competition_page(
        competition,
        title,
        places={sampler: points_of(studies[0]) for sampler, studies in views.items()},
        prior=surface_of(fixed) if fixed is not None else None,
        settings={sampler: studies[0].facts.sampler for sampler, studies in views.items()},
        measured=Points.join(points_of(view) for view in everything),
        prior_note=f"The prior: {fixed.in_words()}." if fixed is not None else "",
    )
    return write_page(page, path)


def points_of(view: StudyView) -> Points:
    """The finished trials of a study in order."""
    trials = view.trials
    return Points(
        alpha=np.array([item.setting.alpha for item in trials]),
        lam=np.array([item.setting.lam for item in trials]),
        score=np.array([item.score.value for item in trials]),
        feasible=np.array([item.score.feasible for item in trials], bool),
    )


def surface_of(fixed: StudyPrior) -> Surface:
    """What a study's prior expects of the score over its box."""
    surface, mode = fixed.prior.surface(), fixed.prior.mode
    return Surface(surface.alpha, surface.lam, surface.score.T, (mode["alpha"], mode["lambda"]), surface.feasible.T)


def _regret(points: Points, budget: int, best_known: float, start: float) -> np.ndarray:
    values, feasible = points.score[:budget], points.feasible[:budget]
    return incumbent_regret(values, feasible, best_known=best_known, start=start)
