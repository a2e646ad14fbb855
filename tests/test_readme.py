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


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.filterwarnings("ignore")
def test_the_python_example_makes_the_third_class_forgotten(capsys):
    (code,) = blocks("python")
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


def test_every_link_to_a_file_leads_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_key_is_in_the_reference():
    text = (ROOT / "docs" / "studyfile.md").read_text()
    for name, field in StudyFile.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {})
        if not keys:
            continue
        assert f"## [{name}]" in text
        for key, value in keys.items():
            assert f"| `{value.alias or key}` |" in text, f"{name}.{key}"


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
