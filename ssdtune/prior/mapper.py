"""SpectrumMapper: from what the Fisher information says of a task to its response to SSD, with uncertainty.

An ensemble of small networks with latent draws (``network``) and of trees (``forest``) maps damage terms and features
to (retained, forget quality ratio) over the plane; how far it is off on tasks that it has not seen is measured
(``calibration``). Goals and floors enter after the ensemble, so they need no refitting:

    remembered = 1 - (1 - forget ratio) / (1 - floor ratio).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssdtune.arrays import Array
from ssdtune.errors import DataError
from ssdtune.files import atomic_path, content_hash
from ssdtune.fisher.features import FEATURE_VERSION
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.plane.settings import GRID_KAPPA, GRID_RHO, Box
from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.assess import Assessment
from ssdtune.prior.calibration import Calibration
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.prior.forest import ARRAYS as OF_FOREST
from ssdtune.prior.forest import Forest, side_by_side
from ssdtune.prior.inputs import INPUT_VERSION, gate, global_inputs, local_inputs, log_damage
from ssdtune.prior.method_mapper import MethodMapper
from ssdtune.prior.network import ARRAYS, Networks
from ssdtune.prior.standard import DRAWS, Familiarity, Standard, clip_far, latent_draws
from ssdtune.prior.view import TaskView
from ssdtune.surrogate.belief import squash

FORMAT = 3
BUNDLED = Path(__file__).with_name("data") / "mapper.npz"

# what a damaged file raises; zipfile's RuntimeError is of a flag that says it is encrypted, or newer than itself
_DAMAGE = (OSError, KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)

_LEAST_TRUST = 0.1
_WIDEST = 2.0


@dataclass(frozen=True, eq=False, repr=False)
class SpectrumMapper:
    """(damage and first-order terms at a setting, features) -> (retained, remembered), with calibrated uncertainty.

    latent_mean (B, D), latent_root (B, D, D) : the networks' latent vectors over tasks. guess (U,), with the mean first
    in place of the floor ratio itself : linear estimate of a floor ratio that is not known. experience : what it was
    fitted to, for people. methods : what it knows of other methods, by name.
    """

    networks: Networks
    forest: Forest
    local: Standard
    global_: Standard
    latent_mean: Array
    latent_root: Array
    calibration: Calibration
    familiarity: Familiarity
    guess: Array
    experience: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, MethodMapper] = field(default_factory=dict)

    @cached_property
    def version(self) -> str:
        """Hash of everything that predictions depend on."""
        arrays = self._arrays()
        return content_hash([arrays[name].astype("<f4").tobytes().hex() for name in sorted(arrays)])[:12]

    def __repr__(self) -> str:
        return f"SpectrumMapper(version={self.version!r}, tasks={self.experience.get('tasks', 'unknown')})"

    def respond(self, view: TaskView) -> ResponseSurface:
        """Predicted response over the plane of one task, seen as ``view``.

        An unknown floor is estimated from the features. A task unlike the experience gets a wider residual and less
        trust.
        """
        floor_ratio = self._floor_ratio(view)
        task = self.standard(global_inputs(self.global_.names, view.features, floor_ratio))
        strangeness = self.familiarity.strangeness(task)
        shape = (GRID_RHO.size, GRID_KAPPA.size)
        log_kappa = np.broadcast_to(np.log10(GRID_KAPPA), shape)
        local = local_inputs(self.local.names, view.terms, log_kappa, view.features).reshape(shape[0] * shape[1], -1)
        members = self.outputs(local, task, gate(view.terms).ravel()).reshape(-1, *shape, 2)
        retained, remembered = members[..., 0], 1 - (1 - members[..., 1]) / (1 - floor_ratio)
        outputs = squash(np.stack([retained, remembered]))
        residual_sd = self.calibration.sd_at(outputs.mean(axis=1)) * np.clip(strangeness, 1, _WIDEST)
        return _surface(
            view,
            outputs,
            residual_sd,
            self.calibration.length_scales,
            float(np.clip(np.exp(1 - strangeness), _LEAST_TRUST, 1)),
        )

    def predict(
        self,
        fisher: FisherAnalysis,
        *,
        retain_weight: float = 0.2,
        min_retained: float = 0.95,
        floor_ratio: float | None = None,
        bounds: Box | None = None,
    ) -> HyperparameterPrior:
        """The prior over (alpha, lambda) of an analysed task.

        fisher : its analysis. retain_weight, min_retained : the goal, in [0, 1]. floor_ratio : floor / q_forget of the
        untouched model; None estimates it. ``bounds`` : the box that is searched.

        Raises
        ------
        ConfigError : a weight outside [0, 1], or a floor ratio not below 1.
        """
        response = self.respond(TaskView.of(fisher, floor_ratio))
        return HyperparameterPrior(response, retain_weight, min_retained, bounds or Box())

    def standard(self, task: Array) -> Array:
        """Global inputs (..., U) standardised, and clipped so that a strange task is not extrapolated to."""
        return clip_far(self.global_(task))

    def outputs(self, local: Array, task: Array, gate: Array) -> Array:
        """(M, n, 2): unclipped (retained, forget ratio) of every member; ``local`` (n, L) as they come, ``task`` (U,)
        standardised, ``gate`` (n,)."""
        known = self.local(local)
        drawn = self.networks(known, task, latent_draws(self.latent_mean, self.latent_root), gate)
        grown = self.forest(side_by_side(known, task), gate)
        return np.concatenate([drawn.reshape(-1, len(local), 2), grown])

    @property
    def held_out(self) -> Assessment:
        """How a mapper of the same experience did on families it had not seen, measured when this one was fitted; no
        tasks if its calibration came from elsewhere."""
        return Assessment.from_json(self.experience.get("held_out") or {"tasks": []})

    def summary(self) -> dict[str, Any]:
        """Plain JSON values for people: version, experience, calibration."""
        scales = self.calibration.length_scales.astype(np.float32)  # as kept; their digits as text are the shortest
        return {
            "version": self.version,
            **{name: value for name, value in self.experience.items() if name != "held_out"},
            "inputs": [*self.local.names, *self.global_.names],
            "networks": len(self.networks),
            "members": len(self.networks) * DRAWS + len(self.forest),
            "held_out_log_likelihood": self.calibration.log_likelihood,
            "length_scales_decades": scales.astype(str).astype(float).tolist(),
            "methods": {name: method.tasks for name, method in self.methods.items()},
        }

    def _floor_ratio(self, view: TaskView) -> float:
        if view.floor_ratio is not None:
            return view.floor_ratio
        others = np.empty(0)
        if len(self.guess) > 1:
            task = self.standard(global_inputs(self.global_.names, view.features, 0.0))
            others = np.delete(task, self.global_.names.index("floor_ratio"))
        return float(np.clip(self.guess[0] + others @ self.guess[1:], 0.0, 0.95))

    def _arrays(self) -> dict[str, Array]:
        return {
            **{f"networks.{name}": getattr(self.networks, name) for name in ARRAYS},
            **{f"forest.{name}": getattr(self.forest, name) for name in OF_FOREST},
            **{
                f"{side}.{name}": getattr(getattr(self, side), name)
                for side in ("local", "global_")
                for name in ("mean", "sd")
            },
            "latent_mean": self.latent_mean,
            "latent_root": self.latent_root,
            "residual_sd": self.calibration.residual_sd,
            "length_scales": self.calibration.length_scales,
            "known": self.familiarity.known,
            "guess": self.guess,
            **{f"{name}/{key}": array for name, each in self.methods.items() for key, array in each.arrays().items()},
        }

    def save(self, path: Path | str) -> None:
        """Write one ``.npz`` without pickle to ``path``, whole or not at all."""
        header = {
            "format": FORMAT,
            "features": FEATURE_VERSION,
            "inputs": INPUT_VERSION,
            "local": self.local.names,
            "global_": self.global_.names,
            "usual": self.familiarity.usual,
            "trees_a_member": self.forest.group,
            "log_likelihood": self.calibration.log_likelihood,
            "experience": dict(self.experience),
            "methods": {name: method.header() for name, method in self.methods.items()},
        }
        arrays = {name: value.astype("<f4") for name, value in self._arrays().items()}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, facts=np.array(json.dumps(header)), **arrays)

    @classmethod
    def load(cls, path: Path | str | None = None) -> SpectrumMapper:
        """Read a mapper from ``path``; None: the bundled one.

        Raises
        ------
        DataError : the file is missing or broken, or was fitted to features of another version.
        """
        path = BUNDLED if path is None else Path(path)
        todo = "make one: ssdtune prior fit --out mapper.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(str(file["facts"]))
                versions = {"format": FORMAT, "features": FEATURE_VERSION, "inputs": INPUT_VERSION}
                for name, wanted in versions.items():
                    if header[name] != wanted:
                        raise DataError(f"a mapper of {name} version {header[name]}, not {wanted}", path, todo)
                arrays = {name: file[name].astype(float) for name in file.files if name != "facts"}
            return cls._from(header, arrays)
        except _DAMAGE as reason:
            raise DataError("cannot read the mapper", path, todo) from reason

    @classmethod
    def _from(cls, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> SpectrumMapper:
        sides = {
            side: Standard(list(header[side]), arrays[f"{side}.mean"], arrays[f"{side}.sd"])
            for side in ("local", "global_")
        }
        return cls(
            networks=Networks(**{item.name: arrays[f"networks.{item.name}"] for item in fields(Networks)}),
            forest=Forest(
                **{name: arrays[f"forest.{name}"] for name in OF_FOREST}, group=int(header["trees_a_member"])
            ),
            local=sides["local"],
            global_=sides["global_"],
            latent_mean=arrays["latent_mean"],
            latent_root=arrays["latent_root"],
            calibration=Calibration(arrays["residual_sd"], arrays["length_scales"], float(header["log_likelihood"])),
            familiarity=Familiarity(arrays["known"], float(header["usual"])),
            guess=arrays["guess"],
            experience=header["experience"],
            methods={
                name: MethodMapper.read(own, {key: arrays[f"{name}/{key}"] for key in MethodMapper.KEYS})
                for name, own in header.get("methods", {}).items()  # none in mappers made before there were any
            },
        )


def _surface(view: TaskView, outputs: Array, residual_sd: Array, length_scales: Array, trust: float) -> ResponseSurface:
    """A response surface from outputs (2, M, R, K) at the view's alpha, which may be level; beyond the first row
    nothing is selected, so a row of (1, 1) is put there, as far away as rows are on average."""
    log_alpha, log_rho, damage = np.log10(view.alpha), np.log10(GRID_RHO), log_damage(view.terms, view.features)
    falls = np.append(log_alpha[:-1] - log_alpha[1:] > 1e-5, True)  # of level rows the last stays
    log_alpha, log_rho, damage = log_alpha[falls], log_rho[falls], damage[falls]
    outputs, residual_sd = outputs[:, :, falls], residual_sd[:, falls]
    step = (log_alpha[0] - log_alpha[-1]) / max(len(log_alpha) - 1, 1) if len(log_alpha) > 1 else 0.1
    untouched = np.ones((*outputs.shape[:2], 1, outputs.shape[3]))
    outputs = np.concatenate([untouched, outputs], axis=2)
    return ResponseSurface(
        log_rho=np.append(log_rho[0] - 0.125, log_rho),
        log_kappa=np.log10(GRID_KAPPA),
        log_alpha=np.append(log_alpha[0] + max(step, 1e-3), log_alpha),
        retained=outputs[0],
        remembered=outputs[1],
        residual_sd=np.concatenate([residual_sd[:, :1] * 0, residual_sd], axis=1),
        length_scales=length_scales,
        trust=trust,
        log_damage=np.concatenate([damage[:1], damage]),
        course=view.course,
    )
