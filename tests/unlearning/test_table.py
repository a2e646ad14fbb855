"""The table of methods and their sections of a study file: what is wrong is one line."""

import pytest

from ssdtune.errors import ConfigError
from ssdtune.unlearning.method import Chooser
from ssdtune.unlearning.methods import METHODS, choose_method, find_method, method_names

FAULTS = {
    "no such method": ({"name": "sdd"}, r"no method 'sdd', study.toml, did you mean 'ssd'\?"),
    "no likeness": ({"name": "xyzzy"}, "or choose one of ssd"),
    "unknown key by its alias": ({"name": "ssd", "lambd": [1, 2]}, "unknown key 'method.lambd'.*did you mean 'lambda'"),
    "falling range": ({"name": "ssd", "alpha": [10, 1]}, r"'method.alpha' = \[10, 1\] is not valid.*must rise"),
    "range of one": ({"name": "ssd", "alpha": [10]}, "'method.alpha' is incomplete"),
    "range from zero": ({"name": "ssd", "lambda": [0, 1]}, "'method.lambda' = 0"),
    "text for a number": ({"name": "ssd", "exponent": "2"}, "'method.exponent' = '2' is not valid"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_one_line(case):
    section, words = FAULTS[case]
    with pytest.raises(ConfigError, match=words) as caught:
        choose_method(section, "study.toml")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_seam(name):
    method = find_method(name)
    chosen = choose_method({"name": name})
    knobs = {knob.name: knob for knob in method.knobs(chosen.options)}
    assert method.name == name and method.summary and method.sampler
    assert len(knobs) <= 4 or isinstance(method, Chooser)
    assert choose_method(chosen.section()).section() == chosen.section()
    for setting in method.published(chosen.options):
        assert all(knobs[knob].low <= value <= knobs[knob].high for knob, value in setting.items())
    assert name in method_names()
