"""Leaving in good order when the process is told to end."""

from __future__ import annotations

import signal
from types import FrameType


def ending() -> list[signal.Signals]:
    """SIGTERM and, unless it is ignored as under nohup, SIGHUP: the terminal was closed."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    return [signal.SIGTERM] + ([hangup] if hangup and signal.getsignal(hangup) != signal.SIG_IGN else [])


def end_on_signals() -> None:
    """From now on these leave through every `finally`, as Ctrl-C does."""
    for number in ending():
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    for again in ending():  # a terminal that closes sends two, and what is being saved is not to be broken off
        signal.signal(again, signal.SIG_IGN)
    raise SystemExit(128 + number)
