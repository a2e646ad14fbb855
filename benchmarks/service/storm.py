"""Nothing lost: workers are killed, told to stop, and their database is restarted, until a study has all its trials."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Metrics
from benchmarks.service.crew import FINISHED, Crew, Progress, make_study, read_trials


def storm(
    url: str,
    folder: Path,
    *,
    trials: int,
    workers: int,
    seed: int,
    kill_every: float = 1.0,
    stop_every: float = 3.0,
    restart: Callable[[], None] | None = None,
    seconds: float = 0.02,
    by_trials: bool = False,
    limit: float = 1800.0,
) -> Metrics:
    """Run a study of ``trials`` through it. What the workers logged as finished is compared with what the storage has.

    kill_every, stop_every : seconds between a SIGKILL, and a SIGTERM, of a worker drawn by chance; ``by_trials`` counts
    finished trials instead, so that a busy machine has the same storm. limit : seconds, after which it is given up.

    lost : trials that a worker logged as finished and that the storage does not have so. duplicated : finished trials
    that repeat the place (the seed) of another. finished : in the storage, the budget if all is well. asked : trials
    begun, those cut short included. best_differs : 1 unless the study's best is that of its trials. stop_s : the
    slowest end after SIGTERM.
    """
    from ssdtune.study.record import origin_of

    make_study(url, trials, seconds, seed)
    progress, rng = Progress(url), random.Random(seed)
    began = time.monotonic()
    next_kill, next_stop = kill_every, stop_every
    restarts = [trials * 2 // 3, trials // 3] if restart is not None else []
    killed = stopped = 0
    with Crew(url, workers, folder) as crew:
        while (done := progress.finished()) is None or done < trials:
            crew.keep_full()
            now = (done or 0) if by_trials else time.monotonic() - began
            if time.monotonic() - began > limit:
                break
            if now >= next_kill:
                crew.send(rng.choice(crew.members), signal.SIGKILL)
                next_kill, killed = now + kill_every, killed + 1
            if now >= next_stop:
                crew.send(rng.choice(crew.members), signal.SIGTERM)
                next_stop, stopped = now + stop_every, stopped + 1
            if restarts and restart is not None and done is not None and done >= restarts[-1]:
                restarts.pop()
                restart()
            time.sleep(0.05)
        elapsed = time.monotonic() - began
        stop_s = crew.stop()
    study, found = read_trials(url)
    by_number = {trial.number: trial for trial in found}
    logged = {event["trial"]: event["score"] for event in crew.events() if event["event"] == "trial"}
    counted = [trial for trial in found if trial.state in FINISHED]
    lost = [number for number in logged if by_number[number].state not in FINISHED]
    best = max((trial.value or 0.0 for trial in counted if trial.state.name == "COMPLETE"), default=None)
    return {
        "lost": len(lost),
        "duplicated": len(counted) - len({origin_of(trial).get("seed_number") for trial in counted}),
        "finished": len(counted),
        "asked": len(found),
        "best_differs": int(best is None or study.best_value != best),
        "killed": killed,
        "stopped": stopped,
        "gave_up": sum(code not in (0, 143, -signal.SIGKILL, -signal.SIGTERM) for code in crew.exits),
        "stop_s": stop_s,
        "seconds": elapsed,
    }
