"""What a checkpoint says of how its model was trained: masks and loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ssdtune.mri.losses import LOSSES, USUAL
from ssdtune.mri.networks.checkpoint import Checkpoint, provenance_of
from ssdtune.studyfile import MaskSection, StudyFile

# what fastMRI, its forks and ssdtune call them
_KIND, _FOLDS = ("mask_type", "mask_kind", "kind"), ("accelerations", "acceleration")
_SHARES = ("center_fractions", "center_fraction")


@dataclass(frozen=True)
class Recipe:
    """None: it does not say. ``pairs`` : accelerations and centre fractions, as many of one as of the other."""

    kind: str | None = None
    pairs: tuple[Any, Any] | None = None
    loss: str | None = None


def recipe_of(checkpoint: Checkpoint) -> Recipe:
    """What the hyperparameters of a Lightning checkpoint, the arguments of an older one, or our own provenance say."""
    kind = pairs = loss = None
    for source in _sources(checkpoint):
        kind = kind or _valid("kind", _first(source, _KIND))
        folds, shares = _plain(_first(source, _FOLDS)), _plain(_first(source, _SHARES))
        if pairs is None and folds is not None and shares is not None:
            pairs = (folds, shares) if _valid("acceleration", folds, center_fraction=shares) is not None else None
        named = str(source.get("loss", "")).replace("_", "-")
        loss = loss or (named if named in LOSSES else None)
    return Recipe(kind, pairs, loss)


def settled(study: StudyFile, checkpoint: Checkpoint, architecture: str) -> tuple[StudyFile, list[str]]:
    """The study file with what it leaves open taken from the checkpoint, and where the two differ, in words."""
    recipe, given = recipe_of(checkpoint), study.mask.model_fields_set
    found = {"kind": recipe.kind} if recipe.kind else {}
    if recipe.pairs:
        found |= dict(zip(("acceleration", "center_fraction"), recipe.pairs, strict=True))
    free = {"kind"} - given | (set() if given & {"acceleration", "center_fraction"} else set(found) - {"kind"})
    whole = study.mask.model_dump()
    mask = MaskSection.model_validate(whole | {key: value for key, value in found.items() if key in free})
    trained = MaskSection.model_validate(whole | found)
    notes = []
    if _told_apart(trained) != _told_apart(mask):
        notes.append(f"the study's mask is {mask.in_words()}, the checkpoint was trained with {trained.in_words()}")
    loss: str = study.fisher.loss
    if loss == "auto":
        loss = recipe.loss or USUAL[architecture]
    elif recipe.loss not in (None, loss):
        notes.append(f"the study's fisher.loss is {loss}, the checkpoint was trained with {recipe.loss}")
    fisher = study.fisher.model_copy(update={"loss": loss})
    return study.model_copy(update={"mask": mask, "fisher": fisher}), notes


def _sources(checkpoint: Checkpoint) -> Iterator[Mapping[str, Any]]:
    payload = checkpoint.payload
    kept = [payload.get(key) for key in ("datamodule_hyper_parameters", "args", "hparams")] if checkpoint.key else []
    own = provenance_of(checkpoint) or {}
    stored = own.get("study_file") or {}
    kept += [own.get("mask"), own.get("training"), stored.get("mask"), stored.get("fisher")]
    for source in (checkpoint.hyper_parameters, *kept):
        mapping = source if isinstance(source, Mapping) else vars(source) if hasattr(source, "__dict__") else {}
        yield mapping
        for inner in mapping.values():
            if hasattr(inner, "__dict__") or isinstance(inner, Mapping):
                yield inner if isinstance(inner, Mapping) else vars(inner)


def _first(source: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((source[name] for name in names if source.get(name) is not None), None)


def _plain(value: Any) -> Any:
    """One value for a list of one, whole numbers as such."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    values = [int(v) if isinstance(v, float) and v.is_integer() and v >= 1 else v for v in values]
    return values[0] if len(values) == 1 else tuple(values)


def _valid(key: str, value: Any, **others: Any) -> Any:
    try:
        return value if MaskSection.model_validate({key: value, **others}) and value is not None else None
    except ValidationError:
        return None


def _told_apart(mask: MaskSection) -> tuple[Any, ...]:
    return mask.kind, mask.accelerations, mask.center_fractions
