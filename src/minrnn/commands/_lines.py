"""Lines of text for commands that answer one after the other."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

from minrnn.errors import UserError


def read_lines(source: str) -> Iterator[str]:
    """The lines of a file, or of standard input for "-", as they come, each with its newline.

    Bytes that are no UTF-8 become characters that only tokenizers of bytes know (PEP 383), as in `load_text`, so that
    what reads a line can say which it was.
    """
    if source == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):  # not where a program has put something else there
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        yield from sys.stdin
        return
    try:
        with open(source, encoding="utf-8", errors="surrogateescape") as file:
            yield from file
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from None
