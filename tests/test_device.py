"""A device that is not there is one error; float32 is float32; freed memory is used again."""

import platform
import subprocess
import sys

import pytest
import torch

from ssdtune.device import fewest_good_threads, find_device, full_precision, set_threads, time_threads
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


def precisions():
    if not hasattr(torch.backends, "fp32_precision"):
        return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]
    onednn, cudnn = torch.backends.mkldnn, torch.backends.cudnn
    places = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, onednn.matmul, onednn.conv, onednn.rnn]
    return [place.fp32_precision for place in places]


@pytest.mark.parametrize("allowed", ["highest", "high"])
def test_float32_is_float32_within_and_as_it_was_afterwards(allowed):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(allowed)
    try:
        outside = precisions()
        with pytest.raises(KeyError), full_precision():
            assert set(precisions()) <= {"ieee", False}
            raise KeyError
        assert precisions() == outside
        assert torch.get_float32_matmul_precision() == allowed
        assert torch.backends.cuda.matmul.allow_tf32 is (allowed == "high")
    finally:
        torch.set_float32_matmul_precision(before)


FAULTS = """
import resource, torch
from ssdtune.device import keep_freed_memory

def faults():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            parts = [torch.ones(2**24) for _ in range(2)]
            del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

as_it_is = faults()
assert keep_freed_memory()
print(as_it_is, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_comes_again_without_page_faults():
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    as_it_is, kept = map(int, done.stdout.split())
    assert kept * 10 < as_it_is


class Work:
    """Work that takes as long as it is said to with each number of threads, on a clock of its own."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0.0

    def __call__(self):
        self.now += self.seconds[torch.get_num_threads()]

    def clock(self):
        return self.now


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 0.001, 2: 0.015, 4: 0.02}, 1),  # a small model on a busy machine
        ({1: 6.0, 2: 4.5, 4: 2.4}, 4),
        ({1: 8.0, 2: 4.1, 4: 4.0}, 2),  # twice the threads for nothing
    ],
)
def test_as_many_threads_as_the_work_needs(monkeypatch, seconds, best):
    monkeypatch.setattr("ssdtune.device.thread_choices", lambda: [1, 2, 4])
    before, work = torch.get_num_threads(), Work(seconds)
    times = time_threads(work, clock=work.clock)
    assert times == pytest.approx(seconds)
    assert fewest_good_threads(times) == best
    assert torch.get_num_threads() == before
    assert work.now < 40


def test_threads_are_as_before_where_the_work_fails():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        time_threads(lambda: 1 / 0)
    assert torch.get_num_threads() == before


def test_set_threads():
    before = torch.get_num_threads()
    try:
        set_threads(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        set_threads(before)
