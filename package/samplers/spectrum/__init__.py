"""OptunaHub package of ssdtune's sampler; it is loaded with ``optunahub.load_local_module``."""

from ssdtune.prior.density import HyperparameterPrior
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.samplers.spectrum import SpectrumSampler

__all__ = ["HyperparameterPrior", "SpectrumMapper", "SpectrumSampler"]
