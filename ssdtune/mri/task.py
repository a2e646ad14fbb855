"""A study file as a task: its checkpoint, sample sets, loss and quality, all checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ssdtune.device import find_device
from ssdtune.errors import DataError, ModelError
from ssdtune.mri.floors import clean_similarity, zero_filled, zero_filled_similarity
from ssdtune.mri.kspace.select import EARLIER, set_files
from ssdtune.mri.kspace.slices import KspaceSlices, open_slices
from ssdtune.mri.kspace.taken import Taken
from ssdtune.mri.losses import LOSSES, recorded_name
from ssdtune.mri.networks.models import LoadedModel, load_model
from ssdtune.mri.networks.recipe import settled
from ssdtune.mri.quality import image_distance, image_measures, image_noise
from ssdtune.mri.subjects import name_subjects, shared_subjects
from ssdtune.progress import Say, Track, silent, unsaid
from ssdtune.studyfile import DataSection, StudyFile, load_study_file
from ssdtune.task import Chosen, Task, batches

if TYPE_CHECKING:
    from ssdtune.mri.networks.models import Architecture
    from ssdtune.mri.networks.stock import Reconstructor


def settle(study: StudyFile, say: Say = unsaid) -> StudyFile:
    """The study file with mask and loss taken from its checkpoint where it leaves them open.

    ``say`` is told where the two differ. Raises ModelError: see ``load_model``.
    """
    loaded = load_model(study.model.checkpoint, study.model.architecture)
    found, notes = settled(study, loaded.checkpoint, loaded.architecture)
    for note in notes:
        say(note)
    return found


def load_task(
    study: StudyFile | Path | str,
    device: torch.device | str = "cpu",
    *,
    headers_only: bool = False,
    track: Track = silent,
    say: Say = unsaid,
) -> Task:
    """The task of a study file, with everything checked that would stop a study later.

    ``device`` is a device's name (``auto``: a GPU if there is one). ``track`` shows the files being read, which is done
    once a file: what was found is kept in the user's cache folder. ``headers_only`` reads no content but one slice of
    each size, so that such a task can be timed and not studied. ``say`` is told what stops nothing: files left out, and
    subjects in two sets.

    Raises
    ------
    ConfigError : the study file, its mask or the device is wrong.
    DataError : a file cannot be used, a set is empty, or two sets share slices.
    ModelError : a checkpoint cannot be used, or does not fit the data or the other checkpoint.
    """
    if not isinstance(study, StudyFile):
        study = load_study_file(study)
    device = find_device(str(device))
    loaded = load_model(study.model.checkpoint, study.model.architecture)
    study, _ = settled(study, loaded.checkpoint, loaded.architecture)
    oracle = _load_oracle(study.model.oracle, loaded) if study.model.oracle else None
    sets = open_sets(study, loaded.architecture, headers_only=headers_only, track=track, say=say)
    forget, unknown = sets["forget"], sets.get("unknown")
    task = Task(
        model=loaded.module,
        loss=LOSSES[study.fisher.loss],
        retain=sets["retain"],
        forget=forget,
        quality=image_measures,
        evaluation={
            name: sets[key]
            for name, key in (("retain", "retain_heldout"), ("unknown", "unknown"), ("unseen", "unseen"))
            if key in sets
        }
        | {key: slices for key, slices in sets.items() if key.startswith(EARLIER)},
        oracle=oracle,
        floor_sources=floor_sources(forget),
        forget_share=study.fisher.forget_share or _share(sets["retain"], forget),
        known_share=len(forget) / (len(forget) + len(unknown or ())),
        loss_name=recorded_name(study.fisher.loss),
        name=study.name,
        device=device,
        distance=image_distance,
        noise=image_noise,
        without_model=zero_filled,
    )
    for slices in sets.values():
        _try_model(task, slices, study.model.checkpoint)
    return task


def open_sets(
    study: StudyFile,
    architecture: Architecture,
    *,
    headers_only: bool = False,
    track: Track = silent,
    say: Say = unsaid,
) -> dict[str, KspaceSlices]:
    """The sample sets a study file names, by key: ``retain``, ``forget``, ``retain_heldout``, ``unknown``, ``unseen``,
    and ``earlier_NAME`` of each earlier forget set.

    Raises ConfigError, DataError: see ``set_files`` and ``open_slices``; also sets that share slices.
    """
    files = set_files(study.data)
    corrupted = {"forget", "unknown", "unseen"}
    sets = {
        name: open_slices(
            paths,
            study.mask,
            architecture,
            study.data.clean if name in corrupted or name.startswith(EARLIER) else None,
            name=name,
            skip_faulty=study.data.skip_faulty,
            taken=_taken(study.data, name),
            headers_only=headers_only,
            track=track,
            say=say,
        )
        for name, paths in files.items()
    }
    if not headers_only:
        _refuse_overlap(sets)
    for slices in sets.values():
        name_subjects(slices, study.data.subject)
    for line in shared_subjects(sets):
        say(line)
    return sets


def _taken(data: DataSection, name: str) -> Taken | None:
    """The part of a set that is used; of retain sets alone, as forget sets are what it is about."""
    whole = data.volume_sample_rate == 1 and data.retain_slices is None
    if whole or name not in ("retain", "retain_heldout"):
        return None
    return Taken(data.volume_sample_rate, data.retain_slices, name)


def _share(retain: KspaceSlices, forget: KspaceSlices) -> float | None:
    """phi of the whole sets, where the retain set is a part of one; None leaves it to the task."""
    return None if retain.total == len(retain) else forget.total / (forget.total + retain.total)


def floor_sources(forget: KspaceSlices) -> dict[str, Callable[[float], float]]:
    """Ways to work out the floor without an oracle, best first; each takes the untouched model's retain quality."""
    sources: dict[str, Callable[[float], float]] = {}
    if forget.has_clean:
        similarity = cache(lambda: float(clean_similarity(forget).mean()))
        sources["clean"] = lambda q_retain: similarity() * q_retain
    zero_filled = cache(lambda: float(zero_filled_similarity(forget).mean()))
    sources["zero-filled"] = lambda q_retain: zero_filled()
    return sources


def _load_oracle(path: Path, loaded: LoadedModel) -> Reconstructor:
    oracle = load_model(path, loaded.architecture)
    if oracle.sizes != loaded.sizes:
        what = f"the oracle is another network ({oracle.sizes}) than the model ({loaded.sizes})"
        raise ModelError(what, path, "train the oracle with the model's sizes")
    return oracle.module


def _refuse_overlap(sets: Mapping[str, KspaceSlices]) -> None:
    """Refuse slices with the same k-space in two sets or twice in one, under whatever name and with whatever target."""
    for name, slices in sets.items():
        first: dict[str, str] = {}
        for content, label, volume in zip(slices.content_ids(), slices.ids, slices.volumes, strict=True):
            if first.setdefault(content, label) != label:
                what = f"the {name} set holds a slice twice (same k-space: {first[content]} and {label})"
                raise DataError(what, volume, "take one of them out of the set")
    found = {name: dict(zip(slices.content_ids(), slices.ids, strict=True)) for name, slices in sets.items()}
    for one, other in combinations(sets, 2):
        # in the order of the first set, so that the message is always the same
        shared = [content for content in found[one] if content in found[other]]
        if shared:
            pair = f"{found[one][shared[0]]} and {found[other][shared[0]]}"
            number = f"{len(shared)} slices" if len(shared) > 1 else "1 slice"
            what = f"the {one} and {other} sets share {number} (same k-space: {pair})"
            where = next(report.path for report in sets[other].reports if shared[0] in report.kspace_ids)
            raise DataError(what, where, "take them out of one of the sets")


@torch.no_grad()
def _try_model(task: Task, slices: KspaceSlices, checkpoint: Path) -> None:
    """Reconstruct one slice of each size: the model must take it and give a finite image that covers the target."""
    chosen = slices.one_of_each_size
    for batch in batches(Chosen(slices, chosen), 1, task.device):
        where = f"{checkpoint} on {slices.ids[chosen[batch.indices[0]]]}"
        try:
            output = task.predict(None, batch.inputs)
        except (RuntimeError, ValueError) as reason:
            what = f"the model does not fit the data ({str(reason).splitlines()[0]})"
            raise ModelError(what, where, "check checkpoint and sizes") from reason
        size, wanted = output.shape[-2:], batch.target["image"].shape[-2:]
        if size[0] < wanted[0] or size[1] < wanted[1]:
            what = f"the model's image ({size[0]}x{size[1]}) is smaller than the target ({wanted[0]}x{wanted[1]})"
            raise ModelError(what, where, "check checkpoint and sizes")
        if not torch.isfinite(output).all():
            raise ModelError("the untouched model gives non-finite output", where, "check checkpoint and data")
