"""Leaving in good order when the process is told to end."""

from __future__ import annotations

import signal
from types import FrameType


def end_on_sigterm() -> None:
    """From now on SIGTERM leaves through every `finally`, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
