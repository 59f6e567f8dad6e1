"""What a person sees while a run trains, on stderr: a bar in a terminal, a line every two seconds anywhere else."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any, Protocol

INTERVAL = 1.9  # seconds between plain lines


class Display(Protocol):
    """Told of everything that happens; shows what it likes."""

    def say(self, text: str) -> None:
        """Something worth a line of its own."""

    def step(self, step: int, steps: int, loss: float, rate: float, left: float | None) -> None:
        """Update `step` of `steps` (0: not known yet) is done: its loss, tokens (values) a second, the seconds left."""

    def busy(self, doing: str) -> None:
        """Something other than a step is under way."""

    def close(self) -> None:
        """The sitting is over."""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None: ...

    def step(self, step: int, steps: int, loss: float, rate: float, left: float | None) -> None: ...

    def busy(self, doing: str) -> None: ...

    def close(self) -> None: ...


class Lines:
    """Plain lines, for a file or a pipe."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        with suppress(OSError):  # the terminal was closed; what is learned is to be saved all the same
            print(text, file=sys.stderr, flush=True)

    def step(self, step: int, steps: int, loss: float, rate: float, left: float | None) -> None:
        if self._due() or step == steps:
            self.say(f"step {step}/{steps or '?'}  loss {loss:.4f}  {rate:,.0f} {self._unit}/s  {clock(left)} left")

    def busy(self, doing: str) -> None:
        if self._due():
            self.say(doing)

    def close(self) -> None: ...

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        return True


class Bar:
    """A progress bar that moves on its own, so that a long step is not a dead terminal."""

    def __init__(self, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
        )
        self._unit = unit
        self._bar: Any = Progress(*columns, console=Console(stderr=True), expand=True)
        self._task = self._bar.add_task("starting", total=None, figures="")
        self._bar.start()

    def say(self, text: str) -> None:
        with suppress(OSError):
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def step(self, step: int, steps: int, loss: float, rate: float, left: float | None) -> None:
        figures = f"step {step}/{steps or '?'}  loss {loss:.3f}  {rate:,.0f} {self._unit}/s  {clock(left)} left"
        self._bar.update(self._task, description="training", total=steps or None, completed=step, figures=figures)

    def busy(self, doing: str) -> None:
        self._bar.update(self._task, description=doing)

    def close(self) -> None:
        with suppress(OSError):
            self._bar.stop()


def display(unit: str = "tokens") -> Display:
    """The display that suits this process's stderr, and counts what is learned from in some `unit`."""
    return Bar(unit) if sys.stderr.isatty() else Lines(unit)


def clock(seconds: float | None) -> str:
    """`1:02:03` or `2:03`."""
    if seconds is None:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
