"""Pages of the site that stand elsewhere in the repository, and links that lead there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"benchmarks.md": "benchmarks/RESULTS.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
HOME = {source: page for page, source in PAGES.items()} | {"README.md": "index.md"}


def on_files(files: Files, config: Any) -> Files:
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links between files of the repository become links between pages, or to the repository where there is none."""
    name = page.file.src_uri
    folder = (ROOT / PAGES[name]).parent if name in PAGES else (ROOT / "docs" / name).parent

    def lead(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        place = (folder / target).resolve()
        if not place.is_relative_to(ROOT):
            return match[0]
        path = place.relative_to(ROOT).as_posix()
        found = HOME.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if found is None:
            return f"{match[1]}({config['repo_url']}/blob/main/{path}{'#' + anchor if anchor else ''})"
        up = "../" * name.count("/")
        return f"{match[1]}({up}{found}{'#' + anchor if anchor else ''})"

    return re.sub(r"(\[[^\]]*\])\(([^)\s]+)\)", lead, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Options without a default show none."""
    return html.replace("<code>Sentinel.UNSET</code>", "")
