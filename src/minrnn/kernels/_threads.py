"""Splits the units of a kernel over a small thread pool.

Numba's own threading layers either kill a forked child or abort when two Python threads call them at once; kernels
that release the GIL
on ordinary threads do neither. Units are independent, so the number of threads never changes a result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

# Below this many elements a hand-over to another thread costs more than it saves.
INLINE_BELOW = 32_768

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """A forked child inherits the pool object but not its threads, and would wait for them for ever."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _get_pool() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max(1, os.cpu_count() or 1), thread_name_prefix="minrnn")
    return _pool


def parallel(run: Callable[[int, int], None], units: int, elements: int) -> None:
    """Call `run(first, last)` on ranges that cover `units` units, on up to `torch.get_num_threads()` threads.

    Args:
        run: releases the GIL and writes nothing that another unit reads or writes.
        units: number of independent pieces of work.
        elements: size of the whole work, which decides whether threads are worth their cost.
    """
    threads = min(torch.get_num_threads(), units) if elements >= INLINE_BELOW else 1
    if threads <= 1:
        run(0, units)
        return
    bounds = [units * i // threads for i in range(threads + 1)]
    pool = _get_pool()
    try:
        others = [pool.submit(run, first, last) for first, last in pairwise(bounds[1:])]
    except RuntimeError:  # the interpreter is ending: its threads are joined before its exit handlers run
        run(0, units)
        return
    run(bounds[0], bounds[1])
    for other in others:
        other.result()
