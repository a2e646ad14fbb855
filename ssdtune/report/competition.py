"""A competition of samplers as one page: regret, trials to target, ranks, and where each sampler looked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssdtune.errors import ConfigError
from ssdtune.report.competition_figures import critical_difference_figure, regret_figure, solved_figure
from ssdtune.report.knobs import Points, places_figure
from ssdtune.report.page import Block, Page, Plot, Section, Table, Text
from ssdtune.report.ranking import RankTest, rank_test
from ssdtune.report.regret import area_under_regret, block_curves, block_trials, mean_band, solved_curve, win_rate

REPORTED = (1, 3, 5, 10, 15, 30, 40, 50, 100)
"""Trial numbers at which regret is reported, as far as the budget goes."""

AREAS = (10, 30)
"""Budgets over which the area under regret is ranked."""

TARGET = 0.01


@dataclass(frozen=True, eq=False)
class Competition:
    """Runs of several samplers on the same tasks, seeds and budget.

    regret : sampler -> (tasks, seeds, trials) incumbent regret, see ``ssdtune.report.regret``. tasks : their names.
    target : regret that counts as solved. reference : the sampler that win rates are taken against.

    Raises ConfigError: no sampler, or arrays of different shapes.
    """

    regret: Mapping[str, np.ndarray]
    tasks: Sequence[str]
    target: float = TARGET
    reference: str = "tpe"

    def __post_init__(self) -> None:
        shapes = {np.shape(runs) for runs in self.regret.values()}
        if len(shapes) != 1 or next(iter(shapes))[0] != len(self.tasks):
            raise ConfigError(
                f"samplers have runs of shapes {sorted(shapes)} for {len(self.tasks)} tasks",
                "competition",
                "give every sampler the same tasks, seeds and trials",
            )
        for runs in self.regret.values():
            block_curves(runs)

    @property
    def budget(self) -> int:
        return int(next(iter(self.regret.values())).shape[2])

    @property
    def blocks(self) -> str:
        """What ranks and bands are taken over: tasks, or seeds where there is one task only."""
        return "tasks" if len(self.tasks) > 1 else "seeds"

    @property
    def reported(self) -> list[int]:
        """Trial numbers inside the budget at which regret is reported."""
        return [count for count in REPORTED if count <= self.budget]

    @property
    def ranked(self) -> list[int]:
        """Budgets over which samplers are ranked: those of ``AREAS`` inside the budget, else the budget itself."""
        return [area for area in AREAS if area <= self.budget] or [self.budget]

    def curves(self) -> dict[str, np.ndarray]:
        """Sampler -> (blocks, trials) regret."""
        return {name: block_curves(runs) for name, runs in self.regret.items()}

    def trials(self) -> dict[str, np.ndarray]:
        """Sampler -> (blocks,) trials to target, inf where the budget ended first."""
        return {name: block_trials(runs, self.target) for name, runs in self.regret.items()}

    def areas(self, trials: int) -> dict[str, np.ndarray]:
        """Sampler -> (blocks,) area under regret over the first ``trials`` trials."""
        return {name: area_under_regret(curves, trials) for name, curves in self.curves().items()}

    def ranks(self, trials: int) -> RankTest | None:
        """Rank test of the areas under regret; None where there are too few samplers or blocks to rank."""
        try:
            return rank_test(self.areas(trials))
        except ConfigError:
            return None

    def metrics(self) -> dict[str, float]:
        """Flat ``{metric.sampler: number}``, as the benchmarks report them; inf: more than the budget."""
        flat = {f"median_trials.{name}": float(np.median(trials)) for name, trials in self.trials().items()}
        for name, curves in self.curves().items():
            flat |= {f"regret.{name}.{count}": float(curves[:, count - 1].mean()) for count in self.reported}
        for area in self.ranked:
            if (test := self.ranks(area)) is not None:
                flat |= {f"mean_rank_{area}.{name}": rank for name, rank in test.mean_ranks.items()}
        return flat | {f"win_rate.{name}": rate for name, rate in self.win_rates().items()}

    def win_rates(self) -> dict[str, float]:
        """Share of blocks on which each sampler's area under regret over the budget is below the reference's."""
        areas = self.areas(self.budget)
        if self.reference not in areas:
            return {}
        return {name: win_rate(area, areas[self.reference]) for name, area in areas.items() if name != self.reference}


def competition_page(
    competition: Competition,
    title: str,
    *,
    places: Mapping[str, Points] | None = None,
    settings: Mapping[str, str] | None = None,
    more: Sequence[Section] = (),
    commands: Sequence[str] = (),
) -> Page:
    """The page; ``commands`` say what to do next.

    places : where each sampler looked, one run each. settings : each sampler's settings in words. more : sections of
    what the samplers were given.
    """
    means = f"Regret is the mean over {competition.blocks} (and the median)."
    sections = [
        Section("Regret", [_curves(competition)]),
        Section("Trials to target", [_solved(competition)]),
        Section("Ranks", _ranks(competition)),
        Section("Numbers", [Text(means), numbers_table(competition)]),
        *more,
    ]
    if places:
        note = 'One run of each sampler; colour is the order of its trials, crosses or lines to "no" are infeasible.'
        sections.append(Section("Where each sampler looked", [Plot("ssdtune-places", places_figure(places), note)]))
    if settings:
        sections.append(Section("Samplers", [Table(["sampler", "settings"], list(settings.items()))]))
    judged = judgement(competition)
    return Page("competition of samplers", title, verdict(competition), sections, judgement=judged, commands=commands)


def judgement(competition: Competition) -> list[str]:
    """Whether the first differs from the others by its rank, or that too little was run to say."""
    test = competition.ranks(competition.ranked[-1])
    if test is None:
        return ["One run of each sampler does not tell them apart: --seeds 5 or more ranks them."]
    first = next(iter(test.mean_ranks))
    like = next((group for group in test.groups if first in group), ())
    others = ", ".join(name for name in like if name != first)
    words = f"By mean rank {first} is first"
    return [f"{words}, and {others} do not differ from it." if others else f"{words}, and differs from all others."]


def verdict(competition: Competition) -> str:
    """Who reached the target first, and by how much, in one sentence or two."""
    medians = sorted((float(np.median(trials)), name) for name, trials in competition.trials().items())
    budget = competition.budget
    words = [f"{name} {_count(median, budget)}" for median, name in medians]
    seeds = next(iter(competition.regret.values())).shape[1]
    return (
        f"Median trials to within {competition.target:g} of the best known score: {', '.join(words)}. "
        f"{_plural(len(competition.tasks), 'task')}, {_plural(seeds, 'seed')}, {_plural(budget, 'trial')} each."
    )


def numbers_table(competition: Competition) -> Table:
    """One row a sampler: median trials to target, share that never arrived, regret at trial counts, win rate."""
    reported = _few(competition.reported)
    wins = competition.win_rates()
    columns = ["sampler", "median trials", "censored", *(f"regret @{count}" for count in reported)]
    columns += [f"wins against {competition.reference}"] if wins else []
    rows = []
    for name, curves in competition.curves().items():
        trials = competition.trials()[name]
        row: list[object] = [name, _count(float(np.median(trials)), competition.budget)]
        row += [f"{np.mean(~np.isfinite(trials)):.0%}", *(_regret(curves[:, at - 1]) for at in reported)]
        row += [f"{wins[name]:.0%}" if name in wins else ""] if wins else []
        rows.append(row)
    return Table(columns, rows, numeric=range(1, len(columns)))


def _curves(competition: Competition) -> Block:
    bands = {name: mean_band(curves) for name, curves in competition.curves().items()}
    note = (
        f"Best known score minus the best feasible score so far, mean over {competition.blocks} with a 95 % bootstrap "
        "band; the start is the untouched model."
    )
    return Plot("ssdtune-regret", regret_figure(bands), note)


def _solved(competition: Competition) -> Block:
    curves = {name: solved_curve(trials, competition.budget) for name, trials in competition.trials().items()}
    note = (
        f"Share of {competition.blocks} within {competition.target:g} of the best known score "
        "(Kaplan-Meier; runs that never arrive are censored at the budget; 95 % bands)."
    )
    return Plot("ssdtune-solved", solved_figure(curves), note)


def _ranks(competition: Competition) -> list[Block]:
    blocks: list[Block] = []
    for area in competition.ranked:
        test = competition.ranks(area)
        if test is None:
            return [Text("Too few samplers, tasks or seeds to rank.")]
        note = (
            f"Mean ranks of the area under regret over the first {area} trials, over {test.blocks} "
            f"{competition.blocks}. {test.test}: {test.statistic:.3g}, p = {test.p_value:.2g}. Bars join samplers "
            f"closer than the Nemenyi critical difference {test.critical_difference:.2f} at {test.level:g} "
            "(Demsar, JMLR 2006)."
        )
        chart = critical_difference_figure(test, f"Ranks, first {area} trials", list(competition.regret))
        blocks.append(Plot(f"ssdtune-ranks-{area}", chart, note))
    return blocks


def _few(counts: Sequence[int], most: int = 6) -> list[int]:
    """At most so many, evenly among them, with the first and the last."""
    places = np.unique(np.linspace(0, len(counts) - 1, min(most, len(counts))).round().astype(int))
    return [counts[place] for place in places]


def _regret(values: np.ndarray) -> str:
    """Mean and median, where they can differ."""
    return f"{values.mean():.4f}" + (f" ({np.median(values):.4f})" if len(values) > 1 else "")


def _count(trials: float, budget: int) -> str:
    return f"{trials:g}" if math.isfinite(trials) else f">{budget}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
