"""Training the mapper's networks (``network``) with torch, on one thread, seeded by the network's number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu, smooth_l1_loss

from ssdtune.arrays import Array
from ssdtune.prior.network import ARRAYS, Networks

LATENT = 3


@dataclass(frozen=True)
class Recipe:
    """How the networks are trained. ``input_noise`` (sd) and ``input_dropout`` (share) act on global inputs, of which
    there is one set a task. ``latent_penalty`` is the weight of |z|^2 / 2. ``near_untouched``: errors of
    retained weigh 1 / (this + distance from 1). trees : beside the networks of SSD's mapper, of which a leaf holds at
    least ``leaf`` settings."""

    networks: int = 4
    hidden: int = 64
    epochs: int = 40
    batch: int = 1024
    rate: float = 4e-3
    latent_rate: float = 3e-2
    weight_decay: float = 1e-2
    input_noise: float = 0.3
    input_dropout: float = 0.2
    latent_penalty: float = 2e-3
    near_untouched: float = 0.3
    trees: int = 48
    leaf: int = 20


@dataclass(frozen=True, eq=False)
class Example:
    """One task: standardised local (n, L) and global_ (U,), gate (n,), y (n, 2) as (retained, remembered), unclipped,
    and its floor ratio."""

    local: Array
    global_: Array
    gate: Array
    y: Array
    floor_ratio: float


def train(examples: Sequence[Example], recipe: Recipe, seed: int) -> tuple[Networks, Array]:
    """Networks, and the latent vectors that they found for the examples, (B, tasks, D)."""
    found = [_train_one(examples, recipe, 1000 * seed + number) for number in range(recipe.networks)]
    stacked = {name: np.stack([weights[name] for weights, _ in found]) for name in ARRAYS}
    return Networks(**stacked), np.stack([latent for _, latent in found])


class _Network(nn.Module):
    def __init__(self, local: int, global_: int, tasks: int, hidden: int) -> None:
        super().__init__()
        self.local, self.global_ = nn.Linear(local, hidden), nn.Linear(global_, hidden, bias=False)
        self.latent = nn.Linear(LATENT, hidden, bias=False)
        self.hidden, self.out = nn.Linear(hidden, hidden), nn.Linear(hidden, 2)
        self.of_task = nn.Embedding(tasks, LATENT)
        nn.init.normal_(self.of_task.weight, std=0.3)

    def forward(self, local: Tensor, global_: Tensor, gate: Tensor, task: Tensor) -> Tensor:
        """(n, 2) retained and remembered; local (n, inputs), global_ (n, features), gate and task (n,)."""
        first = silu(self.local(local) + self.global_(global_) + self.latent(self.of_task(task)))
        found: Tensor = 1 - gate[:, None] * self.out(silu(self.hidden(first)))
        return found

    def weights(self) -> dict[str, Array]:
        """Matrices (in, out) and biases (out,) by the names that the mapper has for them."""
        layers = (self.local, self.global_, self.latent, self.hidden, self.out)
        names = ("local", "global_", "latent", "hidden", "out")
        matrices = {n: layer.weight.detach().numpy().T.astype(float) for n, layer in zip(names, layers, strict=True)}
        biases = (self.local.bias, self.hidden.bias, self.out.bias)
        return matrices | {f"bias{i}": bias.detach().numpy().astype(float) for i, bias in enumerate(biases, 1)}


def _train_one(examples: Sequence[Example], recipe: Recipe, seed: int) -> tuple[dict[str, Array], Array]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = examples[0].local.shape[1], examples[0].global_.size, len(examples)
        return _fit(_Network(*sizes, recipe.hidden), examples, recipe)


def _fit(net: _Network, examples: Sequence[Example], recipe: Recipe) -> tuple[dict[str, Array], Array]:
    local, gate, unclipped = (_joined([getattr(e, name) for e in examples]) for name in ("local", "gate", "y"))
    y = squash_tensor(unclipped)
    task = torch.repeat_interleave(torch.arange(len(examples)), torch.tensor([len(e.gate) for e in examples]))
    global_ = _joined([e.global_[None] for e in examples])
    span = torch.tensor([1 - e.floor_ratio for e in examples], dtype=torch.float32)
    weight = _weights(y, recipe)
    others = [parameter for name, parameter in net.named_parameters() if not name.startswith("of_task")]
    optimizer = torch.optim.AdamW(
        [
            {"params": others, "lr": recipe.rate, "weight_decay": recipe.weight_decay},
            {"params": net.of_task.parameters(), "lr": recipe.latent_rate, "weight_decay": 0.0},
        ]
    )
    steps = recipe.epochs * -(-len(y) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [recipe.rate, recipe.latent_rate], total_steps=steps, cycle_momentum=False
    )
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(y)).split(recipe.batch):
            known = global_[task[rows]]
            known = known + recipe.input_noise * torch.randn_like(known)
            known = known * (torch.rand_like(known) > recipe.input_dropout)
            found = net(local[rows], known, gate[rows], task[rows])
            remembered = 1 - (1 - found[:, 1]) / span[task[rows]]
            error = smooth_l1_loss(
                squash_tensor(torch.stack([found[:, 0], remembered], dim=1)), y[rows], beta=0.1, reduction="none"
            )
            loss = (weight[rows] * error).mean() + recipe.latent_penalty * net.of_task.weight.square().sum(1).mean() / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.weights(), net.of_task.weight.detach().numpy().astype(float)


def squash_tensor(y: Tensor) -> Tensor:
    """``belief.squash`` for tensors; y (...,), and as y."""
    inside = y.clamp(0, 1)
    return inside + torch.tanh(y - inside)


def _weights(y: Tensor, recipe: Recipe) -> Tensor:
    """Errors of retained count more near 1, where min_retained lies; mean 1 for each output."""
    near = 1 / (recipe.near_untouched + (1 - y[:, 0]).abs().clamp(max=1))
    return torch.stack([near / near.mean(), torch.ones_like(near)], dim=1)


def _joined(arrays: Sequence[Array]) -> Tensor:
    return torch.tensor(np.concatenate(arrays), dtype=torch.float32)
