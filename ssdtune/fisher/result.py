"""FisherAnalysis: everything the Fisher information says of one task, computed once, kept in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ssdtune.arrays import Array
from ssdtune.dampening import dampen_flat
from ssdtune.errors import DataError, ModelError
from ssdtune.fisher.bootstrap import Interval
from ssdtune.fisher.damage import LOW_RANK, DamageSurfaces, DamageTerms
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.spectrum import Spectrum, spectrum_of_gram
from ssdtune.fisher.store import Tree, layout_of, layout_tree, read_tree, write_tree
from ssdtune.fisher.sums import DiagonalSums
from ssdtune.fisher.tables import RowTables
from ssdtune.fisher.units import Definition

Denominator = Literal["retain", "full"]


@dataclass(frozen=True, eq=False)
class SetAnalysis:
    """One sample set, over P parameters; a unit is a sample, or a mini-batch for definition ``"batch"``.

    ids : sample names, in order. kept : (n,) numbers of the units whose gradients are in Gram matrix and tables.
    diagonal, mean : (P,) float32, Fisher diagonal and mean gradient over all units.
    trace : Σ diagonal, accumulated in float64. losses, squared_norms : (units,) float64, of each unit's gradient.
    embeddings : (units, d) float32, or None. gram : (n, n) float64, g_i · g_j. spectrum : of the kept units.
    groups : eigenvalues (n,) of the Fisher information of each group of parameters, as asked for. table : for damage.
    """

    ids: Sequence[str]
    kept: NDArray[np.int64]
    diagonal: NDArray[np.float32]
    mean: NDArray[np.float32]
    trace: float
    losses: Array
    squared_norms: Array
    embeddings: NDArray[np.float32] | None
    gram: Array
    spectrum: Spectrum
    groups: Mapping[str, Array]
    table: RowTables

    def tree(self) -> Tree:
        """As ``write_tree`` takes it."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {
            "spectrum": _tree(self.spectrum),
            "groups": {"names": list(self.groups), "values": {str(i): v for i, v in enumerate(self.groups.values())}},
            "table": _tree(self.table),
        }

    @classmethod
    def of_tree(cls, tree: Tree) -> SetAnalysis:
        groups = tree["groups"]
        if "tables" in tree:  # format version 1: a table for each exponent, and other kinds of spectra
            table = next(table for table in tree.pop("tables").values() if table.pop("exponent") == 1.0)
            del tree["vectors"]
            tree |= {"table": table, "spectrum": _tree(spectrum_of_gram(tree["gram"]))}
        named = {name: groups["values"][str(i)] for i, name in enumerate(groups["names"])}
        parts = {"spectrum": Spectrum(**tree["spectrum"]), "table": RowTables(**tree["table"])}
        return cls(**tree | parts | {"groups": named})


@dataclass(frozen=True, eq=False, repr=False)
class FisherAnalysis:
    """The Fisher information of a task's forget and retain set, and what follows from it. Made by ``analyse``.

    Parameters
    ----------
    identity : content hashes of model, loss and both sample sets.
    definition, batch_size, denominator : what the diagonals are, see ``analyse``.
    phi, known_share : of the task. layout, theta : names and shapes of the parameters, and their values (P,).
    forget, retain : the two sets. cross : (n_forget, n_retain) float64, inner products of their kept gradients.
    values, intervals : features and their 95 % intervals (those that have one).
    warnings : what a user should know before trusting it.
    record : versions, how gradients were computed and kept, seconds.
    device : where ``dampen`` puts its tensors.
    """

    identity: Mapping[str, str]
    definition: Definition
    batch_size: int
    denominator: Denominator
    phi: float
    known_share: float
    layout: Layout
    theta: NDArray[np.floating]
    forget: SetAnalysis
    retain: SetAnalysis
    cross: Array
    denominator_diagonal: NDArray[np.float32]
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    warnings: Sequence[str] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def __repr__(self) -> str:
        sets = f"forget={len(self.forget.ids)}, retain={len(self.retain.ids)}"
        return f"FisherAnalysis({sets}, parameters={self.layout.parameters}, definition={self.definition!r})"

    @cached_property
    def ratios(self) -> SortedRatios:
        """r = f / o, sorted."""
        return SortedRatios.of(self.forget.diagonal, self.denominator_diagonal)

    def features(self) -> dict[str, float]:
        """Every feature by name, in order (``ssdtune.fisher.features.FEATURES``); all finite."""
        return dict(self.values)

    def unflatten(self, vector: Any) -> dict[str, Any]:
        """Views of ``vector``, a (P,) array or tensor, by parameter name, each in its parameter's shape."""
        return self.layout.unflatten(vector)

    def dampen(self, alpha: float, lam: float, exponent: float = 1.0) -> dict[str, Tensor]:
        """The dampened parameters by name, in the model's shapes and dtypes, on ``device``.

        ``alpha``, ``lam``, ``exponent`` : as of ``ssdtune.dampen`` (SSD; Foster et al., AAAI 2024).
        """
        dampened = self.unflatten(dampen_flat(*self._tensors, alpha, lam, exponent))
        dtypes = zip(dampened.items(), self.layout.dtypes, strict=True)
        return {name: value.to(getattr(torch, dtype)) for (name, value), dtype in dtypes}

    def selected_fraction(self, alpha: ArrayLike) -> Any:
        """Share of parameters with r > alpha, in alpha's shape (a number of a number)."""
        return self.ratios.selected_fraction(alpha)[()]

    def alpha_at(self, rho: ArrayLike) -> Any:
        """The alpha that selects the share ``rho`` of the parameters (the nearest there is), in rho's shape."""
        return self.ratios.alpha_at(rho)[()]

    def damage(self, alpha: ArrayLike, lam: ArrayLike) -> DamageTerms:
        """Predicted damage at every point of the broadcast of ``alpha`` and ``lam`` (exponent 1), without a forward
        pass. Raises ConfigError unless both are above 0.
        """
        return self._surfaces(alpha, lam)

    def save(self, path: Path | str) -> None:
        """Write everything to one HDF5 file at ``path``, whole or not at all. Raises DataError if it cannot."""
        tree = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "device"}
        shared = self.denominator_diagonal is self.retain.diagonal
        tree |= {
            "layout": layout_tree(self.layout),
            "forget": self.forget.tree(),
            "retain": self.retain.tree(),
            "denominator_diagonal": None if shared else self.denominator_diagonal,
            "values": list(self.values.items()),
        }
        write_tree(path, tree)

    @classmethod
    def load(
        cls,
        path: Path | str,
        expect: Mapping[str, str] | None = None,
        *,
        device: str = "cpu",
    ) -> FisherAnalysis:
        """Read what ``save`` wrote to ``path``, and refuse it if it is not what is expected.

        expect : content hashes that must agree, such as ``task.identity`` (those the file does not record are passed
        over).

        Raises
        ------
        ModelError : it is of another model.
        DataError : it is of other data or another loss, or cannot be read.
        """
        tree = read_tree(path)
        try:
            tree["layout"] = layout_of(tree["layout"])
            tree["forget"], tree["retain"] = (SetAnalysis.of_tree(tree[name]) for name in ("forget", "retain"))
            if tree["denominator_diagonal"] is None:
                tree["denominator_diagonal"] = tree["retain"].diagonal
            tree["values"] = dict(tree["values"])
            tree["intervals"] = {name: Interval(*ends) for name, ends in tree["intervals"].items()}
            found = cls(**tree, device=device)
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as reason:
            raise DataError(f"damaged ({reason})", path, "delete it and analyse again") from reason
        found._refuse_other(path, expect or {})
        return found

    def _refuse_other(self, path: Path | str, expect: Mapping[str, str]) -> None:
        for name, here in self.identity.items():
            if name not in expect or expect[name] == here:
                continue
            error = ModelError if name == "model" else DataError
            what = f"made for another {name.removeprefix('data.fisher.')} ({here}, not {expect[name]})"
            raise error(what, path, "analyse again")

    @cached_property
    def _surfaces(self) -> DamageSurfaces:
        sums = DiagonalSums(
            self.ratios,
            self.theta,
            forget=self.forget.diagonal,
            retain=self.retain.diagonal,
            forget_mean=self.forget.mean,
            retain_mean=self.retain.mean,
        )
        sets = (self.forget, self.retain)
        leading = [part.table.project(part.spectrum.vectors[:, :LOW_RANK]) for part in sets]
        return DamageSurfaces(sums, self.forget.table, self.retain.table, *leading)

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        flat = (self.theta, self.forget.diagonal, self.denominator_diagonal)
        theta, f, o = (torch.from_numpy(vector).to(self.device) for vector in flat)
        return theta, f, o


def _tree(value: Any) -> Tree:
    return {f.name: getattr(value, f.name) for f in fields(value)}
