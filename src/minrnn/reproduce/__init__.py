"""The claims of "Were RNNs All We Needed?" and of its readers, each an experiment with its rule written down first.

One file for each experiment; `load(name)` gives it. `minrnn reproduce NAME` runs it, `minrnn reproduce report` writes
the page.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from minrnn.errors import UserError

if TYPE_CHECKING:
    from ._experiment import Experiment

FOLDER = "MINRNN_TRAJECTORIES"
"""Environment variable: where the episodes of robots lie that `offline-rl` learns from."""

_CLASSES = {
    "speed": "Speed",
    "parameters": "Parameters",
    "inference": "Inference",
    "log-space": "LogSpace",
    "selective-copy": "SelectiveCopy",
    "forget-bias": "ForgetBias",
    "shakespeare": "Shakespeare",
    "gates": "Gates",
    "gradients": "Gradients",
    "chomsky": "Chomsky",
    "listops": "ListOpsBlocks",
    "offline-rl": "OfflineRL",
    "recall": "Recall",
    "state-tracking": "StateTracking",
    "long-range": "LongRange",
    "scaling": "Scaling",
    "filters": "Filters",
    "energy": "Energy",
}


def names() -> list[str]:
    """All experiments, in the order of the report."""
    return list(_CLASSES)


def load(name: str) -> Experiment:
    """The experiment called `name`. Raises UserError that lists them where there is none."""
    if name not in _CLASSES:
        raise UserError(f"there is no experiment {name!r}; there are {', '.join(_CLASSES)}")
    module = importlib.import_module(f".{name.replace('-', '_')}", __name__)
    experiment: Experiment = getattr(module, _CLASSES[name])()
    return experiment
