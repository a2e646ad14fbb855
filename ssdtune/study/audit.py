"""The evaluations of a study's trials by the field's measures, kept in the study."""

from __future__ import annotations

import optuna

from ssdtune.audit.audit import VERSION, Audit

_NAME = "evaluated:"  # a trial that is finished takes no attribute any more


def write_audit(study: optuna.Study, number: int, found: Audit) -> None:
    """Keep a trial's evaluation in place of an earlier one."""
    study.set_user_attr(f"{_NAME}{number}", found.to_json())


def read_audits(study: optuna.Study) -> dict[int, Audit]:
    """Evaluations by trial, in order of their numbers; those of a newer ssdtune are left out."""
    attributes = study.user_attrs
    numbers = sorted(int(key.removeprefix(_NAME)) for key in attributes if key.startswith(_NAME))
    stored = {number: attributes[f"{_NAME}{number}"] for number in numbers}
    return {number: Audit.from_json(each) for number, each in stored.items() if each["version"] <= VERSION}
