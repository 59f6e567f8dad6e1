"""Where files of this package lie, and a folder that appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minrnn.errors import UserError

from ..training._files import writing

MARK = "model.json"


def beside(name: str) -> Path:
    """A file that is copied into exports."""
    return Path(__file__).parent / "files" / name


@contextmanager
def appearing(out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder to fill, that takes the place of `out` in the end; after an error nothing is left of it.

    Raises UserError where `out` holds something that is not to be lost, or cannot be written.
    """
    found = _contents(out)
    if found and MARK not in found:
        raise UserError(f"--out {out} holds other files; give a new or an empty folder")
    if found and not overwrite:
        raise UserError(f"--out {out} holds an export already: give another --out, or --overwrite it")
    temporary, old = (out.with_name(f".{out.name}.{kind}") for kind in ("tmp", "old"))
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
    try:
        yield temporary
        with writing(out):
            if out.exists():
                out.rename(old)
            temporary.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _contents(out: Path) -> set[str]:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    with writing(out):
        return {entry.name for entry in out.iterdir()} if out.exists() else set()
