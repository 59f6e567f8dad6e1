"""Cells in processes of their own: small models side by side on one thread each, or one timing on all threads."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from ._experiment import Cell, Experiment

POLL = 0.5  # seconds


@dataclass(frozen=True)
class Event:
    """What a worker says of a cell."""

    cell: Cell
    kind: Literal["at work", "done", "failed"]
    done: float = 0.0  # share of the cell
    words: str = ""
    result: Any = None
    seconds: float = 0.0
    busy: float | None = None
    """What share of the processors others took before a timed cell began."""


class _Worker:
    def __init__(self, experiment: Experiment, threads: int) -> None:
        # A forked child would inherit torch's threads in a state that OpenMP does not survive.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        where = (type(experiment).__module__, type(experiment).__qualname__)
        self.process = context.Process(target=_work, args=(*where, threads, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.cell: Cell | None = None

    def give(self, cell: Cell) -> None:
        self.cell = cell
        self.connection.send(cell)


def run_cells(experiment: Experiment, cells: Sequence[Cell], threads: int) -> Iterator[Event | None]:
    """What happens to the cells, as it happens; None now and then, when nothing did.

    Leaving the iterator early, an exception included, stops the workers.
    """
    side_by_side = [cell for cell in cells if not cell.alone]
    yield from _share_out(experiment, side_by_side, [1] * threads)
    yield from _share_out(experiment, [cell for cell in cells if cell.alone], [threads])


def _share_out(experiment: Experiment, cells: Sequence[Cell], threads: Sequence[int]) -> Iterator[Event | None]:
    """Among workers with so many threads each."""
    waiting = list(cells)
    workers = [_Worker(experiment, of_it) for of_it in threads[: len(cells)]]
    try:
        for worker in workers:
            worker.give(waiting.pop(0))
        while busy := [worker for worker in workers if worker.cell is not None]:
            ready = wait([worker.connection for worker in busy], timeout=POLL)
            if not ready:
                yield None
            for worker in busy:
                cell = worker.cell
                if worker.connection not in ready or cell is None:
                    continue
                try:
                    kind, *rest = worker.connection.recv()
                except (EOFError, ConnectionResetError):  # the latter where it had not read its cell yet
                    worker.process.join()
                    code = worker.process.exitcode
                    yield Event(cell, "failed", words=f"its process ended with code {code}; memory may have run out")
                    worker.cell = None
                    continue
                if kind == "at work":
                    yield Event(cell, kind, *rest)
                    continue
                if kind == "done":
                    yield Event(cell, kind, result=rest[0], seconds=rest[1], busy=rest[2])
                else:
                    yield Event(cell, kind, words=rest[0])
                worker.cell = None
                if waiting:
                    worker.give(waiting.pop(0))
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _work(module: str, name: str, threads: int, connection: Connection) -> None:
    """Run the cells that come until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process

    import torch

    from minrnn.timing import busy
    from minrnn.training._allocator import keep_freed_memory

    torch.set_num_threads(threads)
    keep_freed_memory()
    experiment: Experiment = getattr(importlib.import_module(module), name)()

    def watch(done: float, words: str) -> None:
        connection.send(("at work", done, words))

    while True:
        try:
            cell: Cell = connection.recv()
        except EOFError:
            return
        others = busy() if cell.alone else None
        began = time.monotonic()
        try:
            connection.send(("done", experiment.run(cell, watch), time.monotonic() - began, others))
        except BrokenPipeError:  # the parent was killed
            return
        except Exception:
            connection.send(("failed", traceback.format_exc(limit=-3)))
