"""Nests of tensors (mappings, tuples, lists of them) taken as one: changed, cut, counted and stacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor


def change(how: Callable[[Tensor], Tensor], nest: Any) -> Any:
    """The nest with every tensor changed; named tuples keep their kind."""
    if isinstance(nest, Tensor):
        return how(nest)
    if isinstance(nest, Mapping):
        return {key: change(how, value) for key, value in nest.items()}
    if isinstance(nest, tuple | list):
        values = [change(how, value) for value in nest]
        return type(nest)(*values) if hasattr(nest, "_fields") else type(nest)(values)
    return nest


def leaves(nest: Any) -> list[Tensor]:
    """Its tensors, in order."""
    found: list[Tensor] = []

    def take(value: Tensor) -> Tensor:
        found.append(value)
        return value

    change(take, nest)
    return found


def cut(nest: Any, places: slice) -> Any:
    """The same slice of every tensor in it."""
    return change(lambda value: value[places], nest)


def size_of(nest: Any) -> float:
    """Bytes of its tensors."""
    return float(sum(value.nbytes for value in leaves(nest)))


def values_of(nest: Any) -> int:
    """Numbers in its tensors, at least 1."""
    return max(sum(value.numel() for value in leaves(nest)), 1)


def pinned(nest: Any) -> Any:
    """The nest in page-locked host memory, from which a GPU copies while it works."""
    return change(lambda value: value.cpu().pin_memory(), nest)


def move(nest: Any, device: torch.device | str) -> Any:
    """The nest on another device."""
    return change(lambda value: value.to(device, non_blocking=True), nest)


def as_tuples(nest: Any) -> Any:
    """What ``default_collate`` makes lists of, as tuples again."""
    if isinstance(nest, list):
        return tuple(as_tuples(value) for value in nest)
    return nest


def stack(parts: list[Any], rows: list[Tensor]) -> Any:
    """Nests of one form as one; ``rows[i]`` (n,) say where the n slices of ``parts[i]`` go.

    ``parts`` is emptied, and each part given up as soon as it is copied: one tensor of the nest at a time is in memory
    twice.
    """
    form = change(lambda value: value[:0].clone(), parts[0])
    columns, total = [leaves(part) for part in parts], sum(map(len, rows))
    parts.clear()
    joined = []
    for number, empty in enumerate(leaves(form)):
        on_host = columns[0][number].is_pinned()
        dtype = reduce(torch.promote_types, (column[number].dtype for column in columns))
        whole = torch.empty((total, *empty.shape[1:]), dtype=dtype, device=empty.device, pin_memory=on_host)
        for column, own in zip(columns, rows, strict=True):
            whole[own.to(whole.device)] = column[number].to(dtype)
            column[number] = empty
        joined.append(whole)
    values = iter(joined)
    return change(lambda _: next(values), form)
