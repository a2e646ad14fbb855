"""The plain way to run a study, written out: float32, eager, one slice at a time, every slice of every trial, each read
from its file again, measured by fastMRI's own functions, nothing remembered. What the others are measured against."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
import optuna
import torch
from fastmri import evaluate as fastmri_evaluate
from optuna.distributions import BaseDistribution, FloatDistribution

from benchmarks.trial_cost.tasks import Case
from ssdtune.mri.quality import center_crop
from ssdtune.samplers.outputs import REMEMBERED, RETAINED
from ssdtune.samplers.table import SamplerFactory
from ssdtune.study.record import CONSTRAINT, StudyRecord
from ssdtune.unlearning.method import Setting
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

SETS = ("retain", "forget")
Qualities = dict[str, np.ndarray]


@dataclass
class PlainTrial:
    """One trial: setting, score, q of every slice by set, and the seconds it took."""

    setting: Setting
    score: float
    feasible: bool
    qualities: Qualities
    seconds: float


def plain_study(case: Case, record: StudyRecord, sampler: SamplerFactory, trials: int) -> list[PlainTrial]:
    """A study of so many trials, in memory; the sampler sees score and constraint."""
    return list(islice(plain_trials(case, record, sampler), trials))


def plain_trials(
    case: Case, record: StudyRecord, sampler: SamplerFactory, measure: Callable[[Setting], Qualities] | None = None
) -> Iterator[PlainTrial]:
    """The trials of a study without end. ``measure`` : q of every slice by set, in place of the plain evaluation."""
    study = optuna.create_study(direction="maximize", study_name=case.task.name)
    for number in count():
        started = time.perf_counter()
        study.sampler = sampler.make(number)
        knobs: dict[str, BaseDistribution] = {
            knob.name: FloatDistribution(knob.low, knob.high, log=knob.scale == "log") for knob in record.knobs
        }
        trial = study.ask(knobs)
        qualities = (measure or partial(plain_measure, case))(trial.params)
        score = record.rule(qualities["retain"].mean(), qualities["forget"].mean())
        trial.set_user_attr(RETAINED, score.retained)
        trial.set_user_attr(REMEMBERED, score.remembered)
        trial.set_constraint(CONSTRAINT, score.violation)
        study.tell(trial, score.value)
        seconds = time.perf_counter() - started
        yield PlainTrial(trial.params, score.value, score.feasible, qualities, seconds)


def plain_measure(case: Case, setting: Setting) -> Qualities:
    """q of every slice by set under one setting."""
    return plain_qualities(case, plain_dampened(case, setting))


def plain_dampened(case: Case, setting: Setting) -> torch.nn.Module:
    """A copy of the model, dampened tensor by tensor as the published code does (Foster et al., AAAI 2024)."""
    model, analysis = copy.deepcopy(case.task.model), case.analysis
    forget, retain = (
        analysis.unflatten(torch.from_numpy(vector).to(case.task.device))
        for vector in (analysis.forget.diagonal, analysis.denominator_diagonal)
    )
    with torch.no_grad():
        for name, param in model.named_parameters():
            locations = torch.where(forget[name] > retain[name].mul(setting[ALPHA]))
            weight = retain[name].mul(setting[LAMBDA]).div(forget[name])
            update = weight[locations]
            update[update > 1] = 1.0
            param[locations] = param[locations].mul(update)
    return model


@torch.no_grad()
def plain_qualities(case: Case, model: torch.nn.Module, most: int | None = None) -> Qualities:
    """SSIM of every slice by set; PSNR and NMSE are computed too, as a study records them."""
    return {
        name: np.array([plain_slice(case, model, samples[index]) for index in range(min(len(samples), most or 10**9))])
        for name, samples in case.task.scored_sets.items()
    }


def plain_slice(case: Case, model: torch.nn.Module, sample: tuple[Any, ...]) -> float:
    """SSIM of one slice."""
    inputs, target = sample
    output = model(*(value[None].to(case.task.device) for value in inputs))
    image, top = target["image"].numpy()[None], float(target["max"])
    found = center_crop(output, target["image"]).cpu().numpy()
    fastmri_evaluate.psnr(image, found, top)
    fastmri_evaluate.nmse(image, found)
    return float(fastmri_evaluate.ssim(image, found, top)[0])


def untouched_qualities(case: Case) -> Qualities:
    return plain_qualities(case, case.task.model)
