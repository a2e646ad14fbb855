"""The OptunaHub package: what the registry asks for, and that it stands alone on numpy, scipy and optuna."""

import json
import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from ssdtune.plane.settings import Box
from ssdtune.prior.density import HyperparameterPrior

ROOT = Path(__file__).parents[2]
README = (ROOT / "package" / "samplers" / "spectrum" / "README.md").read_text()
ALONE = """
import importlib.abc, sys
class Refused(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {"ssdtune", "torch", "fastmri", "threadpoolctl", "h5py", "pydantic", "plotly"}:
            raise ImportError(f"{name} is not for a package that stands alone")
sys.meta_path.insert(0, Refused())
import optuna, optunahub
optuna.logging.set_verbosity(optuna.logging.ERROR)
optunahub.load_module = lambda package: optunahub.load_local_module(package, registry_root="package")
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A folder like the registry, with the assembled package in it."""
    spec = spec_from_file_location("assemble", ROOT / "package" / "assemble.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("registry")
    module.assemble(folder)
    return folder


def run(registry, code):
    """What ``code`` prints where nothing but numpy, scipy, optuna and optunahub can be imported."""
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ALONE + code]
    done = subprocess.run(command, cwd=registry, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_has_what_a_registry_asks_for(registry):
    folder = registry / "package" / "samplers" / "spectrum"
    assert {"__init__.py", "README.md", "LICENSE", "example.py"} <= {path.name for path in folder.iterdir()}
    front = dict(line.split(": ", 1) for line in README.split("---")[1].strip().splitlines())
    assert front.keys() == {"author", "title", "description", "tags", "optuna_versions", "license"}
    assert front["tags"].startswith("[sampler,") and front["license"] == "MIT License"
    assert re.fullmatch(r"\[\d+\.\d+\.\d+\]", front["optuna_versions"])
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert headings == ["Abstract", "APIs", "Installation", "Example", "Others"]
    assert "<COPYRIGHT" not in (folder / "LICENSE").read_text()


def test_the_example_of_the_readme_runs_alone(registry):
    first, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    check = "assert study.best_trial.user_attrs['retained'] >= 0.95 and study.best_value > study.trials[0].value\n"
    example = registry / "package" / "samplers" / "spectrum" / "example.py"
    last = f"print('---')\nimport runpy\nrunpy.run_path({str(example)!r}, run_name='__main__')\n"
    said = run(registry, first + check + last).partition("---")
    assert "'alpha'" in said[0] and "'lambda'" in said[2]


def test_a_prior_as_json_leads_to_the_same_first_trial(registry, make_surface):
    prior = HyperparameterPrior(make_surface(), 0.2, 0.95, Box())
    (registry / "prior.json").write_text(json.dumps(prior.to_json()))
    _, second = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    end = """
study = optuna.create_study(direction="maximize", sampler=sampler)
space = {"alpha": optuna.distributions.FloatDistribution(0.1, 300, log=True),
         "lambda": optuna.distributions.FloatDistribution(0.03, 300, log=True)}
print(json.dumps(study.ask(space).params))
"""
    found = json.loads(run(registry, "module = optunahub.load_module('samplers/spectrum')\n" + second + end))
    assert found == pytest.approx(prior.mode, rel=1e-3)
