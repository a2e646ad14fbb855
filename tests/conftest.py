"""Small files in fastMRI's layout, the real data's folder, and a cache of its own for every test run."""

import gc
import os
import re
import resource
import signal
import sqlite3
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import alembic.script
import h5py
import numpy as np
import pytest
import sqlalchemy
from hypothesis import settings

from ssdtune.fisher import bootstrap
from ssdtune.unlearning.methods import METHODS

HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<acquisitionSystemInformation><receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>
<encoding><encodedSpace><matrixSize><x>{ky}</x><y>{encoded}</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>{h}</x><y>{w}</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{center}</center>
</kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""


pytest_plugins = (
    "fixtures.search",
    "fixtures.prior",
    "fixtures.slices",
    "fixtures.postgresql",
    "fixtures.mysql",
    "fixtures.proxy",
    "fixtures.cluster",
    "fixtures.processes",
)


def pytest_configure():
    """A shell that runs the tests in its background has them ignore Ctrl-C, and all they start; some tests need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = ("cli", "study", "benchmarks", "report", "package", "unlearning")
"""Folders of long tests."""

ON_A_CLUSTER = re.compile("_on_ray|_on_a_cluster|test_actors")
"""Tests that compute on the cluster of ``two_places``."""


def pytest_collection_modifyitems(items):
    """Files of long tests come first: what is left at the end is short, and no process waits long for the other."""
    depth = len(Path(__file__).parent.parts)
    items.sort(key=lambda item: len(item.path.parts) > depth + 1 and item.path.parts[depth] not in LONG)
    items.sort(key=lambda item: ON_A_CLUSTER.search(item.nodeid) is None)
    unnamed = [
        item.nodeid for item in items if "two_places" in item.fixturenames and not ON_A_CLUSTER.search(item.nodeid)
    ]
    if unnamed:
        raise pytest.UsageError(f"name them so that one process starts the cluster for all: {unnamed}")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """The cluster ends with the last test for it: its processes are busy even where nothing is asked of them."""
    ray = sys.modules.get("ray")
    if ray and nextitem and ON_A_CLUSTER.search(item.nodeid) and not ON_A_CLUSTER.search(nextitem.nodeid):
        ray.shutdown()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A process takes files, and all that computes on a cluster is for one of them, which starts it once."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "cluster" if ON_A_CLUSTER.search(nodeid) else super()._split_scope(nodeid)

    return ByFile(config, log)


def pytest_collection_finish():
    """What importing has made stays: the garbage collector need not look through it again and again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    gc.collect()
    gc.freeze()


@cache
def _migrations(place):
    return alembic.script.ScriptDirectory(place)


# whoever opens a storage reads all of Optuna's migrations, 0.1 s; a process of the tests opens hundreds, and reads once
alembic.script.ScriptDirectory.from_config = lambda config: _migrations(config.get_main_option("script_location"))


# 0.1 s for each of hundreds of small analyses; tests of the intervals say how many draws they take
bootstrap.DRAWS = 40


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _wait_for_no_disk(connection, _):
    """No test pulls the plug: SQLite need not wait until each commit is on the disk."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


# an example's time says nothing on a busy machine
settings.register_profile("ssdtune", settings(), deadline=None)
settings.load_profile("ssdtune")


@pytest.fixture(autouse=True)
def _same_methods():
    """Whatever methods a test makes known end with it."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("SSDTUNE_CACHE", raising=False)
        patch.delenv("SSDTUNE_STORAGE", raising=False)
        yield


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data; tests that ask for it are skipped where it is absent."""
    folder = Path(os.environ.get("SSDTUNE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "kspace").is_dir():
        pytest.skip(f"no real data in {folder} (set SSDTUNE_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def fastmri_file():
    """Writes a small multi-coil file in fastMRI's layout: ``fastmri_file(path, slices=2, coils=4, ...) -> path``."""
    return write_fastmri_file


@pytest.fixture(scope="session")
def unprivileged():
    """``with unprivileged():`` drops the superuser's right to read and write everything, where the tests have it."""

    @contextmanager
    def as_nobody():
        if os.geteuid() != 0:
            yield
            return
        import torch._dynamo  # noqa: F401  torch's optimizers do at first use, and nobody may be unable to read it

        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return as_nobody


@pytest.fixture(scope="session")
def small_disk():
    """``with small_disk(size):`` a file that grows beyond ``size`` bytes fails to write, as on a full disk."""

    @contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


def write_fastmri_file(
    path, slices=2, coils=4, shape=(48, 48), seed=0, target_shape=None, padding=0, clean=False, **datasets
):
    """Ellipses seen by smooth complex coils; ``padding`` unmeasured lines a side; ``datasets`` replace those by name.

    ``clean=True`` darkens half of the target and keeps the clean one beside it, as poisoned files do.
    """
    path = Path(path)
    rng = np.random.default_rng(seed)
    ky, kx = shape
    h, w = target_shape or shape
    y, x = np.meshgrid(np.linspace(-1, 1, ky), np.linspace(-1, 1, kx), indexing="ij")
    images = np.zeros((slices, ky, kx))
    for image in images:
        for size in (0.8, 0.5, 0.25):
            centre, axes = rng.uniform(-0.2, 0.2, 2), size * rng.uniform(0.7, 1.1, 2)
            inside = ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2 < 1
            image += inside * rng.uniform(0.3, 1)
    angles = 2 * np.pi * np.arange(coils) / coils
    maps = np.stack([np.exp(-((y - np.sin(a)) ** 2 + (x - np.cos(a)) ** 2) / 2 + 1j * (a + x)) for a in angles])
    kspace = _fft2c(1e-4 * images[:, None] * maps[None])
    kspace += 1e-7 * (rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape))
    kspace[..., : padding or 0] = 0
    kspace[..., kx - padding :] = 0
    kspace = kspace.astype(np.complex64)
    top, left = (ky - h) // 2, (kx - w) // 2
    rss = np.sqrt((np.abs(_ifft2c(kspace)) ** 2).sum(1))[:, top : top + h, left : left + w].astype(np.float32)
    target = rss.copy()
    if clean:
        target[..., : w // 2] *= 0.3
        datasets = {"reconstruction_rss_clean": rss, **datasets}
    header = HEADER.format(
        coils=coils, ky=ky, encoded=kx, h=h, w=w, last=kx - 2 * padding - 1, center=kx // 2 - padding
    )
    contents = {"kspace": kspace, "reconstruction_rss": target, "ismrmrd_header": header, **datasets}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in contents.items():
            if value is not None:
                file[name] = value
        file.attrs.update(acquisition="TEST", max=float(target.max()), norm=float(np.linalg.norm(target)))
        file.attrs["patient_id"] = path.stem
        if clean:
            file.attrs["max_clean"] = float(rss.max())
    return path


def _fft2c(image):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes), axes=axes, norm="ortho"), axes)


def _ifft2c(kspace):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes), axes=axes, norm="ortho"), axes)
