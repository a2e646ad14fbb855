"""What all benchmarks share: their options, table, flat JSON and section of RESULTS.md.

Each defines ``measure(options) -> dict[str, number]`` and calls ``main(__doc__, measure)``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from benchmarks.imports import PACKAGES, code_hash, read_sources
from benchmarks.imports import ROOT as ROOT
from ssdtune.errors import SsdtuneError
from ssdtune.files import atomic_path

RESULTS = Path(__file__).with_name("RESULTS.md")

COMMITS = "commits.txt"

_CODE = "code is what measured them; `several` says that it changed between them."
READ = f"All results were kept from earlier runs: commit, versions and seconds are of reading them, {_CODE}"
SOME = f"Some results may be of earlier runs: commit and seconds are of the last, {_CODE}"
UNNOTED = "It was not noted with these, whose files were written"
"""What a section says of results that were kept."""

Metrics = dict[str, float]
T = TypeVar("T")


def options_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller run of the same measurement (under 5 minutes)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write {metric: number} with machine, commit and quick"
    )
    parser.add_argument("--publish", action="store_true", help="replace this script's section of RESULTS.md")
    return parser


def main(
    description: str,
    measure: Callable[[argparse.Namespace], Metrics],
    extend: Callable[[argparse.ArgumentParser], None] | None = None,
    text: Sequence[str] | None = None,
) -> None:
    """Parse the options, measure, print the table, and write what was asked for.

    text : lines that ``measure`` fills, printed and published in place of the table of all metrics.
    """
    parser = options_parser(description)
    if extend is not None:
        extend(parser)
    options = parser.parse_args()
    facts = {"machine": machine(options.device), "commit": commit(), "quick": options.quick}
    if options.publish and str(facts["commit"]).endswith("-dirty"):
        raise SystemExit("error: changes that are not committed, --publish, commit them first: figures name their code")
    name, work = _name(Path(sys.argv[0])), getattr(options, "work", None)
    there = _results(work)
    adds = not getattr(options, "summary", False) and not getattr(options, "dry_run", False)
    if work is not None and adds:
        note_commit(work, name, facts)
    started = time.perf_counter()
    try:
        metrics = measure(options)
    except SsdtuneError as reason:
        raise SystemExit(f"error: {reason}") from reason
    seconds = time.perf_counter() - started
    read_only = False
    if work is not None and _results(work) == there:
        read_only = True
        if adds:
            take_back(work, name, facts)
    lines = text or table(("metric", "value"), [(name, show(value)) for name, value in metrics.items()])
    print("\n".join(lines))
    print(f"\n{facts['machine']}; commit {facts['commit']}; {'quick, ' if options.quick else ''}{seconds:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({**metrics, **facts}, indent=2) + "\n")
    if options.publish:
        parts = {"only": _words(getattr(options, "only", None)), "device": options.device}
        code = code_hash(name, read_sources()) or "unknown" if work is None else code_of(work, name, facts)
        kept_words = READ if read_only else SOME if there else ""
        if code == "unknown" and there:
            kept_words += f" {UNNOTED} {days_of(there)}."
        publish(name, description, {**facts, "code": code}, lines, seconds, parts, kept_words)


Parts = Mapping[str, Callable[[argparse.Namespace], Metrics]]
"""A function a part, which gives its metrics under their full names."""


def main_of_parts(description: str, parts: Parts) -> None:
    """``main`` of a benchmark in parts: all of them, or those that ``--only`` names."""

    def measure(options: argparse.Namespace) -> Metrics:
        metrics: Metrics = {}
        for name in options.only or parts:
            metrics |= parts[name](options)
        return metrics

    main(description, measure, lambda parser: add_only(parser, parts))


def add_only(parser: argparse.ArgumentParser, parts: Iterable[str]) -> None:
    parser.add_argument("--only", nargs="+", choices=list(parts), help="some of the parts")


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that takes whole numbers from ``least`` on."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
        return int(text)

    return number


def add_resumable(parser: argparse.ArgumentParser, work: Path) -> None:
    """Options of a long benchmark, whose results are kept one by one in a folder."""
    parser.add_argument("--work", type=Path, default=work, metavar="DIR", help="of the results")
    parser.add_argument("--workers", type=at_least(1), default=2, help="processes of one thread each (default 2)")
    parser.add_argument("--dry-run", action="store_true", help="say what is missing and how long it takes")
    parser.add_argument("--summary", action="store_true", help="run nothing, show what there is")


def with_range(name: str, values: Sequence[float]) -> Metrics:
    """Their mean, with the lowest and the highest."""
    return {name: statistics.fmean(values), f"{name}.lo": min(values), f"{name}.hi": max(values)}


def kept(path: Path, make: Callable[[], T], again: bool = False) -> T:
    """The result in a file of JSON, made if there is none yet, or once more."""
    if again or not path.exists():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as new:
            new.write_text(json.dumps(found))
    result: T = json.loads(path.read_text())
    return result


def note_commit(work: Path, name: str, facts: Mapping[str, object]) -> None:
    """Keep, with the results in ``work``, which commit and code add to those of a benchmark from now on.

    What lies there already without such a note is of code that is not known.
    """
    kept_notes = work / COMMITS
    known = not work.exists() or kept_notes.exists() or not any(work.iterdir())
    work.mkdir(parents=True, exist_ok=True)
    with kept_notes.open("a") as file:
        file.write("" if known else f"unknown unknown {_extent(facts)} {name}\n")
        file.write(_note(name, facts))


def _note(name: str, facts: Mapping[str, object]) -> str:
    return f"{facts['commit']} {code_hash(name, read_sources())} {_extent(facts)} {name}\n"


def _results(work: Path | None) -> dict[Path, int]:
    """The files in a folder of results but the notes, with the times when they were written."""
    found: dict[Path, int] = {}
    for path in () if work is None else work.rglob("*"):
        with suppress(FileNotFoundError):  # another process has moved it to its place
            if path.is_file() and path.name != COMMITS:
                found[path] = path.stat().st_mtime_ns
    return found


def days_of(found: Mapping[Path, int]) -> str:
    """The days on which files were written, the first and the last, given their times in nanoseconds."""
    times = (min(found.values()), max(found.values()))
    first, last = (datetime.datetime.fromtimestamp(time / 1e9, datetime.UTC).date() for time in times)
    return f"on {first}" if first == last else f"from {first} to {last}"


def take_back(work: Path, name: str, facts: Mapping[str, object]) -> None:
    """``note_commit`` undone, of a run that added nothing to the results."""
    path, own = work / COMMITS, _note(name, facts)
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    if own in lines:
        del lines[len(lines) - 1 - lines[::-1].index(own)]
        path.write_text("".join(lines))


def commits_of(work: Path) -> str:
    """The commits that added to the results in ``work``, in words."""
    return ", ".join(dict.fromkeys(line[0] for line in _notes(work))) or "unknown"


def code_of(work: Path, name: str, facts: Mapping[str, object]) -> str:
    """The one code that all results of a benchmark in ``work`` were measured on; ``several``, or ``unknown``."""
    own = [line for line in _notes(work) if line[2:] in ([], [_extent(facts), name])]
    codes = {line[1] if len(line) > 1 else "unknown" for line in own}  # early notes named commits alone
    return min(codes) if len(codes) == 1 else "several" if codes else "unknown"


def _notes(work: Path) -> list[list[str]]:
    path = work / COMMITS
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def _extent(facts: Mapping[str, object]) -> str:
    return "quick" if facts["quick"] else "full"


def publish(
    name: str,
    description: str,
    facts: dict[str, object],
    lines: Sequence[str],
    seconds: float,
    parts: Mapping[str, str],
    kept_words: str = "",
) -> None:
    """Put this output into RESULTS.md in place of the benchmark's last one with the same ``parts``, options by name.

    kept_words : what is said of results that were kept.
    """
    chosen = {option: value for option, value in parts.items() if value not in ("", "cpu")}
    flags = "".join(f" --{option} {value}" for option, value in chosen.items()) + (" --quick" if facts["quick"] else "")
    section = re.sub(r"\W", "_", "_".join([name, *chosen.values()]))
    words = f" ({', '.join(chosen.values())})" if chosen else ""
    body = (
        f"<!-- {section} -->\n## {description.strip().splitlines()[0]}{words}\n\n"
        f"`python -m benchmarks.{name}{flags}`, {datetime.date.today()}, commit {facts['commit']}, "
        f"code {facts['code']}, {facts['machine']}, {seconds:.0f} s.\n"
        + (f"{kept_words}\n\n" if kept_words else "\n")
        + "\n".join(lines)
        + f"\n<!-- /{section} -->\n"
    )
    text = RESULTS.read_text() if RESULTS.exists() else "# Results\n\nEach section is the last output of its script.\n"
    old = re.compile(rf"<!-- {section} -->.*?<!-- /{section} -->\n", re.DOTALL)
    text = old.sub(lambda _: body, text) if old.search(text) else f"{text.rstrip()}\n\n{body}"
    RESULTS.write_text(text)


def _name(program: Path) -> str:
    """``fisher`` of the path of fisher/__main__.py, ``startup`` of startup.py."""
    return program.parent.name if program.stem == "__main__" else program.stem


def _words(option: str | Sequence[str] | None) -> str:
    return option if isinstance(option, str) else " ".join(option or ())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table, aligned for reading as text."""
    cells = [[str(value) for value in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def show(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def median_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Median wall time of ``run`` after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def machine(device: str) -> str:
    """Processor, cores, device and versions, in words."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        model = found.group(1).strip() if found else model
    gpu = f", {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else ""
    return f"{model}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}, Python {platform.python_version()}"


def commit() -> str:
    """The commit, and whether anything but the results themselves was changed since, or a module added."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/RESULTS.md")
    added = git("ls-files", "--others", "--exclude-standard", "--", *(f"{package}/*.py" for package in PACKAGES))
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed or added else "")
