"""Simpler methods to be measured against."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._collection import Collection, Scale
from ._forecaster import MinRNNForecaster

WINDOW = 0.1  # of the length, which warping is kept in
MOST_CELLS = 2e10  # of all warping matrices together: about a minute
MOST_SERIES = 10_000  # each becomes 10,000 features of MiniRocket
MOST_WINDOWS = 60_000  # that ridge regression learns from
SHORTEST = 9  # steps that MiniRocket needs


def label_baselines(
    task: str, X: Collection, y: np.ndarray, X_new: Collection, busy: Callable[[str], None] = lambda words: None
) -> dict[str, np.ndarray | None]:
    """What the nearest neighbour and MiniRocket answer for X_new after learning from X and y, by their names; None
    where there are too many series to wait for.

    Missing values are taken as the mean of their channel, and shorter series as going on with it. `task` is classify or
    regress.
    """
    scale = Scale.of(X)
    near, far = (_filled(part, scale, SHORTEST) for part in (X, X_new))
    equal = _equal([*near, *far])
    cells = sum(one.size for one in near) * sum(one.size for one in far) * 2 * WINDOW / len(scale.mean)
    found: dict[str, np.ndarray | None] = {}
    for name, make, parts, much in (
        ("nearest neighbour (DTW)", _nearest, (near, far), cells > MOST_CELLS),
        ("MiniRocket", _rocket, (equal[: len(near)], equal[len(near) :]), len(equal) > MOST_SERIES),
    ):
        busy(name)
        with warnings.catch_warnings():  # what these methods think of the data
            warnings.simplefilter("ignore")
            found[name] = None if much else np.asarray(make(task).fit(parts[0], y).predict(parts[1]))
    return found


class Ridge:
    """Ridge regression from the K steps that a forecaster reads to its N, one for all channels, on values scaled as the
    forecaster's; missing values are the channel's mean. `learned` are series (C, T_i).
    """

    def __init__(self, forecaster: MinRNNForecaster, learned: Sequence[np.ndarray]) -> None:
        from sklearn.linear_model import Ridge

        self.K, self.N, self.scale = forecaster.context_, forecaster.horizon, forecaster.scales_.series
        windows = np.concatenate([_windows(self._filled(one), self.K + self.N) for one in learned])
        windows = windows[:: -(-len(windows) // MOST_WINDOWS)]
        self.model = Ridge().fit(windows[:, : self.K], windows[:, self.K :])

    def forecasts(self, series: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """Of a series (C, T), from each origin: (W, C, N)."""
        padded = np.pad(self._filled(series), ((0, 0), (self.K, 0)))  # the mean, before the first step
        past = np.stack([padded[:, origin : origin + self.K] for origin in origins])  # (W, C, K)
        ahead = self.model.predict(past.reshape(-1, self.K)).reshape(*past.shape[:2], self.N)
        return np.asarray(self.scale.mean[:, None] + self.scale.deviation[:, None] * ahead)

    def _filled(self, series: np.ndarray) -> np.ndarray:
        return np.asarray(np.nan_to_num(self.scale.scaled(series)))


def _windows(values: np.ndarray, steps: int) -> np.ndarray:
    """(C, T) -> (C * W, steps), one from each start."""
    if values.shape[1] < steps:
        return np.zeros((0, steps))
    return np.lib.stride_tricks.sliding_window_view(values, steps, axis=1).reshape(-1, steps)


def _nearest(task: str) -> Any:
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier
    from aeon.regression.distance_based import KNeighborsTimeSeriesRegressor

    kind = KNeighborsTimeSeriesClassifier if task == "classify" else KNeighborsTimeSeriesRegressor
    return kind(distance="dtw", distance_params={"window": WINDOW}, n_neighbors=1, n_jobs=-1)


def _rocket(task: str) -> Any:
    from aeon.classification.convolution_based import MiniRocketClassifier
    from aeon.regression.convolution_based import MiniRocketRegressor

    kind = MiniRocketClassifier if task == "classify" else MiniRocketRegressor
    return kind(random_state=0, n_jobs=-1)


def _filled(X: Collection, scale: Scale, shortest: int) -> list[np.ndarray]:
    """Each of `shortest` steps at least, with the channel's mean where there is no value."""
    mean = scale.mean[:, None]
    filled = []
    for one in X:
        values = np.where(np.isnan(one), mean, one)
        ahead = np.repeat(mean, max(0, shortest - values.shape[1]), axis=1)
        filled.append(np.concatenate([values, ahead], axis=1))
    return filled


def _equal(X: Sequence[np.ndarray]) -> np.ndarray:
    """(N, C, T), with zeros after each series' end: MiniRocket takes equal lengths alone."""
    longest = max(one.shape[1] for one in X)
    return np.stack([np.pad(one, ((0, 0), (0, longest - one.shape[1]))) for one in X])
