"""``ssdtune study apply``: the unlearned checkpoint of a study's best trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.console import json_option, print_json
from ssdtune.cli.storage import device_option, open_study, storage_option
from ssdtune.cli.study_inputs import load_inputs
from ssdtune.cli.study_read import print_before_after
from ssdtune.errors import ConfigError, ModelError
from ssdtune.files import check_writable

if TYPE_CHECKING:
    import optuna

    from ssdtune.study.facts import StudyFacts
    from ssdtune.study.records import ScoredTrial


@click.command(short_help="Write the unlearned checkpoint.")
@click.argument("name")
@click.option("--trial", "number", type=click.IntRange(min=0), help="A finished trial.  [default: the best feasible]")
@click.option(
    "--out", required=True, metavar="CKPT", type=click.Path(dir_okay=False, path_type=Path), help="The new checkpoint."
)
@click.option("--overwrite", is_flag=True, help="Replace CKPT; never the original checkpoint.")
@storage_option
@device_option
@json_option
def apply(
    name: str, number: int | None, out: Path, overwrite: bool, storage: str | None, device: str, as_json: bool
) -> None:
    """Write the unlearned checkpoint, in the form of the original, with its provenance inside.

    Stock fastMRI loads it as it loaded the original. Prints every measure before and after.
    """
    from ssdtune.study.facts import read_facts
    from ssdtune.study.records import trial_record

    study = open_study(name, storage)
    facts = read_facts(study)
    chosen = _choose(study, number)
    check_writable(out, error=ModelError)
    # imported once the study is known to be there: these take seconds
    from ssdtune.mri.networks.models import load_model, save_model
    from ssdtune.mri.networks.train import check_free

    check_free(out, overwrite)
    _, analysis = load_inputs(name, facts, device)
    source = Path(str((facts.study_file or {})["model"]["checkpoint"]))
    if out.exists() and out.samefile(source):
        raise ConfigError("--out is the original checkpoint", out, "name another file")
    params = analysis.dampen(*chosen.setting)
    save_model(out, load_model(source), params, provenance(study, facts, chosen))
    if as_json:
        print_json({"study": name, "checkpoint": str(out), **trial_record(chosen), "baseline": dict(facts.baseline)})
        return
    click.echo(f"{out}: trial {chosen.number}, alpha {chosen.setting.alpha:.6g}, lambda {chosen.setting.lam:.6g}")
    print_before_after(study, chosen)


def provenance(study: optuna.Study, facts: StudyFacts, item: ScoredTrial) -> dict[str, Any]:
    """What an unlearned checkpoint says of itself, as plain JSON values; files by name, without their folders."""
    from ssdtune.study.records import trial_record

    return {
        "study": study.study_name,
        "trial": trial_record(item),
        "exponent": item.setting.exponent,
        "score": asdict(facts.rule),
        "floor_source": facts.floor_source,
        "baseline": dict(facts.baseline),
        "identity": dict(facts.identity),
        "versions": dict(facts.versions),
        "created": facts.created,
        "study_file": _without_folders(facts.study_file),
    }


def _without_folders(value: Any) -> Any:
    """A resolved study file that does not tell whose machine it was made on."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _choose(study: optuna.Study, number: int | None) -> ScoredTrial:
    from ssdtune.study.records import best_to_apply, find_trial

    if number is not None:
        return find_trial(study, number)
    return best_to_apply(study, "run more trials, or name a trial with --trial")
