"""Nothing lost on Ray: a study on two raylets of this machine; its driver is killed, later one of the raylets."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Metrics
from benchmarks.service.crew import FINISHED, STUDY, make_study, read_trials, task

MEMORY = 100 * 2**20  # bytes of a raylet's object store
LIMIT = 1200.0  # seconds, after which a storm is given up


def storm(url: str, trials: int, seconds: float, seed: int) -> Metrics:
    """A study of so many trials, each sleeping so long, through it.

    After a quarter of them the process that runs it is killed, and another goes on; after half of them a raylet is.

    lost, duplicated, finished, asked, best_differs : as ``storm.storm``. died : actors that died with a trial, which
    ran again. trials_s_before, trials_s_after : trials a second between the two deaths, and with the raylet that is
    left, the time to find out included.
    """
    from ray.cluster_utils import Cluster

    from ssdtune.study.record import origin_of

    make_study(url, trials, seconds, seed)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    other = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        log.touch()
        driver = _start(url, cluster.address, log)
        try:
            _wait(log, trials // 4, driver)
            driver.kill()
            driver.join()
            driver, again = _start(url, cluster.address, log), len(_told(log)) + 1
            middle = max(trials // 2, again + 1)
            _wait(log, middle, driver)
            cluster.remove_node(other, allow_graceful=False)
            driver.join(LIMIT)
            if driver.exitcode != 0:
                raise SystemExit(f"error: the driver ended with {driver.exitcode}")
        finally:
            driver.kill()
            cluster.shutdown()
        told, died = _told(log), log.read_text().count("died")
    study, found = read_trials(url)
    counted = [trial for trial in found if trial.state in FINISHED]
    full = [trial.value for trial in counted if trial.state.name == "COMPLETE" and trial.value is not None]
    times = [when for when, _ in told]
    return {
        "lost": len({number for _, number in told} - {trial.number for trial in counted}),
        "duplicated": len(counted) - len({origin_of(trial).get("seed_number") for trial in counted}),
        "finished": len(counted),
        "asked": len(found),
        "best_differs": int(not full or study.best_value != max(full)),
        "died": died,
        "trials_s_before": (middle - again) / (times[middle - 1] - times[again - 1]),
        "trials_s_after": (len(times) - middle) / (times[-1] - times[middle - 1]),
    }


def _start(url: str, address: str, log: Path) -> multiprocessing.process.BaseProcess:
    driver = multiprocessing.get_context("spawn").Process(target=_drive, args=(url, address, log), daemon=True)
    driver.start()
    return driver


def _wait(log: Path, trials: int, driver: multiprocessing.process.BaseProcess) -> None:
    """Until the log has so many."""
    started = time.monotonic()
    while len(_told(log)) < trials:
        if not driver.is_alive() or time.monotonic() - started > LIMIT:
            raise SystemExit("error: the driver does not get on")
        time.sleep(0.05)


def _told(log: Path) -> list[tuple[float, int]]:
    """(when, number) of every trial that a driver knew to be finished."""
    words = [line.split() for line in log.read_text().splitlines()]
    return [(float(each[0]), int(each[2])) for each in words if len(each) == 3 and each[1] == "told"]


def _drive(url: str, address: str, log: Path) -> None:
    """In a process of its own: run what is left of the study."""
    import ray

    from benchmarks.service import sleeping
    from ssdtune.study.actors import actor_pool
    from ssdtune.study.record import read_record
    from ssdtune.study.run import run_study
    from ssdtune.study.storage import load_study, open_storage, quiet_optuna
    from ssdtune.study.tune import prepare

    quiet_optuna()
    sleeping.install()
    ray.init(address=address, log_to_driver=False, logging_level="critical")
    with log.open("a", buffering=1) as file:

        def on_trial(_: Any, trial: Any) -> None:
            file.write(f"{time.time()} told {trial.number}\n")

        def say(words: str) -> None:
            if "died" in words:
                file.write(f"{time.time()} died\n")

        study = load_study(STUDY, open_storage(url))
        unlearner = prepare(read_record(study), task())
        run_study(study, task(), unlearner, pool=partial(actor_pool, say=say), on_trial=on_trial)
    os._exit(0)  # what Ray still has to tidy up takes no part
