"""Text of pages that are made: on a method, from the code and ``RESULTS.md``; on outputs, from their schema."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "RESULTS.md"
Rows = list[list[str]]


def method_page(heading: str, text: str) -> str:
    """A section of methods.md as a page: its text, knobs and options as the code has them, and what was measured."""
    names = heading.split(", ")
    parts = [f"# {heading}", text.strip(), "## Knobs and options, from the code"]
    for name in names:
        parts += [f"**`{name}`**"] * (len(names) > 1) + [options_table(name)]
    parts += [
        "## Measured",
        *(measured(names) or ["In no published benchmark yet. `study compare` measures it on your task."]),
    ]
    return "\n\n".join(parts) + "\n"


def options_table(name: str) -> str:
    """Knobs with their ranges, then what is not searched with its default."""
    from ssdtune.unlearning.method import Options
    from ssdtune.unlearning.methods import find_method

    method = find_method(name)
    options = method.Options()
    knobs = method.knobs(options)
    rows = [
        [f"`{knob.name}`", f"{knob.low:g} … {knob.high:g}", "whole numbers, " * knob.integer + knob.scale, knob.about]
        for knob in knobs
    ]
    searched = {knob.name for knob in knobs}
    for key, field in method.Options.model_fields.items():
        if (field.alias or key) not in searched and key not in Options.model_fields:
            rows.append(
                [
                    f"`{field.alias or key}`",
                    f"`{json.dumps(getattr(options, key), default=str)}`",
                    "not searched",
                    field.description or "",
                ]
            )
    first = ", ".join(str(setting) for setting in method.published(options)) or "none"
    return (
        table(["key", "range or default", "scale", "meaning"], rows) + f"\n\nPublished settings, tried first: {first}."
    )


def measured(names: list[str]) -> list[str]:
    """The rows on these methods of every table of the results, under the title of its benchmark."""
    found: dict[str, list[str]] = {}
    for title, about, header, rows in result_tables(RESULTS.read_text()):
        own = [row for row in rows if variant_of(row[0], names)]
        if own:
            found.setdefault(title, []).extend([about, table(header, own)])
    parts = [part for title, each in found.items() for part in (f"### {title.rstrip('.')}", *each)]
    return parts + ["With machine and date: [benchmarks](../benchmarks/RESULTS.md)."] * bool(parts)


def selected(benchmark: str, labels: str, columns: str) -> str:
    """Of a benchmark's tables that have these columns: those and the method, of these rows."""
    start, end = (f"<!-- {mark}{benchmark} -->" for mark in ("", "/"))
    text, wanted = RESULTS.read_text().partition(start)[2].partition(end)[0], ["method", *columns.split(", ")]
    found = []
    for _, about, header, rows in result_tables(text):
        if set(wanted) <= set(header):
            places = [header.index(column) for column in wanted]
            kept = [[row[place] for place in places] for row in rows if row[0] in labels.split(", ")]
            found += [about, table(wanted, kept)]
    return "\n\n".join(found)


def variant_of(label: str, names: list[str]) -> bool:
    """Whether a row is about one of the methods: its name, or its name with options, as in ``spectral-5``."""
    from ssdtune.unlearning.methods import METHODS

    own = max((name for name in METHODS if label == name or label.startswith(f"{name}-")), key=len, default="")
    return own in names


def result_tables(text: str) -> Iterator[tuple[str, str, list[str], Rows]]:
    """(title of the section, line above, header, rows) of each table that has a row a method."""
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
        about = ""
        for block in re.split(r"\n\s*\n", body):
            lines = block.strip().splitlines()
            if lines and not lines[0].startswith("|"):
                about = lines[-1]
            elif len(lines) > 2:
                cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
                if cells[0][0] == "method":
                    yield title, about, cells[0], cells[2:]


def output_pages(schema: Mapping[str, Any]) -> str:
    """The reference of JSON outputs."""
    parts = [f"# {schema['title']}", schema["description"]]
    parts.append("The schema itself: [outputs.json](outputs.json), one definition a command.")
    for name, definition in schema["$defs"].items():
        shared = name[0].isupper()
        parts.append(f"## {name}" if shared else f"## ssdtune {name} --json")
        parts.append(definition.get("description", ""))
        item = definition.get("items", definition)
        if "items" in definition:
            parts.append("An array; of each item:")
        rows = list(key_rows(item, ""))
        if "$ref" in item:
            parts.append(f"As {kind_of(item)}.")
        parts.append(table(["key", "type", "meaning"], rows) if rows else "")
    return "\n\n".join(part for part in parts if part) + "\n"


def key_rows(schema: Mapping[str, Any], prefix: str) -> Iterator[list[str]]:
    """A row a key, those of objects within objects as ``outer.inner``, of arrays as ``outer[].inner``."""
    for key, value in schema.get("properties", {}).items():
        yield [f"`{prefix}{key}`", kind_of(value), value.get("description", "")]
        within = (value, "."), (value.get("items", {}), "[]."), (value.get("additionalProperties"), ".NAME.")
        for inner, mark in within:
            if isinstance(inner, Mapping):
                yield from key_rows(inner, f"{prefix}{key}{mark}")
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping) and "properties" in schema:
        yield [f"{prefix}any other", kind_of(more), more.get("description", "")]


def notebook_page(notebook: Mapping[str, Any], picture: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, and its pictures by the names that the page gives them, which begin with ``picture``."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            if "image/png" in shown:
                name = f"{picture}{len(pictures)}.png"
                pictures[name] = base64.b64decode(shown["image/png"])
                parts.append(f"![what the cell above draws]({name})")
            elif output.get("name") == "stdout":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def kind_of(schema: Mapping[str, Any]) -> str:
    """A schema's type in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind_of(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = schema.get("type", "anything")
    words = " or ".join(kinds) if isinstance(kinds, list) else kinds
    if "items" in schema:
        return f"{words} of {kind_of(schema['items'])}"
    more = schema.get("additionalProperties")
    return f"{words} of {kind_of(more)}" if isinstance(more, Mapping) and "properties" not in schema else words


def table(header: list[str], rows: Rows) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
