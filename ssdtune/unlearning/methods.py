"""The table of methods: one line each. Others add theirs through the entry point group ``ssdtune.methods``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ssdtune.errors import ConfigError, nearest

if TYPE_CHECKING:
    from ssdtune.unlearning.method import Method, Options

GROUP = "ssdtune.methods"

METHODS: dict[str, str] = {
    "ssd": "ssdtune.unlearning.ssd:SSD",
    "ssd-repair": "ssdtune.unlearning.ssd_repair:SSDRepair",
    "assd": "ssdtune.unlearning.ssd_adaptive:ASSD",
    "lfssd": "ssdtune.unlearning.ssd_loss_free:LFSSD",
    "xlf": "ssdtune.unlearning.ssd_loss_free:XLF",
    "potion": "ssdtune.unlearning.potion:Potion",
    "ft": "ssdtune.unlearning.ft:FT",
    "full-ft": "ssdtune.unlearning.ft:FullFT",
    "ng": "ssdtune.unlearning.ng:NG",
    "ga-l1": "ssdtune.unlearning.ga_l1:GAL1",
    "ga-l1-ft": "ssdtune.unlearning.ga_l1:GAL1FT",
    "nl": "ssdtune.unlearning.nl:NL",
    "nl-ft": "ssdtune.unlearning.nl:NLFT",
    "bad-teacher": "ssdtune.unlearning.bad_teacher:BadTeacher",
    "salun": "ssdtune.unlearning.salun:SalUn",
    "psg": "ssdtune.unlearning.psg:PSG",
    "boundary-shrink": "ssdtune.unlearning.boundary_shrink:BoundaryShrink",
    "task-arithmetic": "ssdtune.unlearning.task_arithmetic:TaskArithmetic",
    "scrub": "ssdtune.unlearning.scrub:Scrub",
    "i2i": "ssdtune.unlearning.i2i:I2I",
    "ct": "ssdtune.unlearning.ct:CT",
    "msg": "ssdtune.unlearning.msg:MSG",
    "compose": "ssdtune.unlearning.compose:Compose",
    "spectral": "ssdtune.unlearning.spectral:Spectral",
    "auto": "ssdtune.unlearning.auto:Auto",
}
"""Where each method is, imported when it is asked for."""


@dataclass(frozen=True)
class Chosen:
    """A method and its options, as a study file or a stored study names them."""

    method: Method
    options: Options

    def section(self) -> dict[str, Any]:
        """As plain JSON values, the form of a study file's ``[method]``."""
        return {"name": self.method.name, **self.options.model_dump(mode="json", by_alias=True)}


def method_names() -> list[str]:
    """Names of all methods that can be had here, those of other packages last."""
    return [*METHODS, *(entry.name for entry in entry_points(group=GROUP) if entry.name not in METHODS)]


def find_method(name: str, where: object = "method.name") -> Method:
    """The method of this name; ``where`` it stands.

    Raises
    ------
    ConfigError : there is none, or the package that offers it cannot be imported.
    """
    places: dict[str, str] = METHODS
    if name not in places:  # other packages are looked through only then: that takes 10 ms
        places = {entry.name: entry.value for entry in entry_points(group=GROUP)} | METHODS
    if name not in places:
        todo = nearest(name, places) or f"install its package, or choose one of {', '.join(places)}"
        raise ConfigError(f"no method '{name}'", where, todo)
    module, _, attribute = places[name].partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as reason:
        raise ConfigError(f"cannot import method '{name}' ({reason})", places[name], "mend its package") from reason
    method: Method = found() if isinstance(found, type) else found
    return method


def uses_analysis(chosen: Chosen) -> bool:
    """Whether a method takes the gradients of all samples first: its ``uses_analysis``, of these options if it asks."""
    uses = getattr(chosen.method, "uses_analysis", False)
    return bool(uses(chosen.options) if callable(uses) else uses)


def describe_methods() -> list[dict[str, Any]]:
    """Name, knobs and summary of all methods that can be had here; public as ``ssdtune.methods``."""
    rows = []
    for name in method_names():
        method = find_method(name)
        knobs = [knob.name for knob in method.knobs(method.Options())]
        rows.append({"name": name, "knobs": knobs, "summary": method.summary})
    return rows


def choose_method(section: Mapping[str, Any], where: object = "") -> Chosen:
    """The method and options that a ``[method]`` section names.

    Raises
    ------
    ConfigError : no such method, or an option that it does not have, or that is out of range.
    """
    from pydantic import ValidationError

    from ssdtune.faults import explain_faults

    method = find_method(str(section.get("name", "")), where or "method.name")
    given = {key: value for key, value in section.items() if key != "name"}
    try:
        # strict, so that "30" or true is no number; JSON's rules still take a list for a range
        options = method.Options.model_validate_json(json.dumps(given, default=str), strict=True)
        for knob in method.knobs(options):  # not in Knob itself: stored studies are read, whatever their ranges
            if knob.scale == "log" and not math.isfinite(knob.high / knob.low):
                raise ValueError(f"{knob.name}: the ends of the range are too far apart")
    except ValidationError as reason:
        raise ConfigError(*explain_faults(reason, method.Options, where or "study file", "method")) from reason
    except ValueError as reason:
        raise ConfigError(f"'method' is not valid ({reason})", where or "study file", "mend it") from reason
    return Chosen(method, options)
