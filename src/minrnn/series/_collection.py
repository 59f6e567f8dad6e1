"""A collection of series as the network reads it: padded, scaled, with missing values marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Collection = np.ndarray | Sequence[np.ndarray]
"""(N, C, T), or N arrays (C, T_i)."""

ROUNDING = 64 * np.finfo(np.float64).eps
"""Share of a value by which the mean of many like it, and what was computed to be the same, may differ."""


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each channel over all series that were learned from, and which miss values.

    A channel that was missing nowhere in what was learned from has no marks: a value that is missing later counts as
    the channel's mean.
    """

    mean: np.ndarray  # (C,)
    deviation: np.ndarray  # (C,)
    marked: np.ndarray  # (C,) bool: has a channel beside it that is 1 where its value is missing

    @classmethod
    def of(cls, series: Collection, name: str = "X") -> Scale:
        """Of series (C, T_i). Raises ValueError for infinite values, and for a channel without a value."""
        check_finite(series, name)
        steps = np.concatenate([np.asarray(one, np.float64) for one in series], axis=1)  # (C, all steps)
        missing = np.isnan(steps)
        if (without := missing.all(axis=1)).any():
            raise ValueError(f"channel {int(without.argmax())} of {name} has no value, all are missing; leave it out")
        return cls(np.nanmean(steps, axis=1), deviation(steps), missing.any(axis=1))

    @property
    def inputs(self) -> int:
        """Channels that the network reads."""
        return len(self.mean) + int(self.marked.sum())

    def scaled(self, one: np.ndarray) -> np.ndarray:
        """(C, T) -> (C, T), NaN where a value is missing. Raises ValueError for another C."""
        if len(one) != len(self.mean):
            raise ValueError(f"a series has {len(one)} channels; expected {len(self.mean)}, as in fit")
        return np.asarray((np.asarray(one, np.float64) - self.mean[:, None]) / self.deviation[:, None])

    def apply(self, series: Collection) -> tuple[Tensor, Tensor]:
        """x (N, T, inputs) float32 with zeros after each series' end, lengths (N,)."""
        lengths = [np.shape(one)[1] for one in series]
        x = torch.zeros(len(lengths), max(lengths), self.inputs)
        C = len(self.mean)
        for row, one in enumerate(series):
            values = self.scaled(one)
            missing = np.isnan(values)
            x[row, : lengths[row], :C] = torch.from_numpy(np.where(missing, 0.0, values).T)
            x[row, : lengths[row], C:] = torch.from_numpy(missing[self.marked].T.astype(np.float32))
        return x, torch.tensor(lengths)


def deviation(values: np.ndarray) -> np.ndarray:
    """Standard deviation along the last axis; 1 where values differ by no more than float64 rounds."""
    found = np.nanstd(values, axis=-1)
    return np.where(found > ROUNDING * np.nanmax(np.abs(values), axis=-1), found, 1.0)


def time_between(series: Collection, channel: int) -> list[np.ndarray]:
    """The series (C, T_i) with the time since the step before in the place of the times that a channel holds; 0 at the
    first step.

    Raises ValueError for times that are missing or go back.
    """
    changed = []
    for index, one in enumerate(series):
        values = np.array(one, np.float64)
        if not -len(values) <= channel < len(values):
            raise ValueError(f"time_channel is {channel}, but series have {len(values)} channels")
        apart = np.diff(values[channel], prepend=values[channel, :1])
        if not (apart >= 0).all():  # nor is NaN
            at = int((~(apart >= 0)).argmax())
            after = f", after {values[channel, at - 1]}" if at else ""
            raise ValueError(
                f"series {index + 1} has the time {values[channel, at]} at step {at + 1}{after}; expected times in "
                f"order, none missing, in channel {channel} (time_channel)"
            )
        values[channel] = apart
        changed.append(values)
    return changed


def check_collection(X: object, name: str = "X") -> None:
    """Raise ValueError, naming the series, where some are empty, do not belong together, or hold nothing to read."""
    if isinstance(X, np.ndarray):
        if 0 in X.shape:
            raise ValueError(f"{name} has shape {X.shape}: there is nothing in it; expected (series, channels, steps)")
        arrays = [np.atleast_2d(one) for one in X]
    elif isinstance(X, list | tuple):
        if not X:
            raise ValueError(f"{name} is an empty list; expected one array (channels, steps) for each series")
        for index, one in enumerate(X):
            if 0 in np.shape(one):
                raise ValueError(f"{name}[{index}] has shape {np.shape(one)}: it is empty; leave it out")
        arrays = [np.atleast_2d(one) for one in X if isinstance(one, np.ndarray)]
        for index, one in enumerate(arrays):
            if len(one) != len(arrays[0]):
                raise ValueError(
                    f"{name}[{index}] has {len(one)} channels and {name}[0] {len(arrays[0])}; expected the same"
                )
    else:
        return
    numbers = [one for one in arrays if one.dtype.kind in "iuf"]  # aeon says what it thinks of the rest
    if numbers:
        check_finite(numbers, name)


def check_finite(series: Collection, name: str = "X") -> None:
    """Raise ValueError where series (C, T_i) have infinite values."""
    if any(np.isinf(one).any() for one in series):
        raise ValueError(f"{name} has infinite values; replace them, or mark them as missing with NaN")
