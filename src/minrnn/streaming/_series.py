from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from minrnn.errors import UserError

from ..series import MinRNNClassifier, MinRNNForecaster, MinRNNRegressor
from ..series._network import SeriesState

LARGEST = 1e15
"""Deviations from the mean: sums of many squares of it are far from where float32 ends, in which norms compute."""


class Label(NamedTuple):
    """What is said of a series so far."""

    answer: Any
    """The class, or the number."""
    probabilities: dict[Any, float]
    """Of each class; empty for numbers."""


class Forecast(NamedTuple):
    """How a series goes on, and how surprising its newest value was."""

    mean: np.ndarray  # (C, N)
    quantiles: np.ndarray  # in ascending order, (C, Q, N)
    score: float | None
    """How far the newest values lie from the mean that was forecast for them, in halves of the distance of the outer
    quantiles (more than 1: outside, where they are symmetric): the largest over the channels. Without two quantiles in
    deviations of the channel. None for the first values, and where all are missing."""


class LabelState(NamedTuple):
    """What was made of the series so far, and when its last step was."""

    network: SeriesState
    time: Tensor  # (), 0 before the first step and where no channel holds times


class LabelReader:
    """Classifies, or regresses, the series so far."""

    state: LabelState

    def __init__(self, estimator: MinRNNClassifier | MinRNNRegressor) -> None:
        if estimator.bidirectional:
            raise UserError(
                "the run reads series from both ends, so that it needs their end; train one that reads from the start "
                "(minrnn train --one-direction, or bidirectional=False)"
            )
        self.estimator = estimator

    def initial(self) -> LabelState:
        return LabelState(self.estimator.network_.initial_state(1), torch.zeros((), dtype=torch.float64))

    @torch.inference_mode()
    def push(self, value: Sequence[float]) -> Label:
        new = _checked(value, len(self.estimator.scale_.mean))
        before, channel = new.copy(), self.estimator.time_channel
        if channel is not None and self.state.network.steps.item():
            before[channel] = self.state.time.item()
        x, _ = self.estimator._scaled([np.stack([before, new], axis=1)])  # (1, 2, C)
        _check_size(new, x.numpy())
        y, network = self.estimator.network_.step(x[:, 1:], self.state.network)
        self.state = LabelState(network, self.state.time if channel is None else torch.tensor(new[channel]))
        if isinstance(self.estimator, MinRNNRegressor):
            return Label(self.estimator.target_mean_ + self.estimator.target_deviation_ * y.item(), {})
        classes = self.estimator.classes_.tolist()
        chances = y[0].double().softmax(dim=0).tolist()
        return Label(classes[int(np.argmax(chances))], dict(zip(classes, chances, strict=True)))


class ForecastState(NamedTuple):
    """The last K steps, and what was forecast of the next one."""

    values: Tensor  # (C, K), 0 where there is none
    known: Tensor  # (C, K) bool
    expected: Tensor  # of the next step: mean and half the distance of the outer quantiles, (C, 2)


class ForecastReader:
    """Forecasts from the last steps, which are all that the network reads."""

    state: ForecastState

    def __init__(self, estimator: MinRNNForecaster) -> None:
        if estimator.scales_.covariates is not None or estimator.scales_.static is not None:
            raise UserError("the run forecasts from what is known in advance, which a stream of values does not have")
        self.estimator = estimator

    def initial(self) -> ForecastState:
        C, K = len(self.estimator.scales_.series.mean), self.estimator.context_
        nothing = torch.zeros(C, K, dtype=torch.float64)
        return ForecastState(nothing, torch.zeros(C, K, dtype=torch.bool), torch.zeros(C, 2, dtype=torch.float64))

    @torch.inference_mode()
    def push(self, value: Sequence[float]) -> Forecast:
        scale = self.estimator.scales_.series
        given = _checked(value, len(scale.mean))
        _check_size(given, scale.scaled(given[:, None]))
        new = torch.from_numpy(given)  # (C,)
        known = torch.cat([self.state.known[:, 1:], ~new.isnan()[:, None]], dim=1)
        values = torch.cat([self.state.values[:, 1:], new.nan_to_num(0.0)[:, None]], dim=1)
        score = None
        if self.state.known.any() and known[:, -1].any():
            mean, half = self.state.expected.T
            score = float(((new - mean).abs() / half).nan_to_num(0.0).max())
        seen = torch.where(known, values, torch.nan).numpy()
        answers = self.estimator._answers([seen], None, None)[0]  # (C, 1 + Q, N)
        half = (answers[:, -1, 0] - answers[:, 1, 0]) / 2 if answers.shape[1] > 2 else scale.deviation
        half = np.maximum(half, 1e-6 * scale.deviation)
        self.state = ForecastState(values, known, torch.from_numpy(np.stack([answers[:, 0, 0], half], axis=1)))
        return Forecast(answers[:, 0], answers[:, 1:], score)


def _checked(value: Sequence[float], channels: int) -> np.ndarray:
    """(C,) float64"""
    try:
        found = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(f"the values are {value!r}; expected {channels} numbers, NaN where one is missing") from None
    if len(found) != channels:
        raise ValueError(f"there are {len(found)} values; expected {channels}, one for each channel")
    if np.isinf(found).any():
        raise _out_of_range(found)
    return found


def _check_size(found: np.ndarray, scaled: np.ndarray) -> None:
    """Raise ValueError for values from which a state would not recover."""
    if (np.abs(scaled) > LARGEST).any():  # NaN is not
        raise _out_of_range(found)


def _out_of_range(found: np.ndarray) -> ValueError:
    return ValueError(
        f"the values are {found.tolist()}; expected finite numbers, at most {LARGEST:g} deviations from the mean that "
        "was learned, NaN where one is missing"
    )
