"""From a stored study back to what it works on: the task, and its method made ready for it."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ssdtune.cli.computing import open_task
from ssdtune.cli.console import say, track
from ssdtune.errors import ConfigError, ModelError, near_file

if TYPE_CHECKING:
    from ssdtune.fisher.crew import OpenCrew
    from ssdtune.fisher.result import FisherAnalysis
    from ssdtune.progress import Track
    from ssdtune.study.record import StudyRecord
    from ssdtune.studyfile import FisherSection, SearchSection, StudyFile
    from ssdtune.task import Task
    from ssdtune.unlearning.method import Analyse, Unlearner
    from ssdtune.unlearning.methods import Chosen


def read_study_file(path: Path, method: str | None = None, *, complete: bool = True) -> tuple[StudyFile, Chosen]:
    """A study file with its method's section checked and filled in, and that method; ``method`` names another one.

    complete : whether all files that it names have to be there, which is looked at before anything heavy is loaded.

    Raises
    ------
    ConfigError : see ``load_study_file`` and ``choose_method``.
    ModelError, DataError : see ``check_files``.
    """
    from ssdtune.studyfile import MethodSection, load_study_file

    study = load_study_file(path)
    if complete:
        check_files(study)
    from ssdtune.unlearning.methods import choose_method

    if method in (None, study.method.name):
        chosen = choose_method(study.method.model_dump(), path)
    else:
        chosen = choose_method({"name": method}, "--method")
    return study.model_copy(update={"method": MethodSection.model_validate(chosen.section())}), chosen


def check_files(study: StudyFile) -> None:
    """Refuse a study whose checkpoints or data are not there, before anything heavy is loaded.

    Raises ModelError, DataError: as ``load_task`` would, seconds later.
    """
    from ssdtune.mri.kspace.select import set_files

    for path in models_of(study):
        try:
            path.stat()
        except OSError as reason:
            raise ModelError(f"cannot read ({reason.strerror})", path, near_file(path)) from reason
    set_files(study.data)


def models_of(study: StudyFile) -> list[Path]:
    """Its checkpoint, and the oracle's if it names one."""
    return [path for path in (study.model.checkpoint, study.model.oracle) if path is not None]


def scans_of(study: StudyFile) -> list[Path]:
    """The files of all its sample sets. Raises DataError: see ``set_files``."""
    from ssdtune.mri.kspace.select import set_files

    return [file for files in set_files(study.data).values() for file in files]


def check_stored(record: StudyRecord) -> None:
    """``check_files`` of a stored study; nothing of one that was made from Python. Raises ModelError, DataError."""
    from ssdtune.studyfile import StudyFile

    if record.study_file is not None:
        check_files(StudyFile.from_json(record.study_file))


def check_mapper(search: SearchSection) -> None:
    """Refuse a mapper that cannot be read before the long work; raises DataError."""
    if search.mapper is not None:
        from ssdtune.prior.mapper import SpectrumMapper

        SpectrumMapper.load(search.mapper)


def load_inputs(name: str, record: StudyRecord, device: str, crew: OpenCrew | None = None) -> tuple[Task, Unlearner]:
    """The task of a study, see ``load_task_of``, and its method made ready for it.

    crew : computes its Fisher analysis; None for this process.
    """
    task = load_task_of(name, record, device)
    return task, prepare(task, record.chosen, record.fisher, crew)


def load_task_of(name: str, record: StudyRecord, device: str) -> Task:
    """The task of a study, checked against its recorded hashes.

    Raises
    ------
    ConfigError : the study was made from Python, its method is not installed, or there is no such device.
    DataError, ModelError : inputs that cannot be used, or that changed since the study was made.
    """
    if record.study_file is None:
        todo = "run it from Python with ssdtune.study.run.run_study"
        raise ConfigError("made from Python, without a study file", f"study '{name}'", todo)
    from ssdtune.studyfile import StudyFile

    study = StudyFile.from_json(record.study_file)
    check_files(study)
    from ssdtune.study.run import check_inputs

    _ = record.chosen  # its method is refused before the long work
    task = open_task(study, device)
    check_inputs(record, task)
    return task


def prepare_timed(task: Task, chosen: Chosen, analyse: Analyse, track: Track) -> tuple[Unlearner, float]:
    """A method made ready, and the seconds that this takes whoever has no analysis in the cache."""
    spared = 0.0

    def timed() -> FisherAnalysis:
        nonlocal spared
        started = time.perf_counter()
        found = analyse()
        spared += float(found.record["seconds"]["total"]) - (time.perf_counter() - started)
        return found

    started = time.perf_counter()
    unlearner = chosen.method.prepare(task, chosen.options, analyse=timed, track=track)
    return unlearner, time.perf_counter() - started + max(spared, 0.0)


def prepare(task: Task, chosen: Chosen, section: FisherSection, crew: OpenCrew | None = None) -> Unlearner:
    """A method made ready for a task; its Fisher analysis, if it needs one, from the cache if it is there."""
    analyse = analysis_of(task, section, crew=crew)
    return chosen.method.prepare(task, chosen.options, analyse=analyse, track=track)


def analysis_of(task: Task, section: FisherSection, track: Track = track, crew: OpenCrew | None = None) -> Analyse:
    """Gives the Fisher analysis of a task when it is called, from the cache if it is there."""
    from ssdtune.fisher.cache import cached_analysis
    from ssdtune.fisher.crew import Alone

    def analyse() -> FisherAnalysis:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are kept with the analysis, see print_warnings
            return cached_analysis(task, section, track=track, crew=crew or Alone)

    return analyse


def print_warnings(analysis: FisherAnalysis | None) -> None:
    """What makes a Fisher analysis doubtful, a line each: as it is printed, and once where it begins to be used."""
    for complaint in getattr(analysis, "warnings", ()):
        say(complaint)
