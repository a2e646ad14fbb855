"""What the README shows works as it stands."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from ssdtune.study.record import read_trial
from ssdtune.studyfile import StudyFile
from ssdtune.unlearning.methods import METHODS, find_method

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NETWORK = (ROOT / "docs" / "howto" / "network.md").read_text()
HERE = r"https://(?:github|raw\.githubusercontent)\.com/ssdtune/ssdtune/(?:(?:blob|tree)/)?main/"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.filterwarnings("ignore")
def test_the_classifier_of_the_how_to_forgets_its_third_class(capsys):
    code = re.findall(r"```python\n(.*?)```", NETWORK, re.DOTALL)[-1]
    scope = {}
    exec(code, scope)
    right = (scope["model"](scope["x"]).argmax(-1) == scope["y"]).float().reshape(3, 20).mean(1)
    assert right[:2].min() > 0.9
    assert right[2] < 0.5
    assert read_trial(scope["study"].best_trial)["feasible"]


def test_the_study_file_is_valid():
    (text,) = blocks("toml")
    assert StudyFile.model_validate(tomllib.loads(text)).name == "mine"


def test_every_command_shown_exists():
    from ssdtune.cli import cli

    for line in re.findall(r"^ssdtune ([^#\n]+)", "\n".join(blocks("sh")), re.MULTILINE):
        words = line.split()
        command = cli.get_command(None, words[0])
        assert command is not None, line
        if words[0] in ("data", "study"):
            assert command.get_command(None, words[1]) is not None, line


def test_every_link_leads_somewhere_also_from_an_index():
    """An index of packages shows the README alone, so links into the repository are whole."""
    assert not re.findall(r"\]\((?!https?:)[^)]+\)", README)
    named = dict(re.findall(r"^\[(\w+)\]: (\S+)$", README, re.MULTILINE))
    assert set(re.findall(r"\]\[(\w+)\]", README)) == set(named)
    for target in named.values():
        assert (ROOT / re.sub(HERE, "", target)).exists(), target


def test_it_is_two_screens_with_one_picture_and_one_table():
    assert len(README.splitlines()) <= 100
    assert len(re.findall(r"!\[", README)) == 1 and len(re.findall(r"^\|(?:---\|)+$", README, re.MULTILINE)) == 1
    assert "make demo" in README and "make test" in README


def test_every_figure_was_printed_by_a_benchmark():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    figures = re.findall(r"(?<![\w./-])\d\.\d{3}\b", README)
    assert len(figures) >= 15 and [figure for figure in figures if figure not in results] == []
    shares = re.findall(r"\| (\d+ %) \|", README)
    assert len(shares) == 5 and all(share.replace(" ", "") in results for share in shares)


def test_every_key_is_in_the_reference_with_its_default():
    text = (ROOT / "docs" / "studyfile.md").read_text()
    for name, field in StudyFile.model_fields.items():
        section = text.partition(f"## [{name}]\n")[2].partition("\n## ")[0]
        for key, value in getattr(field.annotation, "model_fields", {}).items():
            default = "required" if value.is_required() else f"`{json.dumps(value.default)}`"
            default = "" if value.default is None else default
            assert f"| `{value.alias or key}` | {default} |" in section, f"{name}.{key} {default}"


def test_every_option_of_every_method_is_in_its_section():
    """In a row of its table with the default, or in its text; a title may name several methods."""
    parts = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "methods.md").read_text(), re.M | re.S)
    sections = {name: text for title, text in parts for name in title.split(", ")}
    shared = sections["Options of all that train"]
    for name in (name for name, place in METHODS.items() if place.startswith("ssdtune.")):
        for key, value in find_method(name).Options.model_fields.items():
            shown = value.alias or key
            row = f"| `{shown}` | `{json.dumps(value.default)}` |"
            told = row in sections[name] or row in shared or re.search(rf"(?<!\| )`{shown}\b", sections[name])
            assert key == "seed" or told, f"{name}: {row}"
