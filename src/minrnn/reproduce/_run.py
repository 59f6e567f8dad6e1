"""Run an experiment, or go on with it: every finished cell is a file, and what is on disk is not run again."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from minrnn.errors import UserError
from minrnn.training._files import locked, read_json, write_json, write_picture, writing
from minrnn.training._progress import Display, clock

from ._experiment import Cell, Done, Experiment, Results, Scale, Verdict
from ._workers import run_cells

MOST_BUSY = 0.1
"""Share of the processors that others may take while something is timed."""


class Folder:
    """Where an experiment's runs of one scale lie: `ROOT/NAME/SCALE/`, with `cells/`, `summary.json`, `picture.png`."""

    def __init__(self, root: Path, experiment: Experiment, scale: Scale) -> None:
        self.experiment, self.scale = experiment, scale
        self.path = root / experiment.name / scale
        self.cells = self.path / "cells"
        self.summary = self.path / "summary.json"
        self.picture = self.path / "picture.png"

    def file(self, cell: Cell) -> Path:
        return self.cells / f"{cell.key}.json"

    def read(self, cells: Sequence[Cell]) -> tuple[Results, list[Cell]]:
        """Those that are recorded with these very options, and those that are still to run."""
        done, missing = [], []
        for cell in cells:
            path = self.file(cell)
            record = read_json(path) if path.exists() else {}
            if record.get("options") == dict(cell.options):
                done.append(Done(cell, record["result"]))
            else:
                missing.append(cell)
        return Results(done), missing

    def plan(self) -> tuple[list[Cell], bool]:
        """All cells, and whether that is all: what follows the tuning is unknown before it."""
        tuning = list(self.experiment.tuning(self.scale))
        tuned, missing = self.read(tuning)
        if missing:
            return tuning, False
        return tuning + list(self.experiment.cells(self.scale, tuned)), True

    def complete(self) -> bool:
        """Whether there is nothing left to run."""
        cells, all_known = self.plan()
        return all_known and not self.read(cells)[1]

    def results(self) -> Results:
        """Everything recorded but the tuning. Raises UserError where something is missing."""
        cells, complete = self.plan()
        results, missing = self.read(cells)
        if missing or not complete:
            raise UserError(
                f"{self.path} is not complete: {missing[0].key} is missing or was run with other settings; "
                f"go on with {self.experiment.command(self.scale)}"
            )
        tuning = {cell.key for cell in self.experiment.tuning(self.scale)}
        return Results(one for one in results if one.cell.key not in tuning)

    def records(self) -> list[dict[str, Any]]:
        """The files of all cells, tuning included."""
        return [read_json(self.file(cell)) for cell in self.plan()[0]]


def run(experiment: Experiment, scale: Scale, root: Path, threads: int, show: Display) -> Verdict:
    """Run what is missing, then write `summary.json` and `picture.png`.

    Raises UserError where a cell failed; all others are run first and kept.
    """
    folder = Folder(root, experiment, scale)
    with writing(folder.cells):
        folder.cells.mkdir(parents=True, exist_ok=True)
    with locked(folder.path):
        complete = False
        while not complete:
            cells, complete = folder.plan()
            _, missing = folder.read(cells)
            if missing:
                _run_missing(folder, missing, len(cells), threads, show)
        return summarize(folder)


def _run_missing(folder: Folder, missing: Sequence[Cell], total: int, threads: int, show: Display) -> None:
    from minrnn.timing import environment

    name, scale = folder.experiment.name, folder.scale
    made = environment(folder.experiment.packages)
    began = time.monotonic()
    finished, failed, disturbed = 0, [], []
    states: dict[str, tuple[float, str]] = {}
    all_take = f"about {folder.experiment.minutes[scale]:g} minutes on two cores"
    show.say(f"{name}: {len(missing)} of {total} cells to run; all together take {all_take}")
    for event in run_cells(folder.experiment, missing, threads):
        if event is None:
            pass
        elif event.kind == "at work":
            states[event.cell.key] = (event.done, event.words)
        else:
            states.pop(event.cell.key, None)
            finished += 1
            if event.kind == "failed":
                failed.append(event.cell.key)
                show.say(f"{name} {event.cell.key} failed: {event.words}")
                continue
            record = {"experiment": name, "scale": scale, **asdict(event.cell), "result": event.result}
            cost: dict[str, float | None] = {"seconds": round(event.seconds, 1), "threads": 1}
            if event.cell.alone:
                cost |= {"threads": threads, "processors": os.cpu_count() or 1, "busy": event.busy}
                if event.busy is not None and event.busy > MOST_BUSY:
                    disturbed.append(event.cell.key)
            write_json(folder.file(event.cell), record | made | cost)
        done = finished + sum(share for share, _ in states.values())
        left = (time.monotonic() - began) / done * (len(missing) - done) if done >= 0.5 else None
        doing = "; ".join(f"{key} {share:.0%} {words}" for key, (share, words) in states.items())
        show.busy(f"{name}: {total - len(missing) + finished} of {total}, {clock(left)} left  {doing}")
    if disturbed:
        show.say(
            f"{name}: other programs kept the processors busy as {len(disturbed)} cells were timed, {disturbed[0]} the "
            f"first; remove them from {folder.cells} to time them again"
        )
    if failed:
        raise UserError(
            f"{name}: {len(failed)} of {len(missing)} cells failed, {failed[0]} the first; the same command tries again"
        )


def summarize(folder: Folder) -> Verdict:
    """Judge what is recorded; write `summary.json` and `picture.png`."""
    from matplotlib.figure import Figure

    experiment, results = folder.experiment, folder.results()
    verdict = experiment.verdict(results)
    if folder.scale == "smoke":
        verdict = replace(verdict, answer="undecidable at this scale", because="smoke shows that it runs, no more")
    records = folder.records()
    table = experiment.table(results)
    summary = {
        "name": experiment.name,
        "scale": folder.scale,
        "command": experiment.command(folder.scale),
        "claim": experiment.claim,
        "rule": experiment.rule,
        "seeds": sorted({one.cell.seed for one in results}),
        "controls": {"positive": asdict(verdict.positive), "negative": asdict(verdict.negative)},
        "verdict": verdict.answer,
        "because": verdict.because,
        "table": asdict(table),
        "minutes": round(sum(record["seconds"] * record["threads"] for record in records) / 60, 1),
    } | {
        key: _all_of(record[key] for record in records)
        for key in ("commit", "versions", "processor", "instructions", "system", "date")
    }
    timed = [record for record in records if "busy" in record]
    if timed:
        summary["timed"] = {
            "threads": min(record["threads"] for record in timed),
            "processors": max(record["processors"] for record in timed),
            "busy": max((record["busy"] for record in timed if record["busy"] is not None), default=None),
        }
    write_json(folder.summary, summary)
    figure = Figure(figsize=(9, 4.5), layout="constrained", dpi=120)
    experiment.draw(results, figure)
    write_picture(folder.picture, figure)
    return verdict


def _all_of(values: Any) -> list[Any]:
    """Each once, in the order in which they come."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def threads_here() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
