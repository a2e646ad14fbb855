"""From the studies of a competition on one task to its regret arrays and its page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssdtune.errors import ConfigError
from ssdtune.report.competition import Competition, competition_page
from ssdtune.report.knobs import Points, points_of
from ssdtune.report.page import write_page
from ssdtune.report.regret import incumbent_regret
from ssdtune.report.ssd_plane import prior_section
from ssdtune.report.view import StudyView


def competition_of(views: Mapping[str, Sequence[StudyView]], known: float = -math.inf) -> Competition:
    """The competition of ``views[sampler]`` (one study a seed), all on one task and under one score rule.

    The best known s is the best feasible one, evaluated in full, of all these trials, or ``known`` where other studies
    of the task have found a better one. Every study counts as far as the shortest one goes.

    Raises ConfigError: samplers with different numbers of studies, a study without trials, or different score rules.
    """
    everything = [view for studies in views.values() for view in studies]
    budget = min((len(view.trials) for view in everything), default=0)
    if budget == 0 or len({len(studies) for studies in views.values()}) != 1:
        raise ConfigError("not every sampler has run on every seed", "competition", "run all its studies first")
    if len({view.record.rule for view in everything}) != 1:
        raise ConfigError("the studies have different score rules", "competition", "compare studies of one task")
    start = everything[0].untouched.value
    full = [item for view in everything for item in view.trials if not item.estimated]
    best_known = max([start, known, *(item.score.value for item in full if item.score.feasible)])

    def regret(view: StudyView) -> np.ndarray:
        points = points_of(view)
        return incumbent_regret(points.score[:budget], points.feasible[:budget], best_known=best_known, start=start)

    runs = {name: np.stack([regret(view) for view in studies])[None] for name, studies in views.items()}
    return Competition(runs, [everything[0].record.task])


def write_competition(
    views: Mapping[str, Sequence[StudyView]],
    competition: Competition,
    title: str,
    path: Path | str,
    commands: Sequence[str] = (),
) -> Path:
    """Write the page of a competition's studies; ``commands`` say what to do next.

    Raises DataError: ``path`` cannot be written.
    """
    everything = [view for studies in views.values() for view in studies]
    fixed = next((view.prior for view in everything if view.prior is not None), None)
    measured = Points.join(points_of(view) for view in everything)
    more = prior_section(fixed, measured) if fixed is not None else None
    page = competition_page(
        competition,
        title,
        places={sampler: points_of(studies[0]) for sampler, studies in views.items()},
        settings={sampler: studies[0].record.sampler for sampler, studies in views.items()},
        more=[more] if more is not None else [],
        commands=commands,
    )
    return write_page(page, path)
