"""The cache of analyses: one computation for several processes, by content; nothing broken is left or read."""

import os
import signal
import subprocess
import sys
import time

import h5py
import pytest
import torch

from ssdtune.errors import DataError
from ssdtune.fisher import cache
from ssdtune.fisher.cache import cache_key, cached_analysis
from ssdtune.studyfile import FisherSection

pytestmark = pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")

SCRIPT = """
import sys, time, warnings
from pathlib import Path
import torch
from ssdtune.fisher import cache
from ssdtune.fisher.cache import cached_analysis
from ssdtune.studyfile import FisherSection
from ssdtune.task import Task

folder, delay = Path(sys.argv[1]), float(sys.argv[2])
warnings.simplefilter("ignore")

def loss(output, target):
    (folder / "started").touch()
    time.sleep(delay)
    return output.square().mean()

torch.manual_seed(0)
samples = [(torch.full((3,), float(i)), torch.zeros(1)) for i in range(10)]
task = Task(torch.nn.Linear(3, 2), loss, samples, samples[:9], quality=lambda o, t: o.mean(-1))
computed = []

def track(items, description, total):
    computed.append(description)
    return iter(items)

analysis = cached_analysis(task, FisherSection(), folder / "cache", track)
print("computed" if computed else "read", repr(float(analysis.forget.diagonal.sum())))
"""


def start(folder, delay):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def started(folder, process):
    """Waits until a process is at work on its analysis."""
    while not (folder / "started").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def carry_out(folder, monkeypatch, capsys):
    """The words of the script, run in this process."""
    monkeypatch.setattr(sys, "argv", ["-c", str(folder), "0"])
    exec(SCRIPT, {})
    return capsys.readouterr().out.split()


def test_two_processes_at_once_compute_it_once(tmp_path, monkeypatch, capsys):
    other = start(tmp_path, 0.3)
    started(tmp_path, other)
    here = carry_out(tmp_path, monkeypatch, capsys)
    output, error = other.communicate(timeout=300)
    assert (here[0], output.split()[0]) == ("read", "computed"), error
    assert here[1] == output.split()[1]


def test_a_killed_computation_leaves_no_broken_cache(tmp_path, monkeypatch, capsys):
    process = start(tmp_path, 300.0)
    started(tmp_path, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list((tmp_path / "cache").glob("*.h5"))
    assert carry_out(tmp_path, monkeypatch, capsys)[0] == "computed"


def test_it_is_read_again_and_a_damaged_file_is_computed_again(make, tmp_path):
    task, section, computed = make.perceptron(), FisherSection(), []

    def track(items, description, total):
        computed.append(description)
        return iter(items)

    first = cached_analysis(task, section, tmp_path, track)
    assert computed
    computed.clear()
    again = cached_analysis(make.perceptron(), section, tmp_path, track)
    assert not computed and again.features() == first.features()
    (path,) = tmp_path.glob("*.h5")
    path.write_bytes(path.read_bytes()[:1000])
    assert cached_analysis(task, section, tmp_path, track).features() == pytest.approx(first.features(), rel=1e-3)
    assert computed
    computed.clear()
    with h5py.File(path, "r+") as file:  # whole, but not what is expected of its parts
        del file["layout"]
        file["layout"] = "[]"
    assert cached_analysis(task, section, tmp_path, track).features() == pytest.approx(first.features(), rel=1e-3)
    assert computed


def test_the_key_is_of_everything_that_matters_and_nothing_else(make, monkeypatch):
    task = make.perceptron()
    base = cache_key(task, FisherSection())
    assert cache_key(make.perceptron(), FisherSection(memory_budget_gib=1.0)) == base
    assert cache_key(task, FisherSection(batch_size=4)) == base  # no batches in the per-sample definition
    others = [
        cache_key(task, FisherSection(definition="batch")),
        cache_key(task, FisherSection(definition="batch", batch_size=4)),
        cache_key(task, FisherSection(denominator="full")),
        cache_key(task, FisherSection(), groups="layer"),
        cache_key(make.perceptron(forget_share=0.3), FisherSection()),
        cache_key(make.perceptron(known_share=0.5), FisherSection()),
        cache_key(make.perceptron(loss_name="other"), FisherSection()),
        cache_key(make.perceptron(model=torch.nn.Linear(5, 3)), FisherSection()),
        cache_key(make.perceptron(forget=8), FisherSection()),
        cache_key(make.perceptron(retain=13), FisherSection()),
    ]
    assert len({base, *others}) == 1 + len(others)
    elsewhere = make.perceptron()
    object.__setattr__(elsewhere, "device", "cuda:1")
    another = make.perceptron()
    object.__setattr__(another, "device", "cuda:0")
    assert base != cache_key(elsewhere, FisherSection()) == cache_key(another, FisherSection())
    monkeypatch.setattr(cache, "PRECISION", "tf32")
    assert cache_key(task, FisherSection()) != base


def test_the_folder_is_the_environments(make, monkeypatch, tmp_path):
    monkeypatch.setenv("SSDTUNE_CACHE", str(tmp_path))
    cached_analysis(make.perceptron(), FisherSection())
    assert len(list((tmp_path / "fisher").glob("*.h5"))) == 1


def test_a_folder_that_cannot_be_made_is_one_line(make, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="SSDTUNE_CACHE"):
        cached_analysis(make.perceptron(), FisherSection(), tmp_path / "file" / "cache")
