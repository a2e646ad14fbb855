"""A device that is not there is one error."""

import pytest
import torch

from ssdtune.device import find_device
from ssdtune.errors import ConfigError


def test_devices_that_are_there():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "cpu:1", "xpu", "meta", "gpu", ""])
def test_devices_that_are_not_there(name):
    with pytest.raises(ConfigError) as caught:
        find_device(name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_gpu():
    with pytest.raises(ConfigError, match="no such cuda device"):
        find_device("cuda")
