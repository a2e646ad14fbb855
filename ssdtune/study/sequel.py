"""A request to forget that follows on another: its study begins with the model that the last one's was applied to."""

from __future__ import annotations

from ssdtune.errors import ConfigError
from ssdtune.mri.networks.checkpoint import read_provenance
from ssdtune.places import Selected
from ssdtune.study.record import StudyRecord
from ssdtune.studyfile import StudyFile


def following(study: StudyFile, name: str, record: StudyRecord) -> StudyFile:
    """The study file with what study ``name`` forgot, and what that one followed on, as ``data.earlier``.

    A Fisher analysis is of one model, so none of the earlier study is carried over: it would be another's.

    Raises
    ------
    ConfigError : that study has no study file, its checkpoint was not the start of this one, two sets of one name
        differ, or what it forgot has to be listed.
    ModelError : the checkpoint cannot be read.
    """
    if record.study_file is None:
        raise ConfigError("made from Python, without a study file", f"study '{name}'", "it names no files")
    provenance = read_provenance(study.model.checkpoint) or {}
    applied = provenance.get("study") if "trial" in provenance else None  # a trained model names its study too
    if applied != name:
        of = f"it is of study '{applied}'" if applied else "it is of no study"
        todo = f"name what this wrote: ssdtune study apply {name} --out FILE"
        raise ConfigError(f"the checkpoint does not follow on '{name}' ({of})", study.model.checkpoint, todo)
    before = StudyFile.from_json(record.study_file).data
    own, forgotten = study.data.earlier or {}, before.forget
    if isinstance(forgotten, Selected) and forgotten.files is None:
        if not isinstance(before.retain, Selected):
            forgotten = Selected(forgotten.header, before.retain)
        elif name in own:  # two conditions are no text that could be compared
            forgotten = own[name]
        else:
            what = f"the forget set of '{name}' is selected of a retain set that is selected too"
            raise ConfigError(what, study.name, f"list its files, as data.earlier.{name}")
    earlier = {**(before.earlier or {}), name: forgotten}
    for key in own.keys() & earlier.keys():
        if own[key] != earlier[key]:
            raise ConfigError(
                f"data.earlier.{key} is not what '{name}' has there", study.name, "call it something else"
            )
    return study.model_copy(update={"data": study.data.model_copy(update={"earlier": {**earlier, **own}})})
