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
MOST_VALUES = 1e8  # of series as long as the longest
MOST_WINDOWS = 60_000  # that ridge regression learns from
SHORTEST = 9  # steps that MiniRocket needs


def label_baselines(
    task: str, X: Collection, y: np.ndarray, X_new: Collection, busy: Callable[[str], None] = lambda words: None
) -> dict[str, np.ndarray | None]:
    """What the nearest neighbour and MiniRocket answer for X_new after learning from X and y, by their names; None
    where there are too many series to wait for.

    Values are as they are, which is what published figures of both are of; missing ones are taken as the mean of their
    channel. `task` is classify or regress.
    """
    scale = Scale.of(X)
    near, far = (_filled(part, scale) for part in (X, X_new))
    count, longest = len(near) + len(far), max(one.shape[1] for one in (*near, *far))
    cells = sum(one.shape[1] for one in near) * sum(one.shape[1] for one in far) * 2 * WINDOW * len(scale.mean)
    slow, large = cells > MOST_CELLS, count > MOST_SERIES or count * longest * len(scale.mean) > MOST_VALUES
    found: dict[str, np.ndarray | None] = {}
    for name, make, made, much in (
        ("nearest neighbour (DTW)", _nearest, lambda: (near, far), slow),
        ("MiniRocket", _rocket, lambda: (_equal(near, longest), _equal(far, longest)), large),
    ):
        busy(name)
        with warnings.catch_warnings():  # what these methods think of the data
            warnings.simplefilter("ignore")
            if much:
                found[name] = None
                continue
            learned, new = made()
            found[name] = np.asarray(make(task).fit(learned, y).predict(new))
    return found


class Ridge:
    """Ridge regression from the K steps that a forecaster reads to its N, one for all channels, on values scaled as the
    forecaster's; missing values are the channel's mean. `learned` are series (C, T_i).
    """

    def __init__(self, forecaster: MinRNNForecaster, learned: Sequence[np.ndarray]) -> None:
        from sklearn.linear_model import Ridge

        self.K, self.N, self.scale = forecaster.context_, forecaster.horizon, forecaster.scales_.series
        steps = self.K + self.N
        count = sum(len(one) * max(0, one.shape[1] - steps + 1) for one in learned)
        every = -(-count // MOST_WINDOWS) or 1
        windows = np.concatenate([_windows(self._filled(one), steps)[:, ::every].reshape(-1, steps) for one in learned])
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
    """(C, T) -> (C, W, steps), one from each start, not copied."""
    if values.shape[1] < steps:
        return np.zeros((len(values), 0, steps))
    return np.lib.stride_tricks.sliding_window_view(values, steps, axis=1)


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


def _filled(X: Collection, scale: Scale) -> list[np.ndarray]:
    """Each of `SHORTEST` steps at least, with the channel's mean where there is no value."""
    mean = scale.mean[:, None]
    filled = [np.where(np.isnan(one), mean, one) for one in X]
    return [np.append(one, np.repeat(mean, max(0, SHORTEST - one.shape[1]), axis=1), axis=1) for one in filled]


def _equal(X: Sequence[np.ndarray], steps: int) -> np.ndarray:
    """(N, C, T), going on with 0 after each series' end: MiniRocket takes equal lengths alone."""
    return np.stack([np.pad(one, ((0, 0), (0, steps - one.shape[1]))) for one in X])
