"""From a stored study back to what it works on: the task and its Fisher analysis."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import click

from ssdtune.cli.console import track
from ssdtune.errors import ConfigError

if TYPE_CHECKING:
    from ssdtune.fisher.result import FisherAnalysis
    from ssdtune.study.facts import StudyFacts
    from ssdtune.studyfile import FisherSection, SearchSection
    from ssdtune.task import Task


def check_mapper(search: SearchSection) -> None:
    """Refuse a mapper that cannot be read before the long work; raises DataError."""
    if search.mapper is not None:
        from ssdtune.prior.mapper import SpectrumMapper

        SpectrumMapper.load(search.mapper)


def load_inputs(name: str, facts: StudyFacts, device: str) -> tuple[Task, FisherAnalysis]:
    """The task of a study, checked against its recorded hashes, and the analysis, from the cache if it is there.

    Raises
    ------
    ConfigError : the study was made from Python, or there is no such device.
    DataError, ModelError : inputs that cannot be used, or that changed since the study was made.
    """
    if facts.study_file is None:
        todo = "run it from Python with ssdtune.study.run.run_study"
        raise ConfigError("made from Python, without a study file", f"study '{name}'", todo)
    from ssdtune.mri.task import load_task
    from ssdtune.study.run import check_inputs
    from ssdtune.studyfile import StudyFile

    task = load_task(StudyFile.model_validate(facts.study_file), device, track=track)
    check_inputs(facts, task)
    return task, read_analysis(task, facts.fisher)


def read_analysis(task: Task, section: FisherSection) -> FisherAnalysis:
    """The task's Fisher analysis, from the cache if it is there."""
    from ssdtune.fisher.cache import cached_analysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are kept with the analysis, see print_warnings
        return cached_analysis(task, section, track=track)


def print_warnings(analysis: FisherAnalysis) -> None:
    """What makes a Fisher analysis doubtful, a line each, where its figures are shown."""
    for complaint in analysis.warnings:
        click.echo(f"warning: {complaint}", err=True)
