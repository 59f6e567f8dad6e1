"""Training: one config, one loop, one run folder.

from minrnn.training import TrainConfig, load_run, train

train(TrainConfig(data="shakespeare", out="runs/shakespeare", minutes=15))
run = load_run("runs/shakespeare")
text = "".join(pieces[0] for pieces in generate(run.model, run.tokenizer, "ROMEO:", tokens=200))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._config import TrainConfig
from ._train import resume, train

if TYPE_CHECKING:
    from ._evaluate import Evaluation, evaluate
    from ._generate import generate
    from ._loop import RunResult
    from ._reading import Reading, TextState, load_state, read, save_state
    from ._run import Run, load_run

__all__ = [
    "Evaluation",
    "Reading",
    "Run",
    "RunResult",
    "TextState",
    "TrainConfig",
    "evaluate",
    "generate",
    "load_run",
    "load_state",
    "read",
    "resume",
    "save_state",
    "train",
]

# These need torch, which takes a second to import; the command line answers --help without it.
_HOME = {
    "Evaluation": "_evaluate",
    "Run": "_run",
    "RunResult": "_loop",
    "evaluate": "_evaluate",
    "generate": "_generate",
    "load_run": "_run",
    "Reading": "_reading",
    "TextState": "_reading",
    "load_state": "_reading",
    "read": "_reading",
    "save_state": "_reading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
