"""Splits the units of a kernel over the OpenMP threads that torch's own operators use.

After a matrix product those threads wait for the next one in a busy loop: they start at once, while any other thread
would first have to win a processor from them, which took longer than the recurrence itself. Where torch has no OpenMP,
and in a forked child, whose OpenMP is broken, a small pool of Python threads takes their place. Numba's own threading
layers would kill such a child, or abort when two Python threads call them at once. Units are independent, so who
computes them never changes a result.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Below this many elements a hand-over to another thread costs more than it saves.
INLINE_BELOW = 32_768

Team = Callable[[Callable[[], None], int], None]
"""`team(work, threads)` calls `work()` once on each of so many threads and returns when all have returned."""

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _openmp() -> Team | None:
    """A team on torch's OpenMP threads; None where torch is built without, or with one that has no GOMP_parallel.

    A symbol looked up through a library is searched in what it links, too: this finds torch's runtime among several.
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        gomp_parallel = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    gomp_parallel.argtypes = [_CALLBACK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    gomp_parallel.restype = None

    def team(work: Callable[[], None], threads: int) -> None:
        gomp_parallel(_CALLBACK(lambda _: work()), None, threads, 0)

    return team


def _python_threads() -> Team:
    pools: list[ThreadPoolExecutor] = []

    def team(work: Callable[[], None], threads: int) -> None:
        if not pools:
            pools.append(ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="minrnn"))
        try:
            others = [pools[0].submit(work) for _ in range(threads - 1)]
        except RuntimeError:  # the interpreter is ending: its threads are joined before its exit handlers run
            others = []
        work()
        for other in others:
            other.result()

    return team


_team: Team = _openmp() or _python_threads()


def _renew_team() -> None:
    global _team
    _team = _python_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_team)


def parallel(
    run: Callable[[int, int], None], units: int, elements: int, costs: np.ndarray[Any, Any] | None = None
) -> None:
    """Call `run(first, last)` on ranges that cover `units` units, on up to `torch.get_num_threads()` threads.

    Args:
        run: releases the GIL and writes nothing that another unit reads or writes.
        units: number of independent pieces of work.
        elements: size of the whole work, which decides whether threads are worth their cost.
        costs: of each unit, (units,), where they differ; threads get equal shares of them.
    """
    threads = torch.get_num_threads()
    ranges = min(threads, units) if elements >= INLINE_BELOW and not sys.is_finalizing() else 1
    if ranges <= 1:
        run(0, units)
        return
    bounds = [units * number // ranges for number in range(ranges + 1)]
    if costs is not None:
        shares = costs.sum() * np.arange(1, ranges) / ranges
        bounds[1:-1] = np.searchsorted(np.cumsum(costs), shares, side="right").tolist()
    numbers = itertools.count()
    ended: list[int] = []
    errors: list[BaseException] = []

    def work() -> None:
        while (number := next(numbers)) < ranges:
            try:
                run(bounds[number], bounds[number + 1])
                ended.append(number)
            except BaseException as error:
                errors.append(error)

    # A smaller team would end OpenMP's other threads, and the next matrix product would have to start them again.
    _team(work, threads)
    if errors:
        raise errors[0]
    if len(ended) < ranges:  # Ctrl-C between the lines above: C code that calls back cannot pass it on
        raise KeyboardInterrupt
