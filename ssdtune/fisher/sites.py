"""Parts of an analysis as files, from sites that keep their data: what one writes, and the whole made of all.

What leaves a site, and nothing else: the model's parameters, content hashes of model and data, the name of the loss,
what a unit is, numbers of samples, phi and known share, the mask in words, how gradients were computed; of either set
the sums of its gradients and of their squares, and of each unit its loss, the norm of its gradient, its bottleneck
activations (means over space) and, of those that are kept, the gradient itself. No image, k-space or name. A gradient
of one sample can give its image away (Geiping et al., "Inverting gradients", NeurIPS 2020), so a part is as secret as
the data, for sites that trust whoever merges; gradients of mini-batches (``definition = "batch"``) give less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.files import content_hash
from ssdtune.fisher.analysis import Grouping, Subject, conclude, subject_of
from ssdtune.fisher.crew import SETS, AtHand, Notes, Work
from ssdtune.fisher.gather import SetMoments
from ssdtune.fisher.parts import PartSums, SetSums, cut, gather_part, merged
from ssdtune.fisher.result import Denominator, FisherAnalysis
from ssdtune.fisher.store import Tree, layout_of, layout_tree, read_tree, write_tree
from ssdtune.fisher.units import Definition
from ssdtune.progress import Track, silent

PART = "ssdtune part of a Fisher analysis"
_DATA = "data.fisher."
_PLAIN = ("identity", "definition", "batch_size", "phi", "known_share")
_VIEW = 2.0**28  # bytes of rows read at a time


def write_part(
    path: Path | str,
    work: Work,
    definition: Definition,
    number: int = 1,
    of: int = 1,
    how: Mapping[str, object] | None = None,
) -> None:
    """Part ``number`` (from 1) of ``of``, or all that a site has.

    how : plain values by name that have to be the same in all parts, such as the mask.

    Raises
    ------
    ConfigError : more parts than units, so that some would be empty.
    DataError : a gradient is not finite, or the file cannot be written.
    """
    most = max(map(len, work.units.values()))
    if of > most:
        what = f"{of} parts of what has {most} {'samples' if work.size == 1 else 'batches'} in its larger set"
        raise ConfigError(what, path, f"cut it into {most} at most")
    sums, rows = gather_part(work, number - 1, of)
    subject = subject_of(work, definition)
    tree: Tree = {name: getattr(subject, name) for name in _PLAIN} | {
        "part": [number, of],
        "how": dict(how or {}),
        "samples": {},
        "layout": layout_tree(work.layout),
        "theta": subject.theta,
        "notes": {item.name: getattr(sums.notes, item.name) for item in fields(Notes)},
    }
    for name in SETS:
        place = cut(len(work.units[name]), number - 1, of)
        kept, samples = work.kept[name], range(len(work.samples[name]))
        tree["samples"][name] = len(samples[place.start * work.size : place.stop * work.size])
        tree[name] = {item.name: getattr(sums.sets[name], item.name) for item in fields(SetSums)} | {
            "kept": kept[(kept >= place.start) & (kept < place.stop)] - place.start,
            "rows": rows[name].array(),
        }
    write_tree(path, tree, PART)


def merge_parts(
    paths: Sequence[Path | str],
    denominator: Denominator = "retain",
    groups: Grouping | None = None,
    track: Track = silent,
    study: Callable[[bool], Mapping[str, object]] | None = None,
) -> FisherAnalysis:
    """The analysis of all parts together: of one study, all that it was cut into, or of sites, one after the other.

    phi and known share of sites are means, by their numbers of samples and of forget samples.

    study : gives what all parts have to agree with, given whether they are of one study that was cut: entries of
        ``fisher_identity``, ``definition``, ``batch_size`` and those of ``write_part``'s ``how``.

    Raises
    ------
    DataError : a file is no part, parts are missing, twice, or made otherwise than each other or than the study asks.
    ModelError : they are of different models, or of another one than the study.
    """
    with ExitStack() as files:
        read = [_read(path, files) for path in paths]
        order = _order(paths, [tree for tree, _ in read], study)
        parts = [read[place] for place in order]
        return conclude(_subject([tree for tree, _ in parts]), _Files(parts), denominator, groups, track)


def _read(path: Path | str, files: ExitStack) -> tuple[Tree, h5py.File]:
    """A part without its rows, and its open file. Raises DataError: it is none, or does not hold together."""
    tree = read_tree(path, PART, leave=("rows",))
    file = files.enter_context(h5py.File(path, "r"))
    try:
        parameters = layout_of(tree["layout"]).parameters
        sound = tree["theta"].shape == (parameters,) and {*_PLAIN, "part", "samples", "notes", "how"} <= tree.keys()
        for name in SETS:
            own, rows = tree[name], file[name]["rows"]
            units, kept = len(own["losses"]), own["kept"]
            sound &= own["first"].shape == own["second"].shape == (parameters,)
            sound &= bool(np.isfinite(own["first"].sum() + own["second"].sum()) and (own["second"] >= 0).all())
            sound &= own["squared_norms"].shape == own["losses"].shape == (units,)
            sound &= rows.shape == (len(kept), parameters) and rows.dtype == np.float32
            sound &= bool(((kept >= 0) & (kept < units)).all()) and int(tree["samples"][name]) >= 0
            sound &= own["embeddings"] is None or own["embeddings"].shape[:1] == (units,)
    except (KeyError, TypeError, ValueError, AttributeError) as reason:
        raise DataError(f"damaged ({reason})", path, "make it again") from reason
    if not sound:
        raise DataError("its figures do not go together", path, "make it again")
    return tree, file


def _subject(trees: Sequence[Tree]) -> Subject:
    """What the parts are of, together."""
    first = trees[0]
    identity, phi, known = first["identity"], first["phi"], first["known_share"]
    if first["part"][1] == 1:
        sizes = {name: np.array([tree["samples"][name] for tree in trees], float) for name in SETS}
        identity = {what: _common([tree["identity"][what] for tree in trees]) for what in identity}
        phi, known = (
            float(np.average([tree[what] for tree in trees], weights=by))
            for what, by in (("phi", sizes["forget"] + sizes["retain"]), ("known_share", sizes["forget"]))
        )
    ids = {
        name: [f"{part}:{number}" for part, tree in enumerate(trees, 1) for number in range(tree["samples"][name])]
        for name in SETS
    }
    how = first["definition"], first["batch_size"]
    return Subject(identity, ids, *how, phi, known, layout_of(first["layout"]), first["theta"])


class FileRows:
    """Rows of several open files, one after the other; read as they are asked for."""

    kind = "file"

    def __init__(self, stored: Sequence[h5py.Dataset], parameters: int) -> None:
        self._stored = [each for each in stored if len(each)]
        self.parameters = parameters
        self.width = int(max(1024, _VIEW // (4 * max(len(self), 1))))

    def __len__(self) -> int:
        return sum(map(len, self._stored))

    def columns(self, place: slice) -> Tensor:
        return torch.from_numpy(np.concatenate([each[:, place] for each in self._stored]))

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        at_once, start = int(max(1, _VIEW // (4 * self.parameters))), 0
        for stored in self._stored:
            for row in range(0, len(stored), at_once):
                found = torch.from_numpy(stored[row : row + at_once])
                yield slice(start, start := start + len(found)), found


class _Files(AtHand):
    """A crew that has done its first half."""

    def __init__(self, parts: Sequence[tuple[Tree, h5py.File]]) -> None:
        super().__init__()
        self._trees = [tree for tree, _ in parts]
        self._parameters = len(self._trees[0]["theta"])
        for name in SETS:
            self._rows[name] = FileRows([file[name]["rows"] for _, file in parts], self._parameters)

    def gather(self, track: Track) -> Mapping[str, SetMoments]:
        kept: dict[str, NDArray[np.int64]] = {}
        for name in SETS:
            own = [tree[name] for tree in self._trees]
            starts = np.cumsum([0, *(len(each["losses"]) for each in own[:-1])])
            kept[name] = np.concatenate([start + each["kept"] for start, each in zip(starts, own, strict=True)])
        found, self.notes = merged(self._sums(track), self._parameters, kept, "the parts")
        return found

    def _sums(self, track: Track) -> Iterator[PartSums]:
        for tree in track(self._trees, "parts", len(self._trees)):
            sets = {name: SetSums(**{item.name: tree[name][item.name] for item in fields(SetSums)}) for name in SETS}
            yield PartSums(sets, Notes(**tree["notes"]))


def _order(
    paths: Sequence[Path | str], trees: Sequence[Tree], study: Callable[[bool], Mapping[str, object]] | None
) -> list[int]:
    """Parts in their order, sites in that given. Raises what ``merge_parts`` says of parts that do not go together."""
    of = trees[0]["part"][1]
    for path, tree in zip(paths, trees, strict=True):
        if tree["part"][1] != of:
            what = f"part {tree['part'][0]}/{tree['part'][1]} beside one of {of}"
            raise DataError(what, path, "give all parts of one study, or whole sites")
    wanted = {str(paths[0]): _facts(trees[0])} | ({} if study is None else {"the study": study(of > 1)})
    for path, tree in zip(paths, trees, strict=True):
        for whose, facts in wanted.items():
            _check_alike(path, _facts(tree), facts, whose)
    if of == 1:
        data = [str(tree["identity"]) for tree in trees]
        twice = next((path for path, each in zip(paths, data, strict=True) if data.count(each) > 1), None)
        if twice is not None:
            raise DataError("the same data twice", twice, "give each site once")
        return list(range(len(trees)))
    numbers = [tree["part"][0] for tree in trees]
    if sorted(numbers) != list(range(1, of + 1)):
        what = f"parts {', '.join(f'{number}/{of}' for number in numbers)}"
        raise DataError(what, paths[0], f"give each of the {of} parts of one study once")
    return sorted(range(of), key=numbers.__getitem__)


def _facts(tree: Tree) -> Tree:
    """What is the same in all parts that go together, by its name; the data where one study was cut."""
    identity, data = tree["identity"], {}
    if tree["part"][1] > 1:
        data = {what: own for what, own in identity.items() if what.startswith(_DATA)}
    made = {"model": identity["model"], "loss": identity["loss"]}
    return {**made, "definition": tree["definition"], "batch_size": tree["batch_size"], **tree["how"], **data}


def _check_alike(path: Path | str, found: Tree, wanted: Mapping[str, object], whose: str) -> None:
    """Raises ModelError, DataError: a part's facts are not those wanted, which are of ``whose``."""
    for what in {**found, **wanted}:
        if what not in wanted or found.get(what) == wanted[what]:
            continue
        if what == "model":
            raise ModelError(f"of another model than {whose}", path, "give parts of one model, that of the study")
        if what.startswith(_DATA):
            raise DataError(f"of another {what.removeprefix(_DATA)} set than {whose}", path, "give parts of one study")
        said = f"{what} is {found.get(what)}, {wanted[what]} in {whose}"
        raise DataError(said, path, "make all parts as the study says")


def _common(values: Sequence[str]) -> str:
    """The content hash of all sites' together; of what they share, that."""
    return values[0] if len(set(values)) == 1 else content_hash(["sites", *values])
