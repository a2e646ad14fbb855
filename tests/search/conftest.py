"""One small task and its analysis for all tests of the search, and storages of their own."""

import sys
from pathlib import Path

import optuna
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import small_task

from ssdtune.search.storage import open_storage
from ssdtune.search.study import create_study
from ssdtune.studyfile import ScoreSection, SearchSection

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="session")
def task():
    return small_task.make_task()


@pytest.fixture(scope="session")
def analysis(task):
    return small_task.Diagonals(task)


@pytest.fixture(scope="session")
def wide():
    """(task, analysis) of enough samples for trials to be stopped early."""
    retain = small_task.points(0, 80, 1) + small_task.points(1, 80, 2)
    task = small_task.make_task(retain=retain, forget=small_task.points(2, 60, 3))
    return task, small_task.Diagonals(task)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def storage(url):
    return open_storage(url, create=True)


@pytest.fixture
def new_study(task):
    """``new_study(name="demo", storage=None, score={...}, **search)``; None keeps the study in memory."""

    def make(name="demo", *, storage=None, task=task, score=None, **search):
        section = SearchSection.model_validate({"sampler": "random", "trials": 6, **search})
        return create_study(task, storage, name=name, search=section, score=ScoreSection(**(score or {})))

    return make
