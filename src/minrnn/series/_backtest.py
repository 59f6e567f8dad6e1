from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Backtest:
    """Forecasts from W places of one series, beside what came (see `MinRNNForecaster.backtest`).

    Attributes:
        origins: steps that were seen before each forecast, (W,).
        actual: what came, NaN where it is missing, (W, C, N).
        mean: the forecasts, (W, C, N).
        quantiles: in ascending order, (W, C, Q, N).
        levels: of the quantiles, in ascending order, (Q,).
        last: the last value that was seen, NaN where it is missing, (W, C).
    """

    origins: np.ndarray
    actual: np.ndarray
    mean: np.ndarray
    quantiles: np.ndarray
    levels: np.ndarray
    last: np.ndarray

    @property
    def mse(self) -> float:
        """Mean squared error of the forecasts."""
        return float(np.nanmean((self.mean - self.actual) ** 2))

    @property
    def mae(self) -> float:
        """Mean absolute error of the forecasts."""
        return float(np.nanmean(np.abs(self.mean - self.actual)))

    @property
    def mse_of_last_value(self) -> float:
        """Mean squared error of saying that everything stays as it is."""
        return float(np.nanmean((self.last[:, :, None] - self.actual) ** 2))

    @property
    def below(self) -> dict[float, float]:
        """For each level, the share of what came that was not above the quantile: close to the level if it is right."""
        known = ~np.isnan(self.actual)[:, :, None]  # (W, C, 1, N)
        hit = (self.actual[:, :, None] <= self.quantiles) & known
        shares = hit.sum(axis=(0, 1, 3)) / known.sum()
        return {float(level): float(share) for level, share in zip(self.levels, shares, strict=True)}
