"""Files that are whole or not there at all, and where those are kept that were fetched."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`; killed at any moment, `path` holds the old bytes or the new ones. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def cached(name: str) -> Path | None:
    """Where a file is kept that comes from elsewhere; None for a user without a home."""
    if folder := os.environ.get("MINRNN_CACHE"):
        return Path(folder) / name
    if os.path.isabs(folder := os.environ.get("XDG_CACHE_HOME", "")):  # others are to be ignored, the standard says
        return Path(folder) / "minrnn" / name
    with suppress(RuntimeError):
        return Path.home() / ".cache" / "minrnn" / name
    return None
