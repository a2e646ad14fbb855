"""A study's prior in its reports: the figure beside the trials, the fact, the competition's page."""

from dataclasses import replace

import numpy as np
import pytest

from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.report.competition_studies import competition_of, write_competition
from ssdtune.report.history import history_figures
from ssdtune.report.html import study_page
from ssdtune.report.knobs import points_of
from ssdtune.report.page import render
from ssdtune.report.ssd_plane import prior_figure
from ssdtune.report.statement import fact_rows
from ssdtune.report.view import read_view
from ssdtune.study.prior import StudyPrior


@pytest.fixture(scope="module")
def fixed():
    log_rho, log_kappa = np.linspace(-3, 0, 9), np.linspace(-2, 0, 6)
    damage = (log_rho[:, None] - 0.5 * log_kappa)[None]
    retained, remembered = 1 / (1 + np.exp(4 * damage)), 1 / (1 + np.exp(4 * damage + 4))
    sd, lengths = np.array([0.02, 0.05]), np.full((2, 2), 0.5)
    surface = ResponseSurface(log_rho, log_kappa, -1 - log_rho, retained, remembered, sd, lengths, trust=0.3)
    return StudyPrior(HyperparameterPrior(surface), "abc123")


@pytest.fixture
def view(study, fixed):
    return replace(read_view(study), prior=fixed)


def test_the_surface_is_the_priors_own_with_lambda_along_the_rows(view):
    prior, measured = view.prior.prior, points_of(view)
    figure, own = prior_figure(prior, measured), prior.surface()
    assert figure.data[0].z[3][7] == own.score[7, 3]
    (contour,) = [trace for trace in figure.data if trace.name == "feasible: 50 %"]
    assert contour.z[3][7] == own.feasible[7, 3]
    assert figure.layout.coloraxis.cmax == max(own.score.max(), measured.score.max())
    (best,) = [trace for trace in figure.data if trace.name == "best measured"]
    assert (best.x[0], best.y[0]) == tuple(view.best.setting.values())


def test_the_prior_is_shown_beside_the_trials(view):
    assert "ssdtune-prior" not in history_figures(replace(view, prior=None))
    assert "ssdtune-prior" not in history_figures(replace(view, trials=[]))
    figure = history_figures(view)["ssdtune-prior"]
    (star,) = [trace for trace in figure.data if trace.name == "mode of the prior"]
    assert (star.x[0], star.y[0]) == tuple(view.prior.prior.mode.values())
    assert any(trace.name == "feasible: 50 %" for trace in figure.data)
    facts = dict(fact_rows(view))
    assert "mapper abc123" in facts["prior"]
    assert "trust 0.30" in facts["prior"]
    assert "leans on the data" in facts["prior"]
    assert "What the prior expected before any trial" in render(study_page(view))


def test_the_competitions_page_shows_the_shared_prior(view, tmp_path):
    views = {"spectrum": [view, view], "tpe": [replace(view, prior=None)] * 2}
    page = write_competition(views, competition_of(views), "ghosts", tmp_path / "page.html").read_text()
    assert "The prior against what was measured" in page
    assert "mapper abc123" in page
    without = {"tpe": views["tpe"], "random": views["tpe"]}
    page = write_competition(without, competition_of(without), "ghosts", tmp_path / "page.html").read_text()
    assert "The prior against what was measured" not in page
