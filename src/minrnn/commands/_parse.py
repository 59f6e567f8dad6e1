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
    """The problem that tyro's box is about: what stands between its title and the next rule, without the help texts.

    The frame is missing and the rules are of hyphens where stdout has no other characters.
    """
    lines = [line.strip("│").rstrip() for line in box.splitlines()[1:]]
    rules = [not line.strip("─- ") for line in lines]
    start = rules.index(False)
    end = rules.index(True, start) if True in rules[start:] else len(lines)
    indents = [len(line) - len(line.lstrip()) for line in lines]
    shown = [lines[at].strip() for at in range(start, end) if indents[at] < indents[start] + 8]
    return " ".join(shown).rstrip(".")
