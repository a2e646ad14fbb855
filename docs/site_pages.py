"""Pages of the site that stand elsewhere in the repository or are made from it, and links that lead there.

``docs/methods.md`` becomes a page for each of its sections on methods, with tables from the code and the figures that
the benchmarks printed; ``docs/reference/outputs.json`` becomes the reference of JSON outputs, the notebook a page.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from site_tables import method_page, notebook_page, output_pages, selected  # noqa: E402

from ssdtune.cli import cli  # noqa: E402

PAGES = {"benchmarks.md": "benchmarks/RESULTS.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
HOME = {source: page for page, source in PAGES.items()} | {
    "README.md": "index.md",
    "docs/half_hour.ipynb": "half_hour.md",
}
MEASURED = re.compile(r"^<!-- measured: (.+) -->$", re.MULTILINE)


def sections_of_methods() -> dict[str, str]:
    """Heading -> text of the sections of methods.md that are about methods, such as ``"ft, full-ft"``."""
    from ssdtune.unlearning.methods import METHODS

    found = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "methods.md").read_text(), re.M | re.S)
    return {heading: text for heading, text in found if set(heading.split(", ")) <= set(METHODS)}


def page_of(heading: str) -> str:
    """Where the page of a section on methods is."""
    return f"methods/{heading.split(', ')[0]}.md"


def on_config(config: Any) -> Any:
    """Puts the pages of methods under "Concepts", after the one on all of them."""
    (concepts,) = (entry["Concepts"] for entry in config.nav if "Concepts" in entry)
    place = [next(iter(entry.values())) for entry in concepts].index("methods.md") + 1
    each: dict[str, Any] = {"Each method": [{heading: page_of(heading)} for heading in sections_of_methods()]}
    if not any("Each method" in entry for entry in concepts):
        concepts.insert(place, each)
    complete(cli)
    return config


def complete(group: click.Group) -> None:
    """Import every command of a group: the page of the command line shows those that a group has at hand."""
    context = click.Context(group)
    for name in dict.fromkeys(group.list_commands(context)):
        command = group.get_command(context, name)
        if command is not None:
            group.commands[name] = command
        if isinstance(command, click.Group):
            complete(command)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that stand elsewhere or are made."""
    made: dict[str, Any] = {page: (ROOT / source).read_text() for page, source in PAGES.items()}
    made |= {page_of(heading): method_page(heading, text) for heading, text in sections_of_methods().items()}
    made["reference/outputs.md"] = output_pages(json.loads((ROOT / "docs" / "reference" / "outputs.json").read_text()))
    notebook = json.loads((ROOT / "docs" / "half_hour.ipynb").read_text())
    made["half_hour.md"], pictures = notebook_page(notebook, "images/half_hour_")
    for page, content in (made | pictures).items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links between files of the repository become links between pages, or to the repository where there is none."""
    name = page.file.src_uri
    if name == "methods.md":
        markdown = without_sections(markdown)
    markdown = MEASURED.sub(lambda match: selected(*match[1].split("; ")), markdown)
    folder = (ROOT / PAGES[name]).parent if name in PAGES else (ROOT / "docs" / name).parent
    if name.startswith("methods/"):
        folder = ROOT / "docs"  # where its text stands

    def lead(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        place = (folder / target).resolve()
        if not place.is_relative_to(ROOT):
            return match[0]
        path = place.relative_to(ROOT).as_posix()
        found = HOME.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if found is None or found.endswith((".json", ".ipynb")):
            return f"{match[1]}({config['repo_url']}/blob/main/{path}{'#' + anchor if anchor else ''})"
        up = "../" * name.count("/")
        return f"{match[1]}({up}{found}{'#' + anchor if anchor else ''})"

    return re.sub(r"(\[[^\]]*\])\(([^)\s]+)\)", lead, markdown)


def without_sections(markdown: str) -> str:
    """The page on all methods, whose sections on each are pages of their own and linked from its table."""
    for heading in sections_of_methods():
        markdown = re.sub(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", "", markdown, flags=re.M | re.S)
        for name in heading.split(", "):
            markdown = markdown.replace(f"\n| `{name}` |", f"\n| [`{name}`]({page_of(heading)}) |")
    return markdown


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Options without a default show none, and commands their example after their usage."""
    html = html.replace("<code>Sentinel.UNSET</code>", "")
    if page.file.src_uri == "reference/cli.md":
        html = re.sub(r'<h\d id="(ssdtune[a-z-]*)".*?</pre></div>', with_example, html, flags=re.DOTALL)
    return html


def with_example(match: re.Match[str]) -> str:
    """A command's heading, help and usage, and the example that ends its help."""
    command: click.Command | None = cli
    for word in match[1].split("-")[1:]:
        command = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
    example = ((command and command.epilog) or "").removeprefix("Example: ")
    return f"{match[0]}\n<p><strong>Example:</strong> <code>{example}</code></p>" if example else match[0]
