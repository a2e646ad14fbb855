"""What a dry run says of a method is what the method then does."""

import pytest
import torch

from ssdtune.fisher.analysis import analyse
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.losses import LOSSES
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.quality import image_distance, image_measures, image_noise
from ssdtune.mri.stand_in import stand_in
from ssdtune.progress import silent
from ssdtune.study.compare import middle
from ssdtune.study.foresight import method_passes
from ssdtune.studyfile import MaskSection, TrainSection
from ssdtune.task import Task
from ssdtune.unlearning.method import run
from ssdtune.unlearning.methods import METHODS, choose_method

NEVER = {"compose", "boundary-shrink", "auto", "potion"}  # of parents, of classes, of others, until it is enough


UNET = ("ssd", "nl-ft", "psg", "spectral")  # one of a kind: slices look otherwise, methods are the same
CASES = [("varnet", name) for name in METHODS if name not in NEVER] + [("unet", name) for name in UNET]


@pytest.fixture(scope="module")
def task(request, tmp_path_factory, fastmri_file):
    folder = tmp_path_factory.mktemp(request.param)
    sets = [
        open_slices(
            [fastmri_file(folder / f"{seed}.h5", slices=slices, coils=2, shape=(32, 32), seed=seed)],
            MaskSection(),
            request.param,
        )
        for seed, slices in enumerate((3, 2))
    ]
    sizes = TrainSection(architecture=request.param, cascades=1, channels=2, pools=1, sens_channels=2, sens_pools=1)
    torch.manual_seed(0)
    return Task(
        build_model(sizes),
        LOSSES["l1" if request.param == "unet" else "ssim"],
        retain=sets[0],
        forget=sets[1],
        quality=image_measures,
        distance=image_distance,
        noise=image_noise,
        without_model=zero_filled,
    )


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
@pytest.mark.parametrize(("task", "name"), CASES, indirect=["task"])
def test_passes_counted_on_the_stand_in_are_the_tasks_own(name, task):
    ranged = isinstance(getattr(choose_method({"name": name}).options, "steps", None), tuple)
    chosen = choose_method({"name": name, **({"steps": [1, 5]} if ranged else {})})  # fewer cost less and count alike
    unlearner = chosen.method.prepare(task, chosen.options, analyse=lambda: analyse(task), track=silent)
    own = run(unlearner, middle(chosen.method.knobs(chosen.options)), 0).cost
    assert method_passes(chosen, stand_in(task)) == own
