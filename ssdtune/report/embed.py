"""What a page carries inside: pictures as data URLs, no larger together than a page may be, and packed scripts."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from PIL import Image as Picture

PICTURES = 800_000
"""Characters that all pictures of a page may take, of the 2 MB of a page."""

QUALITIES = (90, 80, 65, 45, 25)
"""Of WebP, from one in which nothing is seen to be missing down to one that is still of use."""


def embedded(paths: Iterable[Path]) -> dict[Path, str]:
    """The data URL of each picture (PNG, WebP; SVG as it is), in the best quality in which all fit."""
    paths = list(dict.fromkeys(paths))
    urls: dict[Path, str] = {}
    for quality in QUALITIES:
        urls = {path: _data_url(path, quality) for path in paths}
        if sum(map(len, urls.values())) <= PICTURES:
            break
    return urls


def packed(source: str) -> str:
    """A script as text that ``page.js`` unpacks: gzip, base64. It has four ninths of the size."""
    return base64.b64encode(gzip.compress(source.encode(), mtime=0)).decode()


def _data_url(path: Path, quality: int) -> str:
    kind, content = "svg+xml", b""
    if path.suffix == ".svg":
        content = path.read_bytes()
    else:
        with Picture.open(path) as picture, BytesIO() as smaller:
            picture.save(smaller, "webp", quality=quality)
            kind, content = "webp", smaller.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
