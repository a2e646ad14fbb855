"""Auto: which method is next, what it may spend, and that a study of several methods is one like any other."""

import optuna
import pytest
from small_task import make_task

from ssdtune.errors import ConfigError
from ssdtune.report.html import study_page
from ssdtune.report.page import render
from ssdtune.report.view import read_view
from ssdtune.study.create import create_study
from ssdtune.study.record import read_record, read_trial, setting_of
from ssdtune.study.run import run_study
from ssdtune.study.tune import prepare, unlearned_params
from ssdtune.studyfile import ScoreSection, SearchSection
from ssdtune.unlearning.auto import Auto
from ssdtune.unlearning.method import UNTOUCHED, Tried
from ssdtune.unlearning.methods import choose_method, uses_analysis
from ssdtune.unlearning.several import method_of

METHODS = ["spectral", "ft", "ssd-repair", "ng"]
PRICE = {"spectral": 2.0, "ft": 3.0, "ssd-repair": 4.0, "ng": 6.0}
GOOD = {"spectral": 0.7, "ft": 0.5, "ssd-repair": 0.6, "ng": 0.9}


def options_of(**given):
    return choose_method({"name": "auto", "methods": METHODS, **given}).options


def simulate(options, trials, good=GOOD):
    """Settings that are chosen where every trial of a method is as good as its others."""
    tried = []
    while (choice := Auto().choose(options, tried, trials)) is not None and len(tried) < 500:
        setting = {knob.name: choice.given.get(knob.name, knob.low) for knob in choice.knobs}
        name = method_of(setting)
        tried.append(Tried(setting, PRICE[name], (0.0, good[name])))
    return tried


def test_the_better_half_goes_on_and_the_best_gets_the_most():
    options = options_of(cost=480.0)
    tried = simulate(options, 1000)
    spent = {name: sum(each.cost for each in tried if method_of(each.setting) == name) for name in METHODS}
    assert spent["ft"] == pytest.approx(40, abs=3) and spent["ssd-repair"] == pytest.approx(40, abs=4)
    assert spent["spectral"] == pytest.approx(120, abs=2)
    assert spent["ng"] == pytest.approx(280, abs=6)
    assert 480 <= sum(spent.values()) < 480 + max(PRICE.values())
    order = list(dict.fromkeys(method_of(each.setting) for each in tried))
    assert order == METHODS  # the cheap ones first


def test_without_a_cost_every_trial_counts_the_same():
    tried = simulate(options_of(), 24)
    counts = {name: sum(method_of(each.setting) == name for each in tried) for name in METHODS}
    assert counts == {"ft": 2, "ssd-repair": 2, "spectral": 6, "ng": 14}


def test_of_equals_the_cheap_ones_go_on_and_a_trial_that_is_feasible_is_ahead_of_one_that_is_not():
    equal = simulate(options_of(), 24, dict.fromkeys(METHODS, 0.5))
    counts = [sum(method_of(each.setting) == name for each in equal) for name in METHODS]
    assert counts == sorted(counts, reverse=True)
    feasible, infeasible = (0.0, 0.21), (-0.01, 0.99)
    assert feasible > infeasible


def test_published_settings_come_first_and_each_trial_has_the_knobs_of_one_method():
    seen = {}
    for each in simulate(options_of(), 24):
        name = method_of(each.setting)
        assert all(knob.startswith(f"{name}.") for knob in each.setting)
        seen.setdefault(name, []).append(each.setting)
    for name in METHODS:
        chosen = choose_method({"name": name})
        published = chosen.method.published(chosen.options)
        knobs = {knob.name: knob for knob in chosen.method.knobs(chosen.options)}
        for setting, known in zip(seen[name], published, strict=False):
            assert setting == {f"{name}.{knob}": knobs[knob].clip(known[knob]) for knob in knobs}


def test_what_cannot_be_chosen_from_is_one_line():
    for methods in (["ft"], ["ft", "ft"], ["ft", "auto"]):
        with pytest.raises(ConfigError, match="two or more other methods"):
            choose_method({"name": "auto", "methods": methods})
    with pytest.raises(ConfigError, match="'assd' has no knob"):
        choose_method({"name": "auto", "methods": ["ft", "assd"]})
    with pytest.raises(ConfigError, match="did you mean 'ft'"):
        choose_method({"name": "auto", "methods": ["ng", "fft"]})


@pytest.fixture
def new():
    """``new(task, trials)``: a study of two methods in memory."""

    def make(task, trials=5):
        section = {"name": "auto", "methods": ["ft", "ssd"]}
        search = SearchSection(sampler="tpe", trials=trials, seed=3)
        return create_study(task, name="one", method=section, search=search, score=ScoreSection(min_retained=0.5))

    return make


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_a_study_of_several_methods_runs_resumes_and_is_applied_and_shown(new):
    task = make_task(oracle=True)
    whole, parts = new(task), new(task)
    run_study(whole, task, prepare(read_record(whole), task))
    for trials in (2, 5):
        run_study(parts, task, prepare(read_record(parts), task), trials=trials)
    settings = [trial.params for trial in whole.trials]
    assert settings == [trial.params for trial in parts.trials]
    assert {method_of(setting) for setting in settings} == {"ft", "ssd"}
    record = read_record(whole)
    assert [setting_of(trial, record) for trial in whole.trials] == settings
    assert unlearned_params(whole, task).keys() == task.params.keys()
    firsts = {method_of(trial.params): read_trial(trial) for trial in reversed(whole.trials)}
    assert firsts["ssd"]["cost"] >= 3 * (len(task.retain) + len(task.forget))  # its first bears the analysis
    view = read_view(whole)
    best = method_of(view.best.setting)
    assert all(method_of(item.setting) == best for item in view.like_best.trials)
    page = render(study_page(view))
    assert f"{best}." in page and "nan" not in page.partition("<main>")[2].partition("<script")[0].lower()


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_a_setting_does_what_its_method_does(new):
    task = make_task(oracle=True)
    unlearner = prepare(read_record(new(task)), task)
    inner = {name: {"name": name} for name in ("ft", "ssd")}
    inner = {name: prepare(read_record(create_study(task, name=name, method=inner[name])), task) for name in inner}
    setting = {"lr": 0.5, "steps": 4}
    (ours,), (theirs,) = (list(made(s, 1)) for made, s in ((unlearner, _named("ft", setting)), (inner["ft"], setting)))
    assert all((ours.params[name] == theirs.params[name]).all() for name in theirs.params)
    assert unlearner.effect(_named("ssd", {"alpha": 1e30, "lambda": 1.0})) == UNTOUCHED
    assert unlearner.notes(_named("ft", setting)) == inner["ft"].notes(setting)


def test_what_takes_gradients_of_all_samples_first():
    uses = {"ssd": {}, "auto": {}, "spectral": {}, "salun": {"mask": "ratio"}}
    uses_not = {"ft": {}, "auto": {"methods": ["ft", "ng"]}, "salun": {}}
    for expected, sections in ((True, uses), (False, uses_not)):
        for name, options in sections.items():
            assert uses_analysis(choose_method({"name": name, **options})) == expected


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_an_analysis_that_methods_share_is_billed_once():
    task = make_task(oracle=True)
    section = {"name": "auto", "methods": ["ssd", "ssd-repair"]}
    auto = prepare(read_record(create_study(task, method=section)), task)
    dampening = {"alpha": 1.0, "lambda": 0.5}
    repaired = _named("ssd-repair", {**dampening, "lr": 0.1, "beta": 1.0})
    costs = [next(iter(auto(setting, 1))).cost for setting in (_named("ssd", dampening), repaired, repaired)]
    assert costs[0] == 3 * (len(task.retain) + len(task.forget))
    assert costs[1] == costs[2] == 12 * 3 * 4


def _named(name, setting):
    return {f"{name}.{knob}": value for knob, value in setting.items()}


def test_a_budget_of_cost_ends_the_search():
    task = make_task(oracle=True)
    section = {"name": "auto", "methods": ["ft", "full-ft"], "cost": 900.0}
    study = create_study(task, method=section, search=SearchSection(sampler="tpe", trials=100))
    run_study(study, task, prepare(read_record(study), task))
    costs = [read_trial(trial)["cost"] for trial in study.trials]
    assert sum(costs) >= 900 > sum(costs[:-1])
    assert all(trial.state != optuna.trial.TrialState.RUNNING for trial in study.trials)
