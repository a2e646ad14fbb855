"""Where pictures are kept for the dashboard: a folder, or a bucket of a service that speaks S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import optuna
from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore, get_all_artifact_meta
from optuna.artifacts.exceptions import ArtifactNotFound

from ssdtune.errors import ConfigError, StorageError, check_installed
from ssdtune.files import may_write
from ssdtune.study.storage import storage_errors
from ssdtune.study.storage_url import JOURNAL, database_file, parse

VARIABLE = "SSDTUNE_ARTIFACTS"

ArtifactStore = FileSystemArtifactStore | Boto3ArtifactStore


def artifact_place(given: str | None = None, storage: str | None = None) -> str | None:
    """The given place, else ``SSDTUNE_ARTIFACTS``, else a folder beside the file of a storage; None: nowhere."""
    place = given or os.environ.get(VARIABLE)
    if place or storage is None:
        return place or None
    parsed = parse(storage)
    path = database_file(parsed)
    if path is None or parsed.drivername == JOURNAL:
        return None
    return str(path.with_name(f"{path.stem}_artifacts"))


def open_artifacts(place: str | None, *, create: bool = False) -> ArtifactStore | None:
    """The store of a folder, which ``create`` makes if it is not there, or of ``s3://BUCKET[?endpoint=URL]``.

    Keys of S3 come from where boto3 looks: ``AWS_ACCESS_KEY_ID`` and so on.

    Raises ConfigError: another kind of URL, one with a key in it, or boto3 is not installed. StorageError : the folder
    cannot be made, or not be written.
    """
    if place is None:
        return None
    if "://" not in place and not place.startswith("s3:"):
        if create:
            with artifact_errors(place):
                Path(place).mkdir(parents=True, exist_ok=True)
                _check_writable(place)
        return FileSystemArtifactStore(Path(place))
    split = urlsplit(place)
    if split.username is not None or split.password is not None:
        where = f"{split.scheme}://***@{split.hostname}"
        raise ConfigError("a key in the URL of artifacts", where, "give it as AWS_ACCESS_KEY_ID and so on")
    if split.scheme != "s3" or not split.netloc or split.path.strip("/"):
        raise ConfigError("not a place of artifacts", place, "give a folder, or s3://BUCKET[?endpoint=URL]")
    endpoint = parse_qs(split.query).get("endpoint", [None])[0]
    if endpoint is not None and "@" in urlsplit(endpoint).netloc:
        raise ConfigError(
            "a key in the URL of artifacts", "s3://…?endpoint=…", "give it as AWS_ACCESS_KEY_ID and so on"
        )
    check_installed("boto3", "s3", place)
    import boto3

    try:
        return Boto3ArtifactStore(split.netloc, boto3.client("s3", endpoint_url=endpoint))
    except ValueError as reason:
        raise ConfigError(f"not a place of artifacts ({reason})", place, "mend its endpoint=URL") from reason


def _check_writable(folder: str) -> None:
    if not may_write(folder):
        raise PermissionError(EACCES, os.strerror(EACCES))


def remove_artifacts(study: optuna.Study, store: ArtifactStore | None) -> int:
    """Remove what a study has in a store, before it is deleted; returns how many it has elsewhere.

    Raises StorageError : the storage, or that of the artifacts, failed.
    """
    left = 0
    with storage_errors():
        known = [meta.artifact_id for meta in get_all_artifact_meta(study)]
    for name in known:
        try:
            with artifact_errors():
                if store is None:
                    raise ArtifactNotFound
                store.open_reader(name).close()  # S3 removes what is not there without a word
                store.remove(name)
        except ArtifactNotFound:
            left += 1
    return left


@contextmanager
def artifact_errors(place: object = VARIABLE) -> Iterator[None]:
    """Turn what a store raises into one line. Raises StorageError."""
    failures: tuple[type[Exception], ...] = (OSError,)
    if find_spec("botocore") is not None:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        failures += (Boto3Error, BotoCoreError, ClientError)
    try:
        yield
    except failures as reason:
        why = getattr(reason, "strerror", None) or str(reason).splitlines()[0]
        raise StorageError(f"cannot write an artifact ({why})", place, "choose a place that can be written") from reason
