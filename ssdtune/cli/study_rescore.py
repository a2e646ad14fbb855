"""``ssdtune study rescore``: the best trial under another goal, and what trials that were stopped early may hide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ssdtune.cli.console import FiniteRange, json_option, print_json, print_rows
from ssdtune.cli.storage import device_option, next_line, open_study, storage_option
from ssdtune.cli.study_read import leading_trial, print_top, score_row, trial_document, trial_in_words

if TYPE_CHECKING:
    import optuna

    from ssdtune.study.trials import ScoredTrial


@click.command(
    short_help="The best trial under another goal, from what is recorded.",
    epilog="Example: ssdtune study rescore mine --retain-weight 0.5 --min-retained 0.98",
)
@click.argument("name")
@click.option("--retain-weight", type=FiniteRange(0, 1), help="w of the score.  [default: the study's]")
@click.option("--min-retained", type=FiniteRange(0, 1), help="Feasibility bound.  [default: the study's]")
@click.option(
    "--evaluate", is_flag=True, help="Evaluate in full, as trials of the study, what may be better by its estimate."
)
@storage_option
@device_option
@json_option
def rescore(
    name: str,
    retain_weight: float | None,
    min_retained: float | None,
    evaluate: bool,
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Find the best trial under another goal from what is recorded.

    Nothing is evaluated again without --evaluate. Trials that were stopped early, being no candidates under the study's
    own goal, are named where their estimates are better than the best full evaluation.
    """
    from ssdtune.study.record import read_record
    from ssdtune.study.trials import scored_trials

    study = open_study(name, storage)
    record = read_record(study)
    least = record.rule.min_retained if min_retained is None else min_retained
    weight = record.rule.retain_weight if retain_weight is None else retain_weight
    rule = replace(record.rule, retain_weight=weight, min_retained=least)
    scored = scored_trials(study, rule)
    found = leading_trial(scored, name)
    hidden = better_by_estimate(scored, found)
    if evaluate and hidden:
        _evaluate(study, hidden, device)
        scored = scored_trials(study, rule)
        found, hidden = leading_trial(scored, name), []
    if as_json:
        trials = [score_row(item) for item in scored]
        best, promising = trial_document(found, record), [score_row(item) for item in hidden]
        goal = {"retain_weight": weight, "min_retained": least}
        print_json({**goal, "best": best, "better_by_estimate": promising, "trials": trials})
        return
    own = leading_trial(scored_trials(study), name)
    click.echo(f"best under retain_weight {weight:g}, min_retained {least:g}: {trial_in_words(found)}")
    was = f"retain_weight {record.rule.retain_weight:g}, min_retained {record.rule.min_retained:g}"
    click.echo(f"best under the study's own {was}: {trial_in_words(own)}")
    print_top(scored, "best trials under the new goal")
    if hidden:
        print_rows([score_row(item) for item in hidden], "stopped early, and better by their estimates")
        words = ["study", "rescore", name, "--retain-weight", f"{weight:g}", "--min-retained", f"{least:g}"]
        click.echo(f"to know, evaluate them in full: {next_line(storage, *words, '--evaluate')}")


def better_by_estimate(scored: list[ScoredTrial], found: ScoredTrial) -> list[ScoredTrial]:
    """Feasible estimates above the best full evaluation, the best first; of equal settings the first.

    An estimate whose setting has been evaluated in full since is none of them.
    """
    least = found.score.value if found.score.feasible and not found.estimated else -1.0
    known = {tuple(item.setting.items()) for item in scored if not item.estimated}
    chosen: dict[tuple[tuple[str, float], ...], ScoredTrial] = {}
    for item in scored:
        place = tuple(item.setting.items())
        if item.estimated and item.score.feasible and item.score.value > least and place not in known:
            chosen.setdefault(place, item)
    return sorted(chosen.values(), key=lambda item: -item.score.value)


def _evaluate(study: optuna.Study, hidden: list[ScoredTrial], device: str) -> None:
    """Every slice of these settings, each as a further trial."""
    from ssdtune.cli.study_run import Report, carry_out
    from ssdtune.study.large import storage_of
    from ssdtune.study.record import read_record
    from ssdtune.study.trials import count_trials

    report = Report(read_record(study), count_trials(study).finished + len(hidden))
    first = [item.trial.params for item in hidden]
    carry_out(study, storage_of(study), report, device, first=first, exact=True)
