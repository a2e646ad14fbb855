"""The papers' tables in small: every method as published and tuned at an equal budget, beside what was printed.

`seed` is Table 1 of the corrective unlearning paper (ghosted targets of 30 % of the training slices, a fifth of them
known), `xue` are Tables 1 to 3 of Xue et al. (brains kept, knees forgotten), each on simulated and on real anatomies
with simulated coils, 32 to 40 pixels, a VarNet of one cascade. `published` : rate of the training, a tenth of its
steps, weights as printed; `tuned` : the best feasible trial (s at w = 0.2, min_retained 0.95) of TPE with as many
trials for each method. Retain quality is reported on slices that steered nothing. Orders are compared, not decimals.
Results are kept one by one in `--work`: a run that was stopped goes on, and `--summary` shows what there is.
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.harness import ROOT, Metrics, add_resumable, commits_of, main, table
from benchmarks.outcome.runs import say
from benchmarks.papers.norms import norms_table
from benchmarks.papers.runs import estimate, failures, plan_of, run_all
from benchmarks.papers.tables import (
    Found,
    epochs_table,
    first_table,
    fractions_table,
    paper_metrics,
    ranks,
    tuned_against_published,
)
from benchmarks.papers.tasks import CASES, SEED, XUE, Case
from ssdtune.studyfile import DEFAULT_METHOD

QUICK = ("seed-simulated", "xue-simulated")
TITLES = {SEED: "Corrective unlearning, Table 1 (SSIM / PSNR / NMSE)", XUE: "Xue et al., Table 1 (PSNR / SSIM)"}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="those compared (default: all)")
    parser.add_argument("--tasks", nargs="+", metavar="KEY", help=f"of {', '.join(case.key for case in CASES)}")
    parser.add_argument("--models", type=int, help="trained models of a task (default 3)")
    parser.add_argument("--trials", type=int, help="of a study (default 20)")
    add_resumable(parser, ROOT / "build/papers")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    trials, models = chosen.trials or (6 if chosen.quick else 20), chosen.models or (1 if chosen.quick else 3)
    plan = plan_of(chosen.methods, trials, chosen.seed, chosen.work, chosen.quick)
    cases = choose_cases(chosen)
    if not chosen.summary:
        seconds = {case: sum(estimate(plan, case, model) for model in range(models)) for case in cases}
        rows = [[case.key, models, len(plan.labels_of(case)), f"{seconds[case]:.0f}"] for case in cases]
        total = sum(seconds.values())
        ahead = table(["task", "models", "methods", "seconds"], rows)
        ahead.append(f"about {total / 60:.0f} minutes of one calm core, {total / 60 / chosen.workers:.0f} of all")
        if chosen.dry_run:
            lines += ahead
            return {"estimate_s": total}
        say("\n".join(["what is missing:", *ahead]))
        run_all(plan, cases, models, chosen.workers)
    found = Found(plan, cases, models, chosen.seed)
    if not found.studies:
        raise SystemExit("error: no results yet, --work, run without --summary")
    metrics = paper_metrics(found)
    made = {(case.key, model) for case, model, _ in found.studies}
    metrics |= {"methods": len({label.partition("@")[0] for _, _, label in found.studies}), "models": len(made)}
    metrics["core_minutes"] = found.core_minutes
    lines.append(
        f"{metrics['methods']} methods, {len(made)} trained models of {len({key for key, _ in made})} tasks, "
        f"{trials} trials a study; {found.core_minutes:.1f} minutes of one core, the making of the models apart. "
        f"Run at commit {commits_of(plan.work)}."
    )
    for case in cases:
        if any(key == case.key for key, _ in made):
            more, more_metrics = tables_of(found, case)
            lines += more
            metrics |= more_metrics
    for title, (text, more_metrics) in {
        "As published and tuned": tuned_against_published(found),
        f"Ranks (`study create` takes {DEFAULT_METHOD})": ranks(found),
    }.items():
        if text:
            lines += ["", f"### {title}", "", *text]
            metrics |= more_metrics
    if failed := failures(plan, cases, models):
        lines += ["", "Not run:", "", *(f"- {what}: {why}" for what, why in failed.items())]
    return metrics


def tables_of(found: Found, case: Case) -> tuple[list[str], Metrics]:
    """All tables of one task."""
    where = "real anatomies" if case.real else "simulated anatomies"
    text, metrics = first_table(found, case.paper, case.real)
    lines = ["", f"### {TITLES[case.paper]}, {where}", "", *text]
    if case.paper == XUE:
        norms, more = norms_table(found, case.real)
        metrics |= more
        for title, part in {
            "Table 2, PSNR on retain test slices along the published unlearning": epochs_table(found, case.real),
            "The l1 norm of GA-l1, all else as published (gamma 1), and tuned; PSNR": norms,
            "Table 3, PSNR by share of the retain data": fractions_table(found, case.real),
        }.items():
            if part:
                lines += ["", f"{title}:", "", *part]
    return lines, metrics


def choose_cases(chosen: argparse.Namespace) -> list[Case]:
    """The tasks asked for, as far as their data are there."""
    wanted = chosen.tasks or (QUICK if chosen.quick else [case.key for case in CASES])
    unknown = set(wanted) - {case.key for case in CASES}
    if unknown:
        raise SystemExit(f"error: no task '{min(unknown)}', --tasks, choose among {', '.join(c.key for c in CASES)}")
    cases = [case for case in CASES if case.key in wanted]
    for case in cases:
        if case.needs is not None and not case.needs.exists():
            say(f"left out {case.key}: no {case.needs}, set SSDTUNE_TEST_DATA to the folder of the data")
    return [case for case in cases if case.needs is None or case.needs.exists()]


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
