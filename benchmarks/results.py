"""Which sections of RESULTS.md were measured on code that has changed since.

Each section records a hash of what it measures: every module of the package that its script imports, itself or through
others, without comments and docstrings, and the data that these name, such as the mapper. A section whose results are
kept in a folder has the hash of when they were measured, or `several`. `--mark` writes the list into RESULTS.md and its
length into README.md.
`sections`, and `stale_sections`, of which a section without a hash, or of a tree with changes, is one.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness import RESULTS, Metrics, main
from benchmarks.imports import ROOT, code_hash, read_sources

README = ROOT / "README.md"
MARK = re.compile(r"<!-- stale -->.*?<!-- /stale -->", re.DOTALL)
SECTION = re.compile(r"<!-- (\w+) -->\n## [^\n]*\n\n`python -m benchmarks\.(\w+)[^\n]*? commit ([\w-]+),([^\n]*)")


def sections(text: str) -> dict[str, tuple[str, str]]:
    """(benchmark, hash of the code that it measured, empty if it is not known) of each section."""
    found = {}
    for name, benchmark, commit, rest in SECTION.findall(text):
        code = re.search(r" code (\w+),", rest)
        found[name] = (benchmark, "" if code is None or commit.endswith("-dirty") else code[1])
    return found


def stale(text: str, sources: Mapping[str, str]) -> list[str]:
    """Names of the sections whose code is not that of ``sources``."""
    known = sections(text)
    today = {benchmark: code_hash(benchmark, sources) for benchmark in {benchmark for benchmark, _ in known.values()}}
    return sorted(name for name, (benchmark, code) in known.items() if code != today[benchmark])


def marked(text: str) -> list[str]:
    """Names that a file's mark lists."""
    found = MARK.search(text)
    return re.findall(r"`(\w+)`", found[0]) if found else []


def listed(names: list[str]) -> str:
    """What RESULTS.md says of the sections with these names."""
    quoted = ", ".join(f"`{name}`" for name in names)
    return f"Sections measured on code that has changed since: {quoted}." if names else "All on the code as it is."


def counted(names: list[str], known: int) -> str:
    """What README.md says, of ``known`` sections in all."""
    if not names:
        return f"All {known} sections of [the results][results] measured the code as it is."
    return f"Of {known} sections of [the results][results], {len(names)} measured code that has changed since."


def mark(path: Path, words: str) -> None:
    path.write_text(MARK.sub(lambda _: f"<!-- stale -->\n{words}\n<!-- /stale -->", path.read_text()))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mark", action="store_true", help="write them down")


def measure(chosen: argparse.Namespace) -> Metrics:
    text = RESULTS.read_text()
    names = stale(text, read_sources())
    print("measured on code that has changed since:", *names, sep="\n  ")
    if chosen.mark:
        mark(RESULTS, listed(names))
        mark(README, counted(names, len(sections(text))))
    return {"sections": len(sections(text)), "stale_sections": len(names)}


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
