"""Figures, picture and page of a real analysis, and of one that has nothing to show."""

import json
import re
import warnings

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
import torch
from optuna_dashboard import save_plotly_graph_object
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from torch import nn

import ssdtune
from ssdtune.errors import ModelError
from ssdtune.fisher.bootstrap import Interval
from ssdtune.fisher.features import FEATURES
from ssdtune.fisher.metric import spectral_metric
from ssdtune.report.page import write_page
from ssdtune.report.spectral_plane import RETAIN_WEIGHT, spectral_figure
from ssdtune.report.spectrum import (
    SpectrumView,
    colour_range,
    damage_map,
    log_axis,
    plane_axes,
    ratio_histogram,
    spectrum_figures,
    view_spectrum,
)
from ssdtune.report.spectrum_page import alpha_range, fact_rows, interval_in_words, spectrum_page
from ssdtune.report.spectrum_png import write_spectrum_png


def squared_error(output, target):
    return (target["weight"] * ((output - target["value"]) ** 2).mean(-1)).mean()


def nearness(output, target):
    return 1 / (1 + ((output - target["value"]) ** 2).mean(-1))


def make_task(forget_weight=1.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 2))

    def samples(count, seed, weight=1.0):
        generator = torch.Generator().manual_seed(seed)
        values = [(torch.randn(4, generator=generator), torch.randn(2, generator=generator)) for _ in range(count)]
        return [(one, {"value": wanted, "weight": torch.tensor(weight)}) for one, wanted in values]

    sets = {"retain": samples(16, 1), "forget": samples(10, 2, forget_weight)}
    return ssdtune.Task(model, squared_error, **sets, quality=nearness)


def analyse(task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ssdtune.analyse(task)


@pytest.fixture(scope="module")
def analysis():
    return analyse(make_task())


@pytest.fixture(scope="module")
def view(analysis):
    return view_spectrum(analysis)


def test_the_view_holds_what_the_analysis_says(analysis, view):
    assert isinstance(view, SpectrumView)
    for name, part in (("forget", analysis.forget), ("retain", analysis.retain)):
        assert view.eigenvalues[name].sum() == pytest.approx(part.diagonal.sum(dtype=np.float64), rel=1e-5)
        assert sum(sets[name] for sets in view.depth.values()) == pytest.approx(1)
    assert list(view.depth) == ["first third", "middle third", "last third"]
    place = (10, 20)
    one = analysis.damage(view.alphas[place[0]], view.lams[place[1]])
    assert view.damage.forget_full[place] == pytest.approx(one.forget_full)


def test_figures_are_named_valid_and_small_enough_for_a_storage(view):
    figures = spectrum_figures(view)
    assert list(figures) == [f"spectrum-{part}" for part in ("eigenvalues", "ratios", "depth", "damage")]
    for figure in figures.values():
        text = figure.to_json()
        assert len(text) < 250_000
        assert json.loads(go.Figure(json.loads(text)).to_json()) == json.loads(text)


def test_figures_can_be_attached_to_a_study(view, tmp_path):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/studies.db")
    for name, figure in spectrum_figures(view).items():
        save_plotly_graph_object(study, figure, graph_object_id=name)
    kept = get_plotly_graph_objects(study._storage.get_study_system_attrs(study._study_id))
    assert kept == {name: figure.to_json() for name, figure in spectrum_figures(view).items()}


def test_the_shaded_alpha_select_a_tenth_of_a_percent_to_a_half(analysis, view):
    shade = spectrum_figures(view)["spectrum-ratios"].data[0]
    low, high = min(shade.x), max(shade.x)
    assert (low, high) == alpha_range(analysis)
    assert analysis.selected_fraction(low) == pytest.approx(0.5, abs=1e-3)
    assert analysis.selected_fraction(high) == pytest.approx(0.001, abs=1e-3)


def test_the_histogram_counts_every_parameter_but_the_far_tails(view):
    edges, percent = ratio_histogram(view.ratios)
    assert np.all(np.diff(edges) > 0) and len(percent) == len(edges) - 1
    finite = view.ratios.positive - view.ratios.infinite
    assert percent.sum() == pytest.approx(100 * finite / view.ratios.size, abs=0.1)
    middle = (edges[30] < view.ratios.values) & (view.ratios.values <= edges[31])
    assert percent[30] == pytest.approx(100 * middle.mean())


def test_damage_maps_share_one_scale_and_show_both_sets(view):
    maps = [damage_map(view, name) for name in ("retain", "forget")]
    low, high = colour_range(*maps)
    assert high == max(values.max() for values in maps) and 1 <= high - low <= 5
    figure = spectrum_figures(view)["spectrum-damage"]
    heat = [trace for trace in figure.data if trace.type == "heatmap"]
    for trace, values in zip(heat, maps, strict=True):
        np.testing.assert_allclose(trace.z, values, rtol=1e-6)
    np.testing.assert_allclose(heat[1].z[3][5], np.log10(view.damage.forget_full[5, 3]), rtol=1e-6)


def test_the_plane_spans_the_alpha_that_select_something(view):
    alphas, lams = plane_axes(view.ratios, 9)
    assert view.ratios.selected_fraction(alphas[0]) == pytest.approx(0.9, abs=2e-3)
    assert lams[0] == pytest.approx(alphas[0] / 10) and lams[-1] == pytest.approx(alphas[-1])


@pytest.mark.parametrize(
    "values, step", [([1, 5], "D2"), ([1e-3, 1e3], 1), ([1e-20, 1e20], 5), ([], "D2"), ([0], "D2")]
)
def test_log_axes_have_a_few_ticks(values, step):
    assert log_axis(values)["dtick"] == step


def test_the_page_is_whole_and_loads_nothing(analysis, view, tmp_path):
    path = write_page(spectrum_page(analysis, view, "brain <study>"), tmp_path / "page.html")
    text = path.read_text().replace("<wbr>", "")
    assert "brain &lt;study&gt;" in text
    for name in FEATURES:
        assert f">{name}<" in text
    for complaint in analysis.warnings:
        assert complaint in text
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?!data:)', text)
    assert len(fact_rows(analysis)) > 8
    assert path.stat().st_size < 2e6


def test_the_page_fits_a_phone_and_a_desk(analysis, view, tmp_path, screen):
    space = spectral_metric(make_task())[1]
    assert screen(write_page(spectrum_page(analysis, view, "brain", space), tmp_path / "page.html")) == []


def test_a_value_outside_of_its_resamples_is_not_given_them_as_an_interval():
    assert interval_in_words(7.12, Interval(3.98, 6.12)) == "not settled: above all resamples"
    assert interval_in_words(5.0, Interval(3.98, 6.12)) == "3.98 … 6.12"


def test_the_page_shows_planes_of_the_spectral_update(analysis, view, tmp_path):
    space = spectral_metric(make_task())[1]
    retain, forget = spectral_figure(space).data
    place = 20, 50  # of mu, eta
    damage = space.plane([retain.x[place[0]]], [retain.y[place[1]]], RETAIN_WEIGHT)
    for heatmap, name in ((retain, "retain"), (forget, "forget")):
        change = getattr(damage, f"{name}_first") + getattr(damage, f"{name}_second")
        assert heatmap.customdata[place[::-1]] == pytest.approx(change[0, 0], rel=1e-4)
        assert heatmap.z.shape == (64, 64) and np.isfinite(heatmap.z).all()
    text = write_page(spectrum_page(analysis, view, "brain", space), tmp_path / "page.html").read_text()
    assert 'id="spectrum-spectral"' in text


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")  # old ones name pyparsing's old names
def test_the_picture_is_a_png(view, tmp_path):
    path = write_spectrum_png(view, tmp_path / "picture.png", "brain: Fisher spectrum")
    from matplotlib.image import imread

    height, width, _ = imread(path).shape
    assert width > 1500 and height > 900


def test_nothing_to_forget_is_refused_before_anything_is_drawn():
    with pytest.raises(ModelError, match="all gradients of the forget set are zero"):
        analyse(make_task(forget_weight=0.0))
