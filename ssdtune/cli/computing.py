"""Where commands compute: a study's task, for which device and threads are settled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ssdtune.cli.console import say, track
from ssdtune.cli.storage import THREADS
from ssdtune.errors import ConfigError

if TYPE_CHECKING:
    from ssdtune.fisher.crew import OpenCrew
    from ssdtune.learning.collect import Gather
    from ssdtune.study.pool import OpenPool
    from ssdtune.studyfile import StudyFile
    from ssdtune.task import Samples, Task

_LARGEST_WORK = 2**19  # numbers in the inputs of what is timed, as an evaluation takes them at once
_SLOW = 0.5  # seconds of a forward pass from which on it is timed alone


def open_task(study: StudyFile | Path, device: str, *, headers_only: bool = False) -> Task:
    """The task of a study file, and as many threads as it needs; a line says what is computed on.

    Raises
    ------
    ConfigError, DataError, ModelError : see ``mri.task.load_task``.
    """
    from ssdtune.mri.task import load_task

    task = load_task(study, device, headers_only=headers_only, track=track, say=say)
    settle_threads(task.device, lambda: work_of(task))
    return task


def settle_threads(device: Any, make_work: Callable[[], Callable[[], object]]) -> None:
    """Set the threads of this process, once a command and task, and say what they are and why.

    make_work : gives a typical piece of the work to come, which is timed where neither option nor environment decides.
    """
    import torch

    from ssdtune.device import fewest_good_threads, set_threads, thread_choices, time_threads

    device = torch.device(device)
    context = click.get_current_context(silent=True)
    asked = context.meta.get(THREADS) if context is not None else None
    name = str(device)
    if device.type == "cuda":
        name += f" ({torch.cuda.get_device_name(device)})"
    if asked is not None:
        set_threads(asked)
        why = "--threads"
    elif os.environ.get("OMP_NUM_THREADS"):
        why = "OMP_NUM_THREADS"
    elif device.type != "cpu" or len(thread_choices()) == 1:
        why = ""
    else:
        set_threads(1)  # never the worst choice by far, as all may be on a busy machine
        times = time_threads(make_work())
        set_threads(fewest_good_threads(times))
        why = "measured: " + ", ".join(f"{number} takes {taken:.2g} s" for number, taken in times.items())
    number = torch.get_num_threads()
    words = f"{number} thread{'s' if number > 1 else ''}"
    # among a command's results, so that what goes wrong later is one line by itself; not within JSON
    json = context is not None and context.params.get("as_json", False)
    click.echo(f"device: {name}, {words}" + (f" ({why})" if why else ""), err=json)


def work_of(task: Task) -> Callable[[], object]:
    """A typical piece of a study's work: loss and gradients of a few samples, or their output alone where that is slow.

    Few samples: as many as are evaluated at once on a CPU.
    """
    import time

    import torch

    from ssdtune.task import batches

    samples: Samples = task.retain
    first = next(iter(batches([samples[0]], 1, task.device)))
    values = sum(value.numel() for value in first.inputs if isinstance(value, torch.Tensor))
    count = max(1, min(_LARGEST_WORK // max(values, 1), 16, len(samples)))
    batch = next(iter(batches([samples[index] for index in range(count)], count, task.device)))

    def forward() -> None:
        with torch.no_grad():
            task.predict(None, batch.inputs)

    def gradients() -> None:
        params = {name: value.detach().requires_grad_(value.is_floating_point()) for name, value in task.params.items()}
        task.loss(task.predict(params, batch.inputs), batch.target).backward()

    started = time.perf_counter()
    forward()
    return forward if time.perf_counter() - started > _SLOW else gradients


def ray_option(command: Any) -> Any:
    """Adds ``address``: None without --ray."""
    return click.option(
        "--ray",
        "address",
        is_flag=False,
        flag_value="auto",
        metavar="[HOST:PORT]",
        help="Compute on a Ray cluster: a process a GPU, or one for every --threads cores (1).  [default: that of "
        "$RAY_ADDRESS, one that this machine is of, or this machine alone]",
    )(command)


class OnRay(NamedTuple):
    """A Ray cluster that this process is connected to: computes analyses, measures trials, collects experience."""

    crew: OpenCrew
    pool: OpenPool
    gather: Gather


@contextmanager
def open_ray(address: str | None, device: str) -> Iterator[OnRay | None]:
    """A Ray cluster, to which this process is connected meanwhile; None without an address. A line says that it starts,
    one how large it is.

    Raises ConfigError: Ray, the cluster or room in it is not there, or the device is one of several.
    """
    if address is None:
        yield None
        return
    from ssdtune.device import find_device
    from ssdtune.study.actors import actor_pool
    from ssdtune.study.cluster import Places, cluster
    from ssdtune.study.collect_on_ray import gather_on
    from ssdtune.study.fisher_on_ray import crew_on

    found = find_device(device)
    if found.index is not None:
        raise ConfigError("with --ray every process has a GPU of its own", f"--device {device}", "give --device cuda")
    say = partial(click.echo, err=True)
    with cluster(address, say):
        places = Places(click.get_current_context().meta.get(THREADS) or 1, found.type == "cuda")
        number = places.number()
        say(f"ray: {number} process{'es' if number > 1 else ''}, one for {places.each}")
        yield OnRay(crew_on(places), partial(actor_pool, places=places, say=say), gather_on(places))
