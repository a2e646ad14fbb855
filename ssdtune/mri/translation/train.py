"""Training a CycleGAN (Zhu et al., ICCV 2017): two generators G: X -> Y, F: Y -> X and a discriminator for each domain.

Generators minimise  (D_Y(G x) - 1)^2 + (D_X(F y) - 1)^2 + 10 (|F G x - x|_1 + |G F y - y|_1) + 5 (|G y - y|_1 +
|F x - x|_1)  (eqs. 1-3 with least squares, sec. 4; identity term, sec. 5.2), discriminators half of  (D(real) - 1)^2 +
D(fake)^2  with fakes from a buffer of the last 50. Adam with 2e-4 and beta1 = 0.5, one image of each domain a step,
constant and in the second half linear to 0, all as published. Images are mirrored at random.

What is drawn in a step depends on seed and step alone, so a training that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ssdtune.errors import ConfigError, ModelError
from ssdtune.mri.networks.checkpoint import read_weights_only, write_weights
from ssdtune.mri.networks.resume import START_OVER, check_numbers, load_adam, refusing_damage
from ssdtune.mri.translation.networks import Generator, discriminator
from ssdtune.nests import change
from ssdtune.progress import Track, silent

LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)
CYCLE, IDENTITY = 10.0, 5.0
BUFFER = 50
SAVE_EVERY_SECONDS = 60.0
LOSSES = ("generators", "cycle", "identity", "discriminators")
_PARTS = ("networks", "generators", "discriminators")


@dataclass
class State:
    """A training under way. losses : a row of ``LOSSES`` a step. fakes : of domain Y and X, up to ``BUFFER`` each."""

    width: int
    blocks: int
    losses: list[list[float]] = field(default_factory=list)
    fakes: tuple[list[Tensor], list[Tensor]] = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        pairs = {name: Generator(self.width, self.blocks) for name in ("G", "F")}
        self.networks = nn.ModuleDict({**pairs, **{name: discriminator(self.width) for name in ("D_Y", "D_X")}})
        self.generators = self._adam("G", "F")
        self.discriminators = self._adam("D_Y", "D_X")

    def _adam(self, *names: str) -> torch.optim.Adam:
        weights = [weight for name in names for weight in self.networks[name].parameters()]
        return torch.optim.Adam(weights, LEARNING_RATE, BETAS)


def train_translator(
    healthy: Tensor,
    lesion: Tensor,
    *,
    steps: int = 3000,
    width: int = 8,
    blocks: int = 3,
    seed: int = 0,
    resume: Path | None = None,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    track: Track = silent,
) -> State:
    """Train on domains X (``healthy``) and Y (``lesion``), (n, 1, h, w) each in [-1, 1]; they need not be pairs.

    resume : file that keeps the state of every minute and of an interruption, removed by nobody; the same call with the
        same ``settings`` (plain values that say what the domains are) takes it up.

    Raises
    ------
    ConfigError : the resume file is of other settings, and ``overwrite`` is not given.
    ModelError : the resume file is damaged or cannot be written, or a loss became non-finite.
    """
    own = {"steps": steps, "width": width, "blocks": blocks, "seed": seed, **(settings or {})}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = State(width, blocks)
    if resume is not None:
        _take_up(state, resume, own, healthy.shape[1:], overwrite)
        whole = _content(state, own)
        _keep(whole, resume)  # a folder that cannot be written is found before the long work
    saved = time.monotonic()
    try:
        for step in track(range(len(state.losses), steps), "training", steps - len(state.losses)):
            rng = np.random.default_rng([seed, step])
            for group in (*state.generators.param_groups, *state.discriminators.param_groups):
                group["lr"] = LEARNING_RATE * min(1.0, 2 * (steps - step) / steps)
            losses = _step(state, _drawn(healthy, rng), _drawn(lesion, rng), rng)
            if not np.isfinite(losses).all():
                raise ModelError(f"a loss became non-finite in step {step + 1}", resume or "", "try another --seed")
            state.losses.append(losses)
            if resume is not None:
                whole = _content(state, own)  # an interrupt comes within a step
                if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    _keep(whole, resume)
                    saved = time.monotonic()
    except KeyboardInterrupt:
        if resume is not None:
            _keep(whole, resume)
        raise
    state.networks.eval()
    return state


def _step(state: State, x: Tensor, y: Tensor, rng: np.random.Generator) -> list[float]:
    """One step of the generators, one of the discriminators; a row of ``LOSSES``."""
    g, f, d_y, d_x = (state.networks[name] for name in ("G", "F", "D_Y", "D_X"))
    judges = [*d_y.parameters(), *d_x.parameters()]
    for weight in judges:
        weight.requires_grad_(False)
    state.generators.zero_grad()
    # what comes of both domains goes through a generator at once: instance norm keeps images apart
    fake_y, same_y = g(torch.cat([x, y])).split(1)
    fake_x, same_x = f(torch.cat([y, x])).split(1)
    adversarial = (d_y(fake_y) - 1).square().mean() + (d_x(fake_x) - 1).square().mean()
    cycle = l1_loss(f(fake_y), x) + l1_loss(g(fake_x), y)
    identity = l1_loss(same_y, y) + l1_loss(same_x, x)
    (adversarial + CYCLE * cycle + IDENTITY * identity).backward()
    state.generators.step()

    for weight in judges:
        weight.requires_grad_(True)
    state.discriminators.zero_grad()
    judged = []
    for judge, real, fake, fakes in ((d_y, y, fake_y, state.fakes[0]), (d_x, x, fake_x, state.fakes[1])):
        scores = judge(torch.cat([real, _buffered(fakes, fake.detach(), rng)]))
        judged.append(0.5 * ((scores[0] - 1).square().mean() + scores[1].square().mean()))
    sum(judged, torch.zeros(())).backward()
    state.discriminators.step()
    return [value.item() for value in (adversarial, cycle, identity, sum(judged, torch.zeros(())))]


def _drawn(domain: Tensor, rng: np.random.Generator) -> Tensor:
    image = domain[int(rng.integers(len(domain)))][None]
    return image.flip(-1) if rng.random() < 0.5 else image


def _buffered(fakes: list[Tensor], new: Tensor, rng: np.random.Generator) -> Tensor:
    """The new fake, or every other time an old one in its place (Shrivastava et al., CVPR 2017, sec. 2.3)."""
    if len(fakes) < BUFFER:
        fakes.append(new)
        return new
    if rng.random() < 0.5:
        return new
    place = int(rng.integers(BUFFER))
    old, fakes[place] = fakes[place], new
    return old


def _content(state: State, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the state as plain values and tensors, which the next step does not change."""
    parts = {name: change(Tensor.clone, getattr(state, name).state_dict()) for name in _PARTS}
    return {"settings": dict(settings), "losses": [*state.losses], "fakes": [[*each] for each in state.fakes], **parts}


def _keep(content: dict[str, Any], path: Path) -> None:
    fakes = [torch.cat(each) if each else torch.empty(0) for each in content["fakes"]]
    write_weights(path, content | {"fakes": fakes})


def _take_up(state: State, path: Path, settings: Mapping[str, Any], shape: torch.Size, overwrite: bool) -> None:
    if not path.exists():
        return
    kept = read_weights_only(path, START_OVER)
    if not isinstance(kept, dict) or "settings" not in kept or "discriminators" not in kept:
        raise ModelError("not a resume file of a translator", path, START_OVER)
    with refusing_damage(path):
        if kept["settings"] != dict(settings):
            if overwrite or not kept["losses"]:
                return
            wrong = ", ".join(key for key in settings if kept["settings"].get(key) != settings[key])
            what = f"keeps a training of other settings ({wrong})"
            raise ConfigError(what, path, "use the same settings, or delete it or give --overwrite to start over")
        _put_back(state, kept, shape)


def _put_back(state: State, kept: Mapping[str, Any], shape: torch.Size) -> None:
    """Raises what ``refusing_damage`` knows if something does not fit. shape : of an image (1, h, w)."""
    state.networks.load_state_dict(kept["networks"])
    load_adam(state.generators, kept["generators"])
    load_adam(state.discriminators, kept["discriminators"])
    state.losses = kept["losses"]
    for row in state.losses:
        check_numbers(row)
    if {len(row) for row in state.losses} - {len(LOSSES)}:
        raise ValueError
    of_y, of_x = kept["fakes"]
    for fakes, own in zip((of_y, of_x), state.fakes, strict=True):
        if len(fakes) != min(len(state.losses), BUFFER) or (len(fakes) and fakes.shape[1:] != shape):
            raise ValueError
        own[:] = fakes.split(1) if len(fakes) else []
