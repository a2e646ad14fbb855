"""What commands on studies share: the storage option, opening a study, and the line to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import optuna

storage_option = click.option(
    "--storage",
    metavar="URL",
    help="SQLAlchemy URL of the studies.  [default: $SSDTUNE_STORAGE, else sqlite:///ssdtune.db]",
)
device_option = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, mps, or auto.")


def open_study(name: str, storage: str | None) -> optuna.Study:
    """A study that is there; raises StorageError."""
    from ssdtune.search.storage import load_study, open_storage, quiet_optuna

    quiet_optuna()
    return load_study(name, open_storage(storage), storage)


def next_line(command: str, storage: str | None) -> str:
    """A command to type next, on the same storage."""
    return f"ssdtune {command}" + (f" --storage {storage}" if storage else "")
