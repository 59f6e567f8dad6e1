"""Where files of this package lie, and a folder that appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minrnn.errors import UserError

from ..training._files import names_in, read_json, writing

MARK = "model.json"


def beside(name: str) -> Path:
    """A file that is copied into exports."""
    return Path(__file__).parent / "files" / name


@contextmanager
def appearing(out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder to fill, that takes the place of `out` in the end; after an error nothing is left of it.

    Raises UserError where `out` holds something that is not to be lost, or cannot be written.
    """
    given, out = out, out.resolve()
    if Path.cwd().is_relative_to(out):
        raise UserError(f"--out {given} is the folder that you are in, or around it; give another")
    temporary, old = (out.with_name(f".{out.name}.{kind}") for kind in ("tmp", "old"))
    if old.exists() and not out.exists():  # killed between two moves
        with writing(out):
            old.rename(out)
    found = names_in(given)
    if found and (foreign := _foreign(out, found)):
        raise UserError(f"--out {given} holds other files, {foreign} first; give a new or an empty folder")
    if found and not overwrite:
        raise UserError(f"--out {given} holds an export already: give another --out, or --overwrite it")
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


def files_in(folder: Path) -> list[str]:
    """At any depth, by their names from there; but for what Python leaves beside an example that was run."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.as_posix() for path in found if "__pycache__" not in path.parts)


def _foreign(out: Path, found: set[str]) -> str | None:
    """The first thing that a folder holds and no export wrote."""
    try:
        record = read_json(out / MARK)
    except UserError:
        record = None
    if not (isinstance(record, dict) and {"minrnn", "task", "graphs", "files"} <= record.keys()):
        return min(found)
    return next((name for name in files_in(out) if name not in [MARK, *record["files"]]), None)
