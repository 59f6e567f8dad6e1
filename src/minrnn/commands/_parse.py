"""A typed record from the words of a command line, through tyro."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TypeVar

import tyro

from minrnn.errors import UserError

T = TypeVar("T")


def parse(kind: type[T], command: str, arguments: Sequence[str]) -> T:
    """A `kind`, which is a dataclass; --help prints and exits. Raises UserError where the words do not fit."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, prog=f"minrnn {command}", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as end:
        if not end.code:
            raise
        problem = _problem(complaint.getvalue()).removeprefix(f"Error parsing {kind.__name__}: ")
        raise UserError(f"{problem}; minrnn {command} --help lists what it takes") from None


def _problem(box: str) -> str:
    """The problem that tyro's box is about: what stands above the rule, without the deeply indented help texts."""
    words: list[str] = []
    for line in box.splitlines():
        text = line.removeprefix("│").removesuffix("│").rstrip()
        if text.startswith(" ─"):
            break
        if not text.startswith(("╭", "╰", " " * 8)):
            words.append(text.strip())
    return " ".join(words).rstrip(".")
