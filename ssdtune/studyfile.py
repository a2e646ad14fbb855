"""The study file: TOML, validated once; unknown keys are refused with the nearest valid name."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from ssdtune.errors import ConfigError, near_file, nearest
from ssdtune.faults import explain_faults
from ssdtune.places import Located, Source, data_folder

SAMPLER_NAMES = ("spectrum", "ei", "tpe", "gp", "cmaes", "qmc", "random")
"""The samplers that a study can be made with."""

DEFAULT_METHOD = "spectral"
"""The method of a study that names none: what the figures of ``benchmarks.outcome`` speak for."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def rising(value: tuple[float, float]) -> tuple[float, float]:
    """The range as it is; raises ValueError unless it rises."""
    if not value[0] < value[1]:
        raise ValueError(f"the range must rise, got {list(value)}")
    return value


def pattern(value: str | None) -> str | None:
    """The regular expression as it is; raises ValueError where it is none."""
    try:
        re.compile(value or "")
    except re.error as reason:
        raise ValueError(f"no regular expression ({reason})") from reason
    return value


def check_name(name: str) -> str:
    """The name as it is; raises ValueError unless it can be a study's, a file's and a word of a command line."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise ValueError("use at most 200 letters, digits, '.', '_' and '-', a letter or digit first")
    return name


Range = Annotated[tuple[Positive, Positive], AfterValidator(rising)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSection(_Section):
    """Which trained model; sizes are read off its tensors."""

    checkpoint: Located
    architecture: Literal["auto", "varnet", "unet"] = "auto"
    oracle: Located | None = None


class DataSection(_Section):
    """Sample sets: each a folder, a glob, or a ``.txt`` file of file names (one a line, relative to that file).

    A table ``{header = "FIELD = VALUE"}`` takes those of the retain set whose header says so, out of it, or, with
    ``files``, of others.
    """

    retain: Source
    forget: Source
    retain_heldout: Source | None = None
    unknown: Source | None = None
    unseen: Source | None = None
    earlier: Annotated[
        dict[Annotated[str, AfterValidator(check_name)], Source] | None,
        Field(description="what was to be forgotten before, by name: measured with every trial"),
    ] = None
    clean: Located | None = Field(None, description="folder of clean targets under the same file names")
    volume_sample_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    retain_slices: Annotated[int, Field(ge=1)] | None = None
    skip_faulty: Annotated[bool, Field(description="leave out what cannot be used, instead of refusing")] = False
    subject: Annotated[
        str | None,
        AfterValidator(pattern),
        Field(description="pattern of the subject in a file's name, where the attribute patient_id does not tell"),
    ] = None


Acceleration = Annotated[int, Field(ge=1)]
CenterFraction = Annotated[float, Field(gt=0, lt=1)]


class MaskSection(_Section):
    """Cartesian undersampling by fastMRI's masks, seeded by volume name.

    Lists of equal length make pairs of acceleration and centre fraction, one of which is drawn for each volume.
    """

    kind: Literal["equispaced_fraction", "equispaced", "random", "magic", "magic_fraction"] = "equispaced_fraction"
    acceleration: Acceleration | Annotated[tuple[Acceleration, ...], Field(min_length=1)] = 4
    center_fraction: CenterFraction | Annotated[tuple[CenterFraction, ...], Field(min_length=1)] = 0.08

    @model_validator(mode="after")
    def _pairs_match(self) -> MaskSection:
        if len(self.accelerations) != len(self.center_fractions):
            counts = f"{len(self.accelerations)} accelerations, {len(self.center_fractions)} centre fractions"
            raise ValueError(f"give as many of one as of the other ({counts})")
        return self

    @property
    def accelerations(self) -> list[int]:
        return [self.acceleration] if isinstance(self.acceleration, int) else list(self.acceleration)

    @property
    def center_fractions(self) -> list[float]:
        return [self.center_fraction] if isinstance(self.center_fraction, float) else list(self.center_fraction)

    def in_words(self) -> str:
        """For people: ``equispaced_fraction 4x (centre 8 %)``."""
        pairs = zip(self.accelerations, self.center_fractions, strict=True)
        return f"{self.kind} " + " or ".join(f"{fold}x (centre {100 * share:g} %)" for fold, share in pairs)


class FisherSection(_Section):
    """How the Fisher information is defined and computed.

    loss : the one that the model was trained with; ``auto`` is what the checkpoint says that ``ssdtune train`` used,
    else that of fastMRI's examples: ``ssim`` for a VarNet, ``l1`` for a U-Net.
    """

    loss: Literal["auto", "ssim", "ssim-l1", "l1"] = "auto"
    definition: Literal["per-sample", "batch"] = "per-sample"
    batch_size: Annotated[int, Field(ge=1, description="mini-batch of definition 'batch'")] = 1
    denominator: Literal["retain", "full"] = "retain"
    forget_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    samples: Annotated[int, Field(ge=1)] | None = None
    memory_budget_gib: Positive = 4.0


class ScoreSection(_Section):
    """The objective s = w * retained + (1 - w) * (1 - remembered)."""

    retain_weight: Share = 0.2
    min_retained: Share = 0.95
    kind: Literal["calibrated", "raw"] = "calibrated"
    floor: Literal["auto", "oracle", "clean", "zero-filled"] | Share = "auto"


class SearchSection(_Section):
    """The search: sampler, budget and seed.

    ``sampler`` is one of ``SAMPLER_NAMES`` where a file is read (``auto``: the one that suits the method); a stored
    study may name one of an earlier version.
    """

    sampler: str = "auto"
    mapper: Located | None = None
    trials: Annotated[int, Field(ge=1)] = 30
    seed: Annotated[int, Field(ge=0)] = 0


class MethodSection(BaseModel):
    """How to unlearn; every other key is an option of the method, which checks it (``unlearning.methods``)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = DEFAULT_METHOD


class TrainSection(_Section):
    """What ``ssdtune train`` builds and how: Adam on the loss of ``[fisher]``, another mask for each epoch."""

    architecture: Literal["varnet", "unet"] = "varnet"
    cascades: Annotated[int, Field(ge=1)] = 12
    channels: Annotated[int, Field(ge=1)] = 18
    pools: Annotated[int, Field(ge=1)] = 4
    sens_channels: Annotated[int, Field(ge=1)] = 8
    sens_pools: Annotated[int, Field(ge=1)] = 4
    epochs: Annotated[int, Field(ge=1)] = 50
    learning_rate: Positive = 3e-4
    batch_size: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0)] = 0


_FOLDER = "folder"  # in a stored study file, where its relative paths were taken from

_ONCE_IN_SEARCH = ("alpha", "lambda", "exponent")  # before there were methods beside SSD


def with_method(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A study file, or a stored study's sections, with SSD's options where they now belong, in ``method``."""
    search = raw.get("search")
    moved = {key: search[key] for key in _ONCE_IN_SEARCH if key in search} if isinstance(search, Mapping) else {}
    if not moved or not isinstance(search, Mapping):
        return dict(raw)
    kept = {key: value for key, value in search.items() if key not in moved}
    return {**raw, "search": kept, "method": {"name": "ssd", **moved, **raw.get("method", {})}}


def as_stored(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A stored study's sections as they were meant: before there was a choice of losses, there was one."""
    return with_method({**raw, "fisher": {"loss": "ssim-l1", **raw.get("fisher", {})}})


class StudyFile(_Section):
    """A whole study file; paths are absolute once loaded."""

    name: Annotated[str, AfterValidator(check_name)]
    model: ModelSection
    data: DataSection
    mask: MaskSection = MaskSection()
    fisher: FisherSection = FisherSection()
    score: ScoreSection = ScoreSection()
    method: MethodSection = MethodSection()
    search: SearchSection = SearchSection()
    train: TrainSection = TrainSection()

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, raw: Any) -> Any:
        return with_method(raw) if isinstance(raw, dict) else raw

    _folder: Path | None = PrivateAttr(None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values under the file's own key names, paths as they are in the file; ``from_json`` reads it."""
        context = {"folder": self._folder} if self._folder is not None else None
        plain = self.model_dump(mode="json", by_alias=True, context=context)
        return plain | ({_FOLDER: str(self._folder)} if self._folder is not None else {})

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> StudyFile:
        """What ``to_json`` gave, perhaps on another machine: relative paths are taken from ``SSDTUNE_DATA``, else from
        the folder that they were taken from there."""
        plain = {key: value for key, value in stored.items() if key != _FOLDER}
        folder = data_folder(Path(stored[_FOLDER]) if _FOLDER in stored else None)
        found = cls.model_validate(plain, context={"folder": folder} if folder is not None else None)
        found._folder = folder
        return found


def load_study_file(path: Path | str) -> StudyFile:
    """Read and validate a study file; relative paths are taken from ``SSDTUNE_DATA``, else from the file's folder.

    Raises
    ------
    ConfigError : the file is missing, not TOML, or a key is unknown, missing, of the wrong type or out of range.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text("utf-8-sig"))  # Windows marks UTF-8
    except OSError as reason:
        raise ConfigError(f"cannot read study file ({reason.strerror})", path, near_file(path)) from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        raise ConfigError(f"not valid TOML ({reason})", path, "mend the file") from reason
    try:
        # strict, so that "30" or true is no number; JSON's rules still take a list for a range and text for a path
        folder = data_folder(path.resolve().parent)
        parsed = StudyFile.model_validate_json(json.dumps(raw, default=str), strict=True, context={"folder": folder})
        parsed._folder = folder
    except ValidationError as reason:
        raise ConfigError(*explain_faults(reason, StudyFile, path)) from reason
    sampler, samplers = parsed.search.sampler, ("auto", *SAMPLER_NAMES)
    if sampler not in samplers:
        todo = nearest(sampler, samplers) or f"choose one of {', '.join(samplers)}"
        raise ConfigError(f"'search.sampler' = {sampler!r} is not valid", path, todo)
    return parsed
