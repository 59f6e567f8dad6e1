"""minrnn reproduce"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from minrnn.errors import UserError
from minrnn.reproduce import FOLDER, load, names

from ._parse import parse
from ._signals import end_on_signals

if TYPE_CHECKING:
    from minrnn.training._progress import Display


@dataclass(frozen=True)
class ReproduceOptions:
    """Run an experiment about the paper and judge its claim by a rule that was written down before.

    Each finished model and seed is a file; stopped with Ctrl-C or killed, the same command goes on with the rest, also
    on another machine that has the files.

    Examples:  minrnn reproduce selective-copy --scale smoke

    minrnn reproduce list     (what there is, with its minutes)

    minrnn reproduce all --scale smoke

    minrnn reproduce report   (docs/reproduction.md from what is recorded)
    """

    name: Annotated[str, tyro.conf.Positional]
    """An experiment, several with commas between, all, list, or report."""
    scale: Literal["smoke", "cpu", "paper"] = "smoke"
    """smoke shows that it runs; cpu is what two cores can decide; paper is the published configuration."""
    results: str = "results/reproduce"
    """Folder of all runs: RESULTS/NAME/SCALE/."""
    trajectories: str = "data/trajectories"
    """Folder of the files that offline-rl learns from (BODY.npz), or minari:ID."""
    collect: bool = False
    """Make those files first where they are absent, with policies that learn here (half an hour each)."""
    page: str = "docs/reproduction.md"
    """Page that report writes."""


def main(arguments: Sequence[str]) -> int:
    """Print one line for each experiment, with its verdict, on stdout."""
    options = parse(ReproduceOptions, "reproduce", arguments)
    if options.name == "list":
        for name in names():
            experiment = load(name)
            print(f"{name:<16} {experiment.minutes['cpu']:>4g} min  {experiment.claim}")
        return 0
    if options.name == "report":
        return _report(options)
    os.environ[FOLDER] = options.trajectories  # for the processes that run the cells
    chosen = names() if options.name == "all" else options.name.split(",")
    experiments = [load(name) for name in chosen]

    from minrnn.reproduce._run import run, threads_here
    from minrnn.training._progress import display

    if options.scale == "paper":
        print(
            (
                "The paper's configuration takes days to weeks for each model on a processor; Ctrl-C keeps what is "
                "finished."
            ),
            file=sys.stderr,
        )
    failures = []
    end_on_signals()  # the workers end too, and what is finished is kept
    show = display()
    try:
        if options.collect:
            _collect(options.trajectories, show)
        for experiment in experiments:
            try:
                verdict = run(experiment, options.scale, Path(options.results), threads_here(), show)
            except UserError as error:
                failures.append(str(error))
                show.say(str(error))
                continue
            print(f"{experiment.name}: {verdict.answer} ({verdict.because})", flush=True)
    finally:
        show.close()
    if failures:
        raise UserError(f"{len(failures)} of {len(experiments)} experiments failed: {failures[0]}")
    return 0


def _collect(place: str, show: Display) -> None:
    from minrnn.reproduce._collect import collect
    from minrnn.reproduce.tasks.trajectories import MINARI, file_of

    if place.startswith(MINARI):
        raise UserError(f"--collect makes files in a folder; --trajectories {place} is none: leave one of them out")
    for body in ("hopper", "walker2d"):
        if file_of(body, Path(place)) is None:
            collect(body, Path(place), show)


def _report(options: ReproduceOptions) -> int:
    from minrnn.reproduce._report import write_report

    write_report(Path(options.results), Path(options.page))
    print(options.page)
    return 0
