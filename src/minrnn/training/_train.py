"""Begin a run, or go on with one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from minrnn.errors import UserError

from ._config import TrainConfig
from ._files import locked
from ._folder import RunFolder, Settings
from ._init import begun_with
from ._progress import Display, Silent, display

if TYPE_CHECKING:
    from ._loop import RunResult

# torch is imported inside the functions: it takes a second, and a run should be on disk before, to survive `kill -9`.


def train(
    config: TrainConfig,
    *,
    overwrite: bool = False,
    init: str | os.PathLike[str] = "",
    should_stop: Callable[[], bool] = lambda: False,
    quiet: bool = False,
) -> RunResult:
    """Train a language model from the beginning and write its run folder `config.out`.

    Under torchrun every process calls this, and together they make the one run.

    Arguments:
        overwrite: replace a run that `config.out` holds already; without it that is an error.
        init: run folder whose best weights and tokenizer the run begins with, to fine-tune it; the settings that shape
            the model are then those of that run.
        should_stop: asked before each step; once it says True the run is saved so that `resume` can go on with it.
        quiet: show no progress on stderr.

    Example: `train(TrainConfig(data="shakespeare", out="runs/shakespeare", minutes=15))`

    Sets the seed of torch's random numbers at each step. Raises UserError for settings, a text or a folder that do not
    work; what the folder held before is then untouched.
    """
    from ._corpus import lasting

    run = RunFolder(Path(config.out))
    config = dataclasses.replace(config, data=lasting(config.data))  # so that the run can be resumed from any folder
    _check_apart(config)
    settings = begun_with(config, os.fspath(init)) if init else Settings(config)
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    claimed = alone and run.claim(settings, overwrite)

    from ._distributed import process_group
    from ._prepare import prepare

    with process_group() as group, ExitStack() as stack:
        if not alone:
            claimed = group.lead(lambda: run.claim(settings, overwrite))
        group.lead(lambda: stack.enter_context(locked(run.path)))
        show = _display(quiet or not group.first, stack)
        try:
            trainer = prepare(run, settings, None, group, show)
        except UserError:
            if claimed and group.first:
                run.release()
            raise
        return trainer.run(should_stop)


def _check_apart(config: TrainConfig) -> None:
    """A run that lies in the folder of its text would read itself, and find its text changed when it is resumed."""
    data, out = Path(config.data).resolve(), Path(config.out).resolve()
    if os.path.isabs(config.data) and data.is_dir() and out.is_relative_to(data):
        hidden = any(part.startswith(".") for part in out.relative_to(data).parts)
        if not hidden:
            raise UserError(f"--out {config.out} lies in the folder that is learned from; give one outside {data}")


def resume(
    folder: str | os.PathLike[str], *, should_stop: Callable[[], bool] = lambda: False, quiet: bool = False
) -> RunResult:
    """Go on with a stopped or killed run, bit for bit as if it had not stopped; without a checkpoint, from step 0.

    A finished run is left as it is. Arguments and errors as for `train`; a text that changed since is an error too.
    """
    from ._checkpoint import read_state
    from ._distributed import process_group
    from ._loop import RunResult
    from ._prepare import prepare

    run = RunFolder(Path(folder))
    with process_group() as group, ExitStack() as stack:
        settings = group.lead(lambda: Settings.load(run))
        group.lead(lambda: stack.enter_context(locked(run.path)))
        state = group.lead(lambda: read_state(run.last) if run.last.exists() else None)
        show = _display(quiet or not group.first, stack)
        if state is not None and state.finished:
            show.say(f"{run.path} is finished: {state.step} steps")
            return RunResult(run.path, state.step, settings.config.steps, True, None)
        trainer = prepare(run, settings, state, group, show)
        return trainer.run(should_stop)


def _display(silent: bool, stack: ExitStack) -> Display:
    show: Display = Silent() if silent else display()
    stack.callback(show.close)
    return show
