"""What a validation found wrong, in words of the file that was read."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from ssdtune.errors import nearest


def explain_faults(
    reason: ValidationError, model: type[BaseModel], where: object, prefix: str = ""
) -> tuple[str, str, str]:
    """(what, where, what to do) for the first key at fault of a validation, unknown keys before missing ones.

    model : what was validated. prefix : the section of the file that it is, "" for the whole.
    """
    faults = sorted(reason.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    keys = _file_keys(faults[0]["loc"], model)
    dotted = ".".join(filter(None, [prefix, *keys]))
    if faults[0]["type"] == "extra_forbidden":
        known = _valid_keys(keys[:-1], model)
        return f"unknown key '{dotted}'", str(where), nearest(keys[-1], known) or f"valid keys: {', '.join(known)}"
    if faults[0]["type"] == "missing":
        part = len(keys) < len(faults[0]["loc"])  # of a value that is there
        return (f"'{dotted}' is incomplete" if part else f"missing key '{dotted}'"), str(where), "add what is missing"
    # a key that may be one of several kinds has one fault a kind
    same = [fault for fault in faults if _file_keys(fault["loc"], model) == keys]
    messages = dict.fromkeys(fault["msg"].removeprefix("Value error, ") for fault in same)
    todo = ", or ".join(message[:1].lower() + message[1:] for message in messages).replace("an object", "a table")
    given = faults[0]["input"]
    choices = re.findall(r"'([^']+)'", " ".join(fault["ctx"].get("expected", "") for fault in same if "ctx" in fault))
    near = nearest(given, choices) if isinstance(given, str) else ""
    return f"'{dotted}' = {given!r} is not valid", str(where), f"{near} {todo}" if near else todo


def _file_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The part of a fault's location that the file shows: pydantic goes on to list indices and kinds it has tried."""
    keys: list[str] = []
    for key in location:
        if keys and not _valid_keys(keys, model):
            break
        keys.append(str(key))
    return keys


def _valid_keys(sections: list[str], model: type[BaseModel]) -> list[str]:
    section: Any = model
    for key in sections:
        field = section.model_fields.get(key)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        section = field.annotation
    return [field.alias or name for name, field in section.model_fields.items()]
