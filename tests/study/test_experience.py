"""A finished study is experience: what it measured comes back, with damage terms at its settings."""

import shutil

import numpy as np
import pytest
from small_task import ssd

from ssdtune.fisher.analysis import analyse
from ssdtune.learning.fit import points
from ssdtune.plane.packing import pack
from ssdtune.plane.settings import GRID_KAPPA, GRID_RHO
from ssdtune.prior.view import TaskView
from ssdtune.study.experience import experience_of, keep_view, study_experiences, terms_at
from ssdtune.study.large import write_large
from ssdtune.study.record import VIEW, read_record
from ssdtune.study.run import run_study
from ssdtune.study.storage import load_study, open_storage

BOX = {"alpha": [0.3, 10], "lambda": [0.1, 10]}


@pytest.fixture(scope="module")
def fisher(task):
    return analyse(task)


@pytest.fixture(scope="module")
def database(task, fisher, new_study, tmp_path_factory):
    """A database with a finished study of random settings, ``lesson``."""
    path = tmp_path_factory.mktemp("lesson") / "studies.db"
    study = new_study("lesson", storage=open_storage(f"sqlite:///{path}", create=True), trials=12, **BOX)
    run_study(study, task, ssd(task, fisher), exact=True)
    return path


@pytest.fixture
def storage(database, tmp_path):
    """A copy of it."""
    return open_storage(f"sqlite:///{shutil.copy(database, tmp_path / 'studies.db')}")


@pytest.fixture
def finished(storage):
    return load_study("lesson", storage)


def test_a_finished_study_teaches_what_it_measured(finished, storage):
    study = finished
    (lesson,) = study_experiences(storage)
    record = read_record(study)
    assert lesson.key == "lesson"
    assert lesson.floor == record.rule.floor
    taught = points(lesson)
    assert np.isfinite(taught.local).all()
    assert len(taught.y) == len(lesson.alpha) >= 5
    best = study.best_trial
    at = int(np.argmin(np.abs(lesson.alpha - max(best.params["alpha"], best.params["lambda"]))))
    retained, remembered = np.clip(taught.y[at], 0, 1)
    w = record.rule.retain_weight
    assert w * retained + (1 - w) * (1 - remembered) == pytest.approx(best.value, abs=1e-6)


def test_studies_on_the_same_inputs_are_one_family(finished, task, fisher, new_study, storage):
    run_study(new_study("twin", storage=storage, trials=12, seed=5, **BOX), task, ssd(task, fisher))
    first, second = study_experiences(storage)
    assert first.family == second.family


def test_an_unfinished_study_teaches_nothing(finished, task, fisher, new_study, storage):
    cut = new_study("cut", storage=storage, trials=12, **BOX)
    run_study(cut, task, ssd(task, fisher), trials=3)
    assert experience_of(cut) is None
    assert [lesson.key for lesson in study_experiences(storage)] == ["lesson"]


def test_the_view_is_kept_once(finished, task, fisher):
    before = dict(finished.user_attrs)
    keep_view(finished, read_record(finished), ssd(task, fisher))
    assert finished.user_attrs == before


def test_a_view_on_another_grid_teaches_nothing(finished, fisher):
    assert experience_of(finished) is not None
    raw = TaskView.of(fisher).to_json()
    write_large(finished, VIEW, {**raw, "alpha": pack(np.geomspace(9, 1, 36))}, {})
    assert experience_of(finished) is None


def test_terms_between_the_nodes_are_those_of_the_analysis(fisher):
    """Exact at nodes; between them as close as a few parameters allow."""
    view = TaskView.of(fisher)
    node = terms_at(view, GRID_RHO[[20]], GRID_KAPPA[[7]])
    for name, term in view.terms.items():
        assert node[name][0] == pytest.approx(term[20, 7], rel=1e-9)
    rho, kappa = np.array([0.05, 0.2, 0.4]), np.array([0.05, 0.3, 0.7])
    found = terms_at(view, rho, kappa)
    alpha = np.asarray(fisher.alpha_at(rho))
    exact = fisher.damage(alpha, alpha * kappa).as_dict()
    np.testing.assert_allclose(found["relative_change"], exact["relative_change"], rtol=0.25)
