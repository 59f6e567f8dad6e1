"""Timing that can be trusted: interleaved repeats, medians, peak memory of a process of its own, and what machine it
was.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

SHORTEST = 0.05  # seconds


def interleaved_medians(
    runs: Mapping[str, Callable[[], object]], repeats: int, progress: Callable[[str], None]
) -> dict[str, float]:
    """Median milliseconds of each run (see `interleaved`)."""
    return interleaved(runs, repeats, progress, {"milliseconds": lambda: 1e3 * time.perf_counter()})["milliseconds"]


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    progress: Callable[[str], None],
    clocks: Mapping[str, Callable[[], float]],
) -> dict[str, dict[str, float]]:
    """How far each run puts on each of some clocks (seconds, joules, ...), medians; one repeat of all of them after
    another, so that a slow minute hits all alike.

    A repeat of a short run is the mean of as many calls as take `SHORTEST`: after a long run of something else, the
    first call would also pay for caches and for threads that fell asleep.
    """
    found: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in runs} for clock in clocks}
    calls = dict.fromkeys(runs, 1)
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            progress(f"{name}, repeat {repeat} of {repeats}" if repeat else f"{name}, warming up")
            if not repeat:
                run()  # may compile
            began = time.perf_counter()
            before = {clock: read() for clock, read in clocks.items()}
            for _ in range(calls[name]):
                run()
            if repeat:
                for clock, read in clocks.items():
                    found[clock][name].append((read() - before[clock]) / calls[name])
            else:
                calls[name] = max(1, round(SHORTEST / max(time.perf_counter() - began, 1e-6)))
    return {
        clock: {name: statistics.median(values) for name, values in of_clock.items()}
        for clock, of_clock in found.items()
    }


def peak_extra_bytes(run: Callable[[], object]) -> int | None:
    """How much the resident memory of this process rises above its level before, at most, while `run` runs. Linux
    only.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except OSError:
        return None


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def in_new_process(module: str, *arguments: str) -> Any:
    """The JSON that `python -m module arguments` prints last: memory of one measurement says nothing about the next.

    Raises RuntimeError with the last line of what the process said where it failed.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"it ended with code {done.returncode}; memory may have run out"
        raise RuntimeError(f"python -m {module} {' '.join(arguments)} failed: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def busy(seconds: float = 0.3) -> float | None:
    """Share of all processors' time for which something ran in the next `seconds`. Linux only."""
    try:
        before = _ticks()
        time.sleep(seconds)
        (idle, everything) = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
    except OSError:
        return None
    return round(1 - idle / everything, 3) if everything else 0.0


def _ticks() -> tuple[int, int]:
    """Idle time of all processors since the start, and all time."""
    user, nice, system, idle, waiting, *others = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return idle + waiting, user + nice + system + idle + waiting + sum(others)


def environment(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Command, commit, versions and machine: what a figure needs beside it. `packages`: more of them whose versions
    are wanted, of those that are installed.
    """
    return {
        "command": " ".join(["minrnn", *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | _versions(("torch", "numba", "numpy", *packages)),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "allocator": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "date": time.strftime("%Y-%m-%d"),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):  # what needs it says so better
            found[name] = importlib.metadata.version(name)
    return found


def _commit(file: Path = Path(__file__)) -> str | None:
    """The commit that this code is checked out from, "-dirty" where it was changed since; None without a checkout.

    What an earlier run wrote to results/ is no change of the code.
    """
    git = ["git", "-C", str(file.parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", file.name], capture_output=True)
        named = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)results"],
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    if tracked.returncode or named.returncode:
        return None
    return named.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
