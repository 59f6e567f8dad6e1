"""minrnn train"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from minrnn.errors import UserError
from minrnn.training import TrainConfig, resume, train

from . import speaks
from ._parse import parse
from ._signals import ending

if TYPE_CHECKING:
    from minrnn.training import RunResult

Work = Callable[..., "RunResult"]  # `train` or `resume` with everything but `should_stop`


@dataclass(frozen=True)
class TrainOptions(TrainConfig):
    __doc__ = TrainConfig.__doc__

    overwrite: bool = False
    """Replace the run that the folder --out holds already."""
    init: str = ""
    """Run folder whose weights and tokens to begin with, to fine-tune it on other text; its shape is then taken, too.
    A --learning-rate of a third of the first one is a good start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps and self.minutes:
            raise UserError("give --steps or --minutes, not both")


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a stopped or killed run as if it had never stopped. All other settings are in its config.json.

    Example:  minrnn train --resume runs/shakespeare
    """

    resume: str
    """The run folder."""


def main(arguments: Sequence[str]) -> int:
    """Train, and say on stdout how good the model is; 130, 143 or 129 where a signal stopped it."""
    task, others = _task(arguments)
    if task != "language":
        from ._series import train as train_series

        return train_series(task, arguments)
    arguments = others
    folder, work = (
        _resume(arguments) if any(word.split("=")[0] == "--resume" for word in arguments) else _train(arguments)
    )
    result, code = sit(folder, work)
    if result.held_out is not None and speaks():
        figures = result.held_out
        print(
            f"held-out {figures.nats_per_token:.4f} nats per token, {figures.bits_per_character:.4f} bits per character"
        )
        print(f'all of it is in {result.folder}; next: minrnn generate {result.folder} --prompt "..."')
    return code


def _task(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """What --task says, language where it does not, and the other words."""
    words = list(arguments)
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--task":
            end = at + (1 if equals else 2)
            return value or "".join(words[at + 1 : end]), words[:at] + words[end:]
    return "language", words


def _train(arguments: Sequence[str]) -> tuple[str, Work]:
    options = parse(TrainOptions, "train", arguments)
    config = TrainConfig(**{field.name: getattr(options, field.name) for field in fields(TrainConfig)})
    return config.out, partial(train, config, overwrite=options.overwrite, init=options.init)


def _resume(arguments: Sequence[str]) -> tuple[str, Work]:
    folder = parse(ResumeOptions, "train", arguments).resume
    return folder, partial(resume, folder)


def sit(folder: str, work: Work) -> tuple[RunResult, int]:
    """Let `work` train, with this process set up for it, to its end or to a signal; its result and the exit code."""
    from minrnn.training._allocator import keep_freed_memory

    keep_freed_memory()
    with stop_signals() as received:
        result = work(should_stop=lambda: bool(received))
    if result.finished or not received:
        return result, 0
    if speaks():
        where = f"after step {result.step}" if result.step else "before the first step"
        print(f"stopped {where}; go on with: minrnn train --resume {folder}", file=sys.stderr)
    return result, 128 + received[0]


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and what else ends a process in a list, so that work can end at a good place. A second Ctrl-C ends
    it at once.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        # torchrun passes on a signal that the terminal sent to all: among several processes a second one means nothing.
        if received and number == signal.SIGINT and "WORLD_SIZE" not in os.environ:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *ending())}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
