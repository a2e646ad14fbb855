"""A throwaway method with one to three knobs for a model of two gains: what is kept, and what is remembered."""

from collections.abc import Hashable

from pydantic import Field

from ssdtune.unlearning.method import Knob, Options, Stage

KNOBS = (
    Knob("memory", 0.01, 1.0, about="what is left of it"),
    Knob("gain", 0.8, 1.0, "linear"),
    Knob("steps", 1, 4, "linear", integer=True),
)


class DialsOptions(Options):
    count: int = Field(3, ge=1, le=3)


class Dials:
    name, summary, sampler = "dials", "turns dials", "random"
    Options = DialsOptions

    def needs(self, task, options):
        return None

    def knobs(self, options):
        return KNOBS[: options.count]

    def published(self, options):
        return []

    def prepare(self, task, options, *, analyse, track):
        return Turned(task)


class Turned:
    analysis = None
    preparation = 0.0

    def __init__(self, task):
        self.params = task.params

    def __call__(self, setting, seed):
        factors = {"memory": setting["memory"] ** setting.get("steps", 1), "gain": setting.get("gain", 1.0)}
        yield Stage({name: value * factors[name] for name, value in self.params.items()})

    def effect(self, setting) -> Hashable:
        return tuple(setting.items())

    def notes(self, setting):
        return {}

    def prior(self, request):
        return None

    def view(self):
        return None
