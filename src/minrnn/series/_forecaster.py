from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from aeon.forecasting.base import BaseForecaster, DirectForecastingMixin, SeriesToSeriesForecastingMixin
from aeon.utils.validation import check_n_jobs
from sklearn.utils import check_random_state
from torch import Tensor

from ._backtest import Backtest
from ._collection import check_collection
from ._forecast_network import ForecastNetwork
from ._learning import Plan, answers, begun_from, check_ranges, kept_through_reset, learn, processors, seeded
from ._windows import Scales, Windows, all_windows

OF_THE_NETWORK = ("patch", "mixer", "width", "layers", "conv", "mlp", "dropout")


class MinRNNForecaster(SeriesToSeriesForecastingMixin, DirectForecastingMixin, BaseForecaster):
    """Says how a time series goes on, with quantiles.

    Channels are read one by one by the same `ForecastNetwork`, which has all `horizon` steps for its answer. It learns
    from all windows of `context` and `horizon` steps, of one series or of many. Values may be missing (NaN).

    Args:
        horizon: steps N to forecast.
        context: steps K that are read; fewer where a series is too short for that many and the horizon.
        quantiles: levels, each more than 0 and less than 1, which `predict_quantiles` answers with.
        mixer, width, layers, conv, mlp, dropout: see `MinRNNClassifier`.
        patch: steps that the network reads at once.
        steps: updates.
        learning_rate, batch_size: see `MinRNNClassifier`; a batch is of windows.
        early_stopping: hold out the last `validation_fraction` of each series' windows, keep the weights with the
            lowest loss on them, and stop after `patience` evaluations (of 20) without a lower one.
        warm_start: `fit` goes on from the network, and keeps the context and the scales, of the last `fit`; the last
            layers begin anew where the horizon or the number of quantiles is another.
        validation_fraction, patience, random_state, n_jobs, verbose: see `MinRNNClassifier`.

    Attributes:
        network_: the `ForecastNetwork`.
        context_: steps that are read.
        scales_: mean and deviation of each channel of the series, the covariates and the static values.
        curve_: step, loss and held-out loss of each evaluation.

    Series are `(steps,)` or `(channels, steps)` arrays, and what else aeon converts. As aeon has it, `fit(y, exog)`
    learns from one series, `predict(y, exog)` is the value of the first channel `horizon` steps after y, and
    `forecast(y, exog)` both. `predict_path` and `predict_quantiles` have all steps and channels; `fit_many` learns
    from many series. `exog` `(E, steps)` is known in advance, so that a prediction takes it for the steps of y *and*
    the `horizon` steps after.

    Raises:
        ValueError: too short a series, another number of channels or covariates, a channel without values, infinite
            values, a parameter out of range.

    Example:
        >>> y = np.sin(np.arange(300) / 5)
        >>> forecaster = MinRNNForecaster(horizon=12, context=48, steps=20, random_state=0).fit(y)
        >>> forecaster.predict_path(y).shape
        (1, 12)
    """

    _tags = {  # noqa: RUF012
        "capability:multivariate": True,
        "capability:missing_values": True,
        "capability:exogenous": True,
        "capability:multithreading": True,
    }

    def __init__(
        self,
        horizon: int = 1,
        *,
        context: int = 336,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        mixer: str = "mingru",
        patch: int = 8,
        width: int = 32,
        layers: int = 1,
        conv: int = 4,
        mlp: float = 2.0,
        dropout: float = 0.2,
        steps: int = 1000,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = 1,
        verbose: bool = False,
    ) -> None:
        self.context = context
        self.quantiles = quantiles
        self.mixer = mixer
        self.patch = patch
        self.width = width
        self.layers = layers
        self.conv = conv
        self.mlp = mlp
        self.dropout = dropout
        self.steps = steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        super().__init__(horizon=horizon, axis=1)

    def reset(self, keep: str | list[str] | None = None) -> Any:
        """Forget what was learned; with `warm_start` all but the network, the scales and the context."""
        return super().reset(kept_through_reset(self, keep, ("network_", "scales_", "context_")))

    def fit_many(
        self,
        series: Sequence[np.ndarray],
        exog: Sequence[np.ndarray] | None = None,
        static: np.ndarray | None = None,
    ) -> MinRNNForecaster:
        """Learn from many series at once.

        Args:
            series: (C, T_i) or (T_i,) each.
            exog: covariates of each, (E, T_i) or (T_i,).
            static: what is known of each as a whole, (number of series, S).
        """
        self.reset()
        self._learn(*self._collected(series, exog), static)
        self.metadata_ = {"n_channels": len(self.scales_.series.mean)}
        self.is_fitted = True
        return self

    def predict_path(self, y: Any, exog: Any = None, static: np.ndarray | None = None, *, axis: int = 1) -> np.ndarray:
        """The mean of each of the next steps: (C, N).

        Args:
            y: what was seen so far, of any length.
            exog: covariates of the steps of y and of the N after it.
            static: (S,) of the series.
            axis: of time in y and exog, as in aeon.
        """
        return np.asarray(self._predicted(y, exog, static, axis)[:, 0])

    def predict_quantiles(
        self, y: Any, exog: Any = None, static: np.ndarray | None = None, *, axis: int = 1
    ) -> np.ndarray:
        """The `quantiles` of each of the next steps, in ascending order: (C, Q, N). Arguments: see `predict_path`."""
        return np.asarray(self._predicted(y, exog, static, axis)[:, 1:])

    def predict_many(
        self,
        series: Sequence[np.ndarray],
        exog: Sequence[np.ndarray] | None = None,
        static: np.ndarray | None = None,
    ) -> np.ndarray:
        """The mean of each of the next steps of each series: (number of series, C, N). Arguments: see `fit_many`."""
        self._check_is_fitted()
        return np.asarray(self._answers(*self._collected(series, exog), static)[:, :, 0])

    def backtest(
        self, y: Any, exog: Any = None, static: np.ndarray | None = None, *, start: int, stride: int = 1, axis: int = 1
    ) -> Backtest:
        """Forecast from every `stride`-th step of a series as if what is after it were not known, and compare.

        Args:
            y: the series; what `fit` learned from is best left before `start`.
            exog: covariates of the steps of y.
            static: (S,) of the series.
            start: steps that are seen before the first forecast.
            stride: steps from one forecast to the next.
            axis: of time in y and exog, as in aeon.

        Raises:
            ValueError: `start` and the horizon do not fit into y.

        Example:
            >>> y = np.sin(np.arange(400) / 5)
            >>> forecaster = MinRNNForecaster(horizon=12, context=48, steps=20, random_state=0).fit(y[:300])
            >>> forecaster.backtest(y, start=300).mean.shape
            (89, 1, 12)
        """
        self._check_is_fitted()
        y, exog = self._preprocess_forecasting_input(y, exog, axis, False)
        K, N, T = self.context_, self.horizon, y.shape[1]
        if not 1 <= start <= T - N or stride < 1:
            raise ValueError(
                f"start is {start} and stride {stride}; expected a start from 1 to {T - N}, {N} steps before the end "
                "of y, and a stride of 1 or more"
            )
        origins = np.arange(start, T - N + 1, stride)
        seen = [y[:, max(0, at - K) : at] for at in origins]
        known = None if exog is None else [exog[:, max(0, at - K) : at + N] for at in origins]
        rows = None if static is None else np.repeat(np.asarray(static, np.float64)[None], len(origins), axis=0)
        forecasts = self._answers(seen, known, rows)  # (W, C, 1 + Q, N)
        return Backtest(
            origins=origins,
            actual=np.stack([y[:, at : at + N] for at in origins]),
            mean=forecasts[:, :, 0],
            quantiles=forecasts[:, :, 1:],
            levels=np.sort(np.asarray(self.quantiles, np.float64)),
            last=np.stack([one[:, -1] for one in seen]),
        )

    def _predicted(self, y: Any, exog: Any, static: np.ndarray | None, axis: int) -> np.ndarray:
        """(C, 1 + Q, N)"""
        self._check_is_fitted()
        y, exog = self._preprocess_forecasting_input(y, exog, axis, False)
        rows = None if static is None else np.asarray(static, np.float64)[None]
        return np.asarray(self._answers([y], None if exog is None else [exog], rows)[0])

    def _fit(self, y: np.ndarray, exog: np.ndarray | None) -> MinRNNForecaster:
        self._learn([y], None if exog is None else [exog], None)
        return self

    def _predict(self, y: np.ndarray, exog: np.ndarray | None) -> float:
        return float(self._answers([y], None if exog is None else [exog], None)[0, 0, 0, -1])

    def _forecast(self, y: np.ndarray, exog: np.ndarray | None) -> float:
        self._fit(y, None if exog is None else exog[:, : y.shape[1]])
        return self._predict(y, exog)

    def _series_to_series_forecast(self, y: Any, prediction_horizon: int, exog: Any) -> np.ndarray:
        forecaster = self.clone()
        forecaster.horizon = prediction_horizon
        forecaster.forecast(y, exog)
        return forecaster.predict_path(y, exog)[0]  # type: ignore[no-any-return]

    def _learn(
        self, series: Sequence[np.ndarray], exog: Sequence[np.ndarray] | None, static: np.ndarray | None
    ) -> None:
        check_ranges(self)
        levels = torch.tensor(tuple(self.quantiles), dtype=torch.float32)
        if not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"quantiles are {tuple(self.quantiles)}; expected levels of more than 0 and less than 1")
        shortest = min(one.shape[1] for one in series)
        if shortest <= self.horizon:
            raise ValueError(f"a series has {shortest} steps; a horizon of {self.horizon} needs {self.horizon + 1}")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        earlier = getattr(self, "network_", None) if self.warm_start else None
        if earlier is None:
            self.context_ = min(self.context, (shortest - self.horizon + 1) // 2 or 1)
            self.scales_ = Scales.of(series, exog, static)
        elif shortest < self.context_ + self.horizon:
            raise ValueError(
                f"a series has {shortest} steps; warm_start goes on from a context of {self.context_} and needs "
                f"{self.context_ + self.horizon} with the horizon"
            )
        tensors = self.scales_.apply(series, exog, static)
        share = self.validation_fraction if self.early_stopping else 0.0
        learned, held = all_windows(tensors[0], self.context_, self.horizon, share)
        if not len(learned):
            raise ValueError(
                f"the shortest series has {shortest} steps, too few for a horizon of {self.horizon} and a held-out "
                "part; give longer series, or early_stopping=False"
            )
        plan = Plan.of(self, self.steps, seed)
        with processors(check_n_jobs(self.n_jobs)), seeded(seed):
            self.network_ = begun_from(earlier, self._network(), ("head", "direct"))
            windows = partial(Windows, *tensors, self.context_, self.horizon)
            held_out = windows(held) if len(held) else None
            loss = partial(_loss, levels=levels)
            self.curve_ = learn(self.network_, windows(learned), loss, plan, held_out, self.verbose)

    def _network(self) -> ForecastNetwork:
        """A fresh one, for what `scales_` is of."""
        scales = self.scales_
        return ForecastNetwork(
            self.context_,
            self.horizon,
            1 + len(tuple(self.quantiles)),
            covariates=0 if scales.covariates is None else len(scales.covariates.mean),
            static=0 if scales.static is None else len(scales.static.mean),
            marks=bool(scales.series.marked.any()),
            **{name: getattr(self, name) for name in OF_THE_NETWORK},
        )

    def _answers(
        self, series: Sequence[np.ndarray], exog: Sequence[np.ndarray] | None, static: np.ndarray | None
    ) -> np.ndarray:
        """(number of series, C, 1 + Q, N), quantiles in ascending order."""
        K, N = self.context_, self.horizon
        ready, covariates, rows = self.scales_.apply(series, exog, static, ahead=N)
        cut = [F.pad(one, (K, N), value=torch.nan)[:, -K - N :] for one in ready]
        known = [F.pad(one, (K, 0))[:, -K - N :] for one in covariates]
        scale = self.scales_.series
        C = len(scale.mean)
        places = torch.cartesian_prod(torch.arange(len(series)), torch.arange(C), torch.arange(1))
        with processors(check_n_jobs(self.n_jobs)):
            y = answers(self.network_, Windows(cut, known, rows, K, N, places))
        y = torch.cat([y[:, :1], y[:, 1:].sort(dim=1).values], dim=1)
        values = y.view(len(series), C, *y.shape[1:]).double().numpy()
        return np.asarray(scale.mean[:, None, None] + scale.deviation[:, None, None] * values)

    @staticmethod
    def _collected(
        series: Sequence[np.ndarray], exog: Sequence[np.ndarray] | None
    ) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
        """As (C, T_i) each."""
        check_collection(list(series), "series")
        return [np.atleast_2d(one) for one in series], None if exog is None else [np.atleast_2d(one) for one in exog]

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        """What aeon's checks fit with."""
        return {"width": 8, "context": 8, "steps": 10}


def _loss(y: Tensor, targets: Tensor, levels: Tensor) -> Tensor:
    """Squared error of the mean and pinball loss of each quantile, over the steps that are known.

    y (B, 1 + Q, N), targets (B, N) -> (B,)
    """
    known = ~targets.isnan()
    error = torch.where(known, targets, 0.0)[:, None] - y  # (B, 1 + Q, N)
    pinball = torch.maximum(levels[:, None] * error[:, 1:], (levels[:, None] - 1) * error[:, 1:])
    each = error[:, 0].square() + (2 * pinball.mean(dim=1) if len(levels) else 0.0)
    return (each * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
