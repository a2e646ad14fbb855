"""Nothing lost on Ray: a study on two raylets of this machine, of which one is killed in the middle.

`ray.lost`: trials that were told as finished and that the storage does not have so. `ray.duplicated`: finished trials
that repeat the place (the seed) of another. `ray.finished`: in the storage, the budget if all is well. `ray.asked`:
trials begun. `ray.best_differs`: 1 unless the study's best is that of its trials. `ray.died`: actors that died with a
trial, which ran again. `ray.trials_s_before`, `ray.trials_s_after`: trials a second until one was killed, and with the
one that is left, the time to find out included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

from benchmarks.harness import Metrics, main
from benchmarks.service.crew import FINISHED, make_study, read_trials, task

MEMORY = 100 * 2**20  # bytes of a raylet's object store


def measure(options: argparse.Namespace) -> Metrics:
    trials, seconds = (60, 0.05) if options.quick else (1000, 0.05)
    with tempfile.TemporaryDirectory() as folder:
        found = storm(f"sqlite:///{folder}/studies.db", trials, seconds, options.seed)
    return {f"ray.{name}": value for name, value in found.items()}


def storm(url: str, trials: int, seconds: float, seed: int) -> Metrics:
    """A study of so many trials, each sleeping so long, through it."""
    import ray
    from ray.cluster_utils import Cluster

    from ssdtune.study.actors import actor_pool
    from ssdtune.study.record import origin_of, read_record
    from ssdtune.study.run import run_study
    from ssdtune.study.tune import prepare

    study = make_study(url, trials, seconds, seed)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    other = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    told, times, died = [], [time.monotonic()], []

    def on_trial(_: Any, trial: Any) -> None:
        told.append(trial.number)
        times.append(time.monotonic())
        if len(told) == trials // 2:
            cluster.remove_node(other, allow_graceful=False)

    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="critical")
        unlearner = prepare(read_record(study), task())
        run_study(
            study,
            task(),
            unlearner,
            pool=lambda measure: actor_pool(measure, say=lambda words: died.append(words)),
            on_trial=on_trial,
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    study, found = read_trials(url)
    counted = [trial for trial in found if trial.state in FINISHED]
    full = [trial.value for trial in counted if trial.state.name == "COMPLETE"]
    middle = trials // 2
    return {
        "lost": len(set(told) - {trial.number for trial in counted}),
        "duplicated": len(counted) - len({origin_of(trial).get("seed_number") for trial in counted}),
        "finished": len(counted),
        "asked": len(found),
        "best_differs": int(not full or study.best_value != max(full)),
        "died": sum("died" in words for words in died),
        "trials_s_before": (middle - 2) / (times[middle] - times[2]),
        "trials_s_after": (len(times) - 1 - middle) / (times[-1] - times[middle]),
    }


if __name__ == "__main__":
    main(__doc__, measure)
