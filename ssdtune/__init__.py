"""ssdtune: structure-aware hyperparameter search for unlearning.

Importing the package is light; each public name is imported from its module at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssdtune.dampening import dampen as dampen
    from ssdtune.fisher.analysis import analyse as analyse
    from ssdtune.fisher.result import FisherAnalysis as FisherAnalysis
    from ssdtune.mri.task import load_task as load_task
    from ssdtune.objective.evaluation import evaluate as evaluate
    from ssdtune.prior.density import HyperparameterPrior as HyperparameterPrior
    from ssdtune.prior.mapper import SpectrumMapper as SpectrumMapper
    from ssdtune.samplers.spectrum import SpectrumSampler as SpectrumSampler
    from ssdtune.study.tune import tune as tune
    from ssdtune.study.tune import unlearned_params as unlearned_params
    from ssdtune.task import Task as Task
    from ssdtune.unlearning.methods import describe_methods as methods  # noqa: F401

__version__ = "0.1.0"

_HOME = {
    "FisherAnalysis": "ssdtune.fisher.result",
    "HyperparameterPrior": "ssdtune.prior.density",
    "SpectrumMapper": "ssdtune.prior.mapper",
    "SpectrumSampler": "ssdtune.samplers.spectrum",
    "Task": "ssdtune.task",
    "analyse": "ssdtune.fisher.analysis",
    "dampen": "ssdtune.dampening",
    "evaluate": "ssdtune.objective.evaluation",
    "load_task": "ssdtune.mri.task",
    "methods": "ssdtune.unlearning.methods",
    "tune": "ssdtune.study.tune",
    "unlearned_params": "ssdtune.study.tune",
}

_NAMES = {"methods": "describe_methods"}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), _NAMES.get(name, name))
    raise AttributeError(f"module 'ssdtune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
