"""CONTRIBUTING.md: what it names is there, and each recipe is short."""

import re

import pytest
from doc_blocks import PAGES, ROOT

TEXT = PAGES["CONTRIBUTING.md"]
RECIPES = dict(re.findall(r"^\*\*(A [^.*]+)\.\*\* (.*?)(?=^$)", TEXT, re.MULTILINE | re.DOTALL))


def place_of(path):
    """The file or folder, from the top, from the package, or by its name alone."""
    found = [ROOT / path, ROOT / "ssdtune" / path, ROOT / "docs" / path, *(ROOT / "ssdtune").rglob(path)]
    return next((place for place in found if place.exists()), None)


def test_each_recipe_is_under_ten_lines():
    assert {"A method", "A sampler", "A measure", "A corruption"} <= set(RECIPES)
    assert all(len(text.splitlines()) < 10 for text in RECIPES.values())


def test_every_path_is_there():
    paths = re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py|\.md|\.json))`", TEXT)
    assert len(paths) > 30
    assert [path for path in paths if place_of(path) is None] == []


@pytest.mark.parametrize(("name", "path"), re.findall(r"`(\w+)`\s(?:\(|of\s|in\s)`([a-z_/]+\.py)`", TEXT))
def test_every_name_is_in_its_file(name, path):
    assert re.search(rf"^(?:def |class )?{name}\b", place_of(path).read_text(), re.MULTILINE)
