"""From results to the papers' tables, ours beside what was printed, and to ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.harness import Metrics, table
from benchmarks.outcome.runs import Result
from benchmarks.outcome.tables import Goal, Study, interval
from benchmarks.papers.printed import SEED_TABLE_1, XUE_TABLE_1, XUE_TABLE_2, XUE_TABLE_3
from benchmarks.papers.runs import BOUND, CORE, FIFTHS, SHARED, Plan, base, read_all
from benchmarks.papers.tasks import SEED, XUE, Case
from ssdtune.objective.score import ScoreRule
from ssdtune.study.record import as_number

GOAL = Goal(0.2, BOUND)
COLUMNS = {SEED: {"retain": "test", "forget": "forget"}, XUE: {"bta": "test", "kta": "unseen", "ua": "forget"}}
"""What is measured on which set."""

MEASURES = {SEED: ("ssim", "psnr", "nmse"), XUE: ("psnr", "ssim")}
PRINTED: Mapping[str, Mapping[str, Mapping[str, tuple[float, ...]]]] = {SEED: SEED_TABLE_1, XUE: XUE_TABLE_1}
UNCHANGED = ("original", "oracle")
COST_OF = "ft"
"""Equal cost is that of its whole study on the same model."""

Means = Mapping[str, float | None]


@dataclass(frozen=True)
class Found:
    """All that has been measured. Keys are (case, model, label)."""

    plan: Plan
    cases: Sequence[Case]
    models: int
    seed: int

    @cached_property
    def studies(self) -> dict[tuple[Case, int, str], Study]:
        return {
            (c, m, label): Study(r, GOAL) for c, m, label, r in read_all(self.plan, self.cases, self.models, "tuned")
        }

    @cached_property
    def published(self) -> dict[tuple[Case, int, str], Result]:
        return {(c, m, label): r for c, m, label, r in read_all(self.plan, self.cases, self.models, "published")}

    def means(self, how: str, paper: str, row: str, real: bool | None = None) -> list[Means]:
        """Measures of a row by trained model: ``how`` is tuned or published, ``row`` a label, original or oracle."""
        chosen = [c for c in self.cases if c.paper == paper and real in (None, c.real)]
        if row in UNCHANGED:
            name = "baseline" if row == "original" else "oracle"
            first = {(c, m): study for (c, m, _), study in self.studies.items() if c in chosen}
            return [study.result[name] for study in first.values()]
        if how == "tuned":
            return [study.measures for (c, _, label), study in self.studies.items() if c in chosen and label == row]
        return [result["runs"][-1] for (c, _, label), result in self.published.items() if c in chosen and label == row]

    @property
    def core_minutes(self) -> float:
        """Processor time of all results, the making of models apart."""
        results = [*(study.result for study in self.studies.values()), *self.published.values()]
        found: float = sum(result.get(CORE, 0.0) for result in results) / 60
        return found

    def mean(self, how: str, paper: str, row: str, name: str, real: bool | None = None) -> float:
        values = [as_number(means.get(name)) for means in self.means(how, paper, row, real)]
        return float(np.mean(values)) if values else math.nan


def label_of(paper: str, row: str) -> str:
    """The label of a row of a first table: a tenth of the retain data in Xue et al."""
    return f"{row}@10" if paper == XUE and row in SHARED else row


def fraction_label(row: str, percent: int) -> str:
    return "full-ft" if (row, percent) == ("ft", 100) else f"{row}@{percent}"


def paper_metrics(found: Found) -> Metrics:
    metrics: Metrics = {}
    for paper, columns in COLUMNS.items():
        rows = [*UNCHANGED, *dict.fromkeys(base(label) for label in (*found.plan.labels, *PRINTED[paper]))]
        for row in rows:
            for how in ("published", "tuned"):
                for column, name in columns.items():
                    for measure in MEASURES[paper]:
                        value = found.mean(
                            how, paper, label_of(paper, row) if row not in UNCHANGED else row, f"{name}_{measure}"
                        )
                        if math.isfinite(value):
                            prefix = f"{paper}.{row}" if row in UNCHANGED else f"{paper}.{how}.{row}"
                            metrics[f"{prefix}.{column}_{measure}"] = value
    for percent in XUE_TABLE_3:
        for row in SHARED:
            for how in ("published", "tuned"):
                value = found.mean(how, XUE, fraction_label(row, percent), "test_psnr")
                if math.isfinite(value):
                    metrics[f"{XUE}.fraction_{percent}.{how}.{row}.bta_psnr"] = value
    return metrics


def first_table(found: Found, paper: str, real: bool) -> tuple[list[str], Metrics]:
    """A paper's Table 1 beside ours, and the share of pairs of rows that are in the printed order."""
    columns, printed = COLUMNS[paper], PRINTED[paper]
    measures = MEASURES[paper]
    psnr = measures.index("psnr")
    rows, ours = [], {}
    for row, known in printed.items():
        label = row if row in UNCHANGED else label_of(paper, row)
        values = {
            how: [[found.mean(how, paper, label, f"{name}_{m}", real) for m in measures] for name in columns.values()]
            for how in ("published", "tuned")
        }
        if not math.isfinite(values["published"][0][psnr]) and not math.isfinite(values["tuned"][0][psnr]):
            continue
        ours[row] = values
        cells = []
        for place, column in enumerate(columns):
            cells += [_cell(known[column], measures), _cell(values["published"][place], measures)]
            cells += ["" if row in UNCHANGED else _cell(values["tuned"][place], measures)]
        rows.append([row, *cells])
    heads = [f"{column} {how}" for column in columns for how in ("printed", "published", "tuned")]
    lines = table(
        ["method", *heads, "place by first PSNR: printed, published, tuned"],
        [[*row, _places(row[0], printed, ours, next(iter(columns)), psnr)] for row in rows],
    )
    metrics: Metrics = {}
    words = []
    for how in ("published", "tuned"):
        for place, column in enumerate(columns):
            pairs = [
                (printed[a][column][psnr] - printed[b][column][psnr])
                * (ours[a][how][place][psnr] - ours[b][how][place][psnr])
                > 0
                for a, b in combinations([row for row in ours if row not in UNCHANGED], 2)
            ]
            if pairs:
                name = f"{paper}.{'real' if real else 'simulated'}.{how}.{column}_order"
                metrics[name] = float(np.mean(pairs))
                words.append(f"{how} {column} {metrics[name]:.0%}")
    return [*lines, "", f"Pairs of methods in the printed order of PSNR: {', '.join(words)}."], metrics


def _places(row: str, printed: Any, ours: Any, column: str, psnr: int) -> str:
    if row in UNCHANGED:
        return ""
    rows = [name for name in ours if name not in UNCHANGED]
    values = [[printed[name][column][psnr] for name in rows]]
    values += [
        [np.nan_to_num(ours[name][how][0][psnr], nan=-math.inf) for name in rows] for how in ("published", "tuned")
    ]
    return ", ".join(f"{rankdata(-np.array(column))[rows.index(row)]:g}" for column in values)


def _cell(values: Sequence[float], measures: Sequence[str]) -> str:
    if not any(map(math.isfinite, values)):
        return "not finite or not run"
    return " / ".join(
        f"{value:.{2 if measure == 'psnr' else 3}f}" for value, measure in zip(values, measures, strict=True)
    )


def epochs_table(found: Found, real: bool) -> list[str]:
    """Table 2: PSNR on the retain test set after each fifth of the published unlearning."""
    rows = []
    for label in FIFTHS:
        runs = [
            r["runs"]
            for (c, _, name), r in found.published.items()
            if name == label and c.real == real and c.paper == XUE
        ]
        if runs:
            means = [np.mean([as_number(run[k]["test_psnr"]) for run in runs]) for k in range(len(runs[0]))]
            rows.append([base(label), XUE_TABLE_2[base(label)], *(f"{mean:.2f}" for mean in means)])
    return table(["method", "printed", *(f"{k}/5" for k in range(1, 6))], rows) if rows else []


def fractions_table(found: Found, real: bool) -> list[str]:
    """Table 3: PSNR on retain test and forget test by the share of retain data; printed, published, tuned."""
    rows = []
    for percent, printed in XUE_TABLE_3.items():
        for row in SHARED:
            label = fraction_label(row, percent)
            ours = [
                [found.mean(how, XUE, label, f"{name}_psnr", real) for name in ("test", "unseen")]
                for how in ("published", "tuned")
            ]
            if any(math.isfinite(value) for pair in ours for value in pair):
                rows.append(
                    [f"{percent} %", row, *(" / ".join(f"{v:.2f}" for v in pair) for pair in (printed[row], *ours))]
                )
    return table(["retain", "method", "printed BTA / KTA", "published", "tuned"], rows) if rows else []


def score_of(study: Study, means: Means) -> float:
    """s of measures under a study's rule; the untouched model's where infeasible or no better."""
    rule: ScoreRule = study.rule
    q = study.result["quality"]
    score = rule(as_number(means[f"retain_{q}"]), as_number(means[f"forget_{q}"]))
    return max(score.value, rule.retain_weight) if score.feasible else rule.retain_weight


def tuned_against_published(found: Found) -> tuple[list[str], Metrics]:
    """s as published and tuned of each method, and where tuning came to less."""
    metrics: Metrics = {}
    rows, behind = [], []
    labels = dict.fromkeys(label for _, _, label in found.published)
    for label in labels:
        pairs = [
            (score_of(found.studies[key], result["runs"][-1]), found.studies[key].best, key)
            for key, result in found.published.items()
            if key[2] == label and key in found.studies
        ]
        if pairs and (label in found.plan.labels or label.endswith("@10")):
            before, after = (float(np.mean([pair[k] for pair in pairs])) for k in (0, 1))
            worse = [f"{c.key} model {m} by {p - t:.3f}" for p, t, (c, m, _) in pairs if t < p - 0.005]
            rows.append([label, len(pairs), f"{before:.3f}", f"{after:.3f}", len(worse)])
            metrics |= {f"published.{label}.s": before, f"tuned.{label}.s": after}
            behind += [f"{label} on {place}" for place in worse]
    lines = table(["method", "models", "s published", "s tuned", "models where tuned is less"], rows)
    return [*lines, "", "Tuned is less: " + ("; ".join(behind) if behind else "nowhere") + "."], metrics


def ranks(found: Found) -> tuple[list[str], Metrics]:
    """Mean rank of each method's best s, at equal trials and at equal cost, with intervals over trained models."""
    labels = [
        label for label in found.plan.labels if "@" not in label and any(key[2] == label for key in found.studies)
    ]
    places = list(dict.fromkeys((c, m) for c, m, _ in found.studies))
    complete = [place for place in places if all((*place, label) in found.studies for label in labels)]
    if not complete or len(labels) < 2:
        return [], {}
    best, within = np.zeros((2, len(complete), len(labels)))
    for row, (case, model) in enumerate(complete):
        of = {label: found.studies[case, model, label] for label in labels}
        budget = of[COST_OF].cost if COST_OF in of else max(study.cost for study in of.values())
        best[row] = [study.best for study in of.values()]
        within[row] = [study.best_within(budget) for study in of.values()]
    metrics: Metrics = {}
    rows = []
    at_trials, at_cost = (rankdata(-np.round(values, 3), axis=1) for values in (best, within))
    for column, label in enumerate(labels):
        low, high = interval(at_cost[:, column], np.mean, found.seed)
        metrics |= {
            f"rank.{label}": float(at_trials[:, column].mean()),
            f"rank_at_cost.{label}": float(at_cost[:, column].mean()),
        }
        metrics |= {f"rank_at_cost.{label}.lo": low, f"rank_at_cost.{label}.hi": high}
        rows.append(
            [
                label,
                f"{at_trials[:, column].mean():.2f}",
                f"{at_cost[:, column].mean():.2f} [{low:.2f}, {high:.2f}]",
                f"{best[:, column].mean():.3f}",
                f"{within[:, column].mean():.3f}",
                f"{np.mean([found.studies[c, m, label].cost for c, m in complete]):.0f}",
            ]
        )
    rows.sort(key=lambda row: float(row[2].split()[0]))
    head = ["method", "rank, equal trials", "rank, equal cost", "best s", "s at equal cost", "slice passes"]
    return [
        f"{len(complete)} trained models of {len({c.key for c, _ in complete})} tasks; equal cost is that of the whole "
        f"study of {COST_OF if COST_OF in labels else 'the dearest'}; brackets: 95 % over trained models.",
        "",
        *table(head, rows),
    ], metrics
