"""The tasks of the experiments: batches drawn from a numpy generator, each task beside its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._task import Batch, Task
from .chomsky import BucketSort, CycleNavigation, EvenPairs, Majority, MajorityCount, MissingDuplicate, Parity
from .listops import ListOps
from .long import Adding, CopyMemory, Digits
from .recall import Copying, MultiQueryRecall, OneQuestion
from .selective_copying import SelectiveCopying
from .text import Text
from .trajectories import Trajectories
from .words import GroupWords

__all__ = ["Batch", "Task", "make"]

_TASKS: dict[str, type[Task]] = {
    "selective copying": SelectiveCopying,
    "bucket sort": BucketSort,
    "missing duplicate": MissingDuplicate,
    "cycle navigation": CycleNavigation,
    "even pairs": EvenPairs,
    "majority": Majority,
    "majority count": MajorityCount,
    "parity": Parity,
    "listops": ListOps,
    "adding": Adding,
    "copy memory": CopyMemory,
    "digits": Digits,
    "multi-query recall": MultiQueryRecall,
    "one question": OneQuestion,
    "copying": Copying,
    "group words": GroupWords,
    "text": Text,
    "trajectories": Trajectories,
}


def make(name: str, setting: Mapping[str, Any]) -> Task:
    """The task called `name` in a setting."""
    return _TASKS[name](**setting)
