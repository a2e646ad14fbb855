"""File reports kept between runs, so that a large folder is read once and not at each start."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ssdtune.errors import SsdtuneError
from ssdtune.files import atomic_path, cache_folder, content_hash
from ssdtune.mri.kspace.check import FileReport, check_file

# to be raised whenever a report of the same file would say something else
FORMAT = 3


class _Entry(BaseModel):
    """A report and the state of the file it was made from."""

    state: tuple[int, ...]
    report: FileReport


def known_report(path: Path, only: Collection[int] | None = None) -> FileReport:
    """The report of one file, from the user's cache folder if the file has not changed since.

    ``only`` : see ``check_file``.
    """
    try:
        status = path.stat()
        real = path.resolve()
    except OSError:
        return check_file(path, compare=False, only=only)
    # the change time moves also where a copy keeps the modification time
    state = (FORMAT, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    kept = (
        cache_folder()
        / "files"
        / f"{content_hash((str(real), *(() if only is None else map(str, (len(only), *only)))))}.json"
    )
    try:
        entry = _Entry.model_validate_json(kept.read_bytes())
        if entry.state == state:
            return entry.report.model_copy(update={"path": path})
    except (OSError, ValidationError):
        pass
    report = check_file(path, compare=False, only=only)
    if report.readable:
        _keep(kept, _Entry(state=state, report=report))
    return report


def _keep(kept: Path, entry: _Entry) -> None:
    try:
        with atomic_path(kept) as temporary:
            temporary.write_text(entry.model_dump_json())
    except SsdtuneError:
        # without a cache each run reads the files anew, which is slower but not wrong
        return
