"""The plain way to run a study, written out: float32, eager, one slice at a time, every slice of every trial, each read
from its file again, measured by fastMRI's own functions, nothing remembered. What the others are measured against."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import optuna
import torch
from fastmri import evaluate as fastmri_evaluate
from trial_tasks import Case

from ssdtune.mri.quality import center_crop
from ssdtune.samplers.table import ReproducibleSampler
from ssdtune.study.facts import StudyFacts

SETS = ("retain", "forget")


@dataclass
class PlainTrial:
    """One trial: setting, score, q of every slice by set, and the seconds it took."""

    alpha: float
    lam: float
    score: float
    feasible: bool
    qualities: dict[str, np.ndarray]
    seconds: float


def plain_study(case: Case, facts: StudyFacts, sampler: ReproducibleSampler, trials: int) -> list[PlainTrial]:
    """A study of so many trials, in memory; the sampler sees score and constraint."""
    done: list[PlainTrial] = []
    search = facts.search

    def objective(trial: optuna.Trial) -> float:
        started = time.perf_counter()
        alpha = trial.suggest_float("alpha", *search.alpha, log=True)
        lam = trial.suggest_float("lambda", *search.lam, log=True)
        qualities = plain_qualities(case, plain_dampened(case, alpha, lam))
        score = facts.rule(qualities["retain"].mean(), qualities["forget"].mean())
        trial.set_user_attr("seed_number", sampler.seed_numbers[trial.number])
        trial.set_user_attr("retained", score.retained)
        trial.set_user_attr("remembered", score.remembered)
        trial.set_constraint("min_retained", score.violation)
        done.append(PlainTrial(alpha, lam, score.value, score.feasible, qualities, time.perf_counter() - started))
        return score.value

    study = optuna.create_study(direction="maximize", sampler=sampler, study_name=case.task.name)
    study.optimize(objective, n_trials=trials)
    return done


def plain_dampened(case: Case, alpha: float, lam: float) -> torch.nn.Module:
    """A copy of the model, dampened tensor by tensor as the published code does (Foster et al., AAAI 2024)."""
    model, analysis = copy.deepcopy(case.task.model), case.analysis
    forget, retain = (
        analysis.unflatten(torch.from_numpy(vector).to(case.task.device))
        for vector in (analysis.forget_diagonal, analysis.denominator_diagonal)
    )
    with torch.no_grad():
        for name, param in model.named_parameters():
            locations = torch.where(forget[name] > retain[name].mul(alpha))
            weight = retain[name].mul(lam).div(forget[name])
            update = weight[locations]
            update[update > 1] = 1.0
            param[locations] = param[locations].mul(update)
    return model


@torch.no_grad()
def plain_qualities(case: Case, model: torch.nn.Module, most: int | None = None) -> dict[str, np.ndarray]:
    """SSIM of every slice by set; PSNR and NMSE are computed too, as a study records them."""
    return {
        name: np.array([plain_slice(case, model, samples[index]) for index in range(min(len(samples), most or 10**9))])
        for name, samples in case.task.scored_sets.items()
    }


def plain_slice(case: Case, model: torch.nn.Module, sample: tuple) -> float:
    """SSIM of one slice."""
    inputs, target = sample
    output = model(*(value[None].to(case.task.device) for value in inputs))
    image, top = target["image"].numpy()[None], float(target["max"])
    found = center_crop(output, target["image"]).cpu().numpy()
    fastmri_evaluate.psnr(image, found, top)
    fastmri_evaluate.nmse(image, found)
    return float(fastmri_evaluate.ssim(image, found, top)[0])


def untouched_qualities(case: Case) -> dict[str, np.ndarray]:
    return plain_qualities(case, case.task.model)
