"""The OptunaHub package: loadable from the registry's folder, with all that a registry asks for; its example runs."""

import re
from pathlib import Path

import optuna
import optunahub
import pytest

import ssdtune

ROOT = Path(__file__).parents[2]
README = (ROOT / "package" / "samplers" / "spectrum" / "README.md").read_text()


def test_the_package_offers_the_same_sampler():
    module = optunahub.load_local_module("samplers/spectrum", registry_root=str(ROOT / "package"))
    for name in module.__all__:
        assert getattr(module, name) is getattr(ssdtune, name)


def test_it_has_what_a_registry_asks_for():
    front = README.split("---")[1]
    assert all(f"{key}:" in front for key in ("author", "title", "description", "tags", "optuna_versions", "license"))
    assert all(f"## {heading}" in README for heading in ("Abstract", "APIs", "Installation", "Example"))
    assert (ROOT / "package" / "samplers" / "spectrum" / "LICENSE").is_file()


def test_the_example_of_the_readme_runs(monkeypatch, capsys):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    monkeypatch.chdir(ROOT)
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    scope = {}
    exec(compile(example, "README.md", "exec"), scope)
    study = scope["study"]
    assert len(study.trials) == 15
    assert study.best_trial.user_attrs["retained"] >= 0.95
    assert study.best_value > study.trials[0].value
    assert capsys.readouterr().out.strip() == str(study.best_trial.params)
    assert study.best_value == pytest.approx(max(t.value for t in study.trials if t.user_attrs["retained"] >= 0.95))
