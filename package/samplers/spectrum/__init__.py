"""The sampler of ssdtune as an OptunaHub package. ``package/assemble.py`` makes what the registry takes of it."""

from ssdtune.prior.density import HyperparameterPrior
from ssdtune.samplers.spectrum import SpectrumSampler

__all__ = ["HyperparameterPrior", "SpectrumSampler"]
