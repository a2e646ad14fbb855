"""Fisher analyses on a Ray cluster of this machine's are those of one process, whatever dies on the way."""

import os
import signal
import sys
from pathlib import Path

import pytest
import small_task
import torch
from same_analysis import assert_same
from torch.nn.functional import cross_entropy

from ssdtune.errors import DataError
from ssdtune.fisher.analysis import analyse
from ssdtune.study.cluster import Places
from ssdtune.study.fisher_on_ray import crew_on

ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
pytestmark = pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")


@pytest.fixture
def crew(two_places):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return crew_on(Places())


class Deadly:
    """A loss: the first process but this one that works it out dies."""

    __name__ = "deadly"

    def __init__(self, folder):
        self.folder, self.home = str(folder), os.getpid()

    def __call__(self, output, target):
        if os.getpid() != self.home and not list(Path(self.folder).iterdir()):
            Path(self.folder, "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return cross_entropy(output, target)


def test_it_is_that_of_one_process_though_one_of_the_cluster_dies(crew, tmp_path):
    task, seen = small_task.make_task(loss=Deadly(tmp_path)), []

    def track(items, description, total):
        for item in items:
            yield item
            seen.append(description)

    found = analyse(task, groups="layer", crew=crew, track=track)
    assert (tmp_path / "died").exists()
    assert sum("gradients" in words for words in seen) == 2
    assert_same(found, analyse(task, groups="layer"))


def test_what_is_wrong_with_a_sample_is_said_as_in_one_process(crew):
    forget = small_task.points(2, 12, 3)
    forget[7] = (torch.full((2,), float("nan")), torch.tensor(2))
    with pytest.raises(DataError, match="forget sample 7 is not finite"):
        analyse(small_task.make_task(forget=forget), crew=crew)
