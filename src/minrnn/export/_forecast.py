from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..series import MinRNNForecaster
from ..series._collection import Scale
from ..series._forecast_network import ForecastNetwork
from ._label import random_values, scale_record
from ._places import beside
from ._ports import Graph, Port
from ._source import Arrays, Run
from ._stepped import check_mixers, stepped


class _Scaled(nn.Module):
    """x (B, C, ...) float64 as it is -> (x - mean) / deviation of its channel in float32."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(scale.mean)[:, None])
        self.register_buffer("deviation", torch.from_numpy(scale.deviation)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.deviation).float()


class _Forecast(nn.Module):
    """past (B, C, K), covariates (B, E, K + N) and static (B, S), where there are some -> answers (B, C, 1 + Q, N)."""

    def __init__(self, estimator: MinRNNForecaster, network: ForecastNetwork) -> None:
        super().__init__()
        scales = estimator.scales_
        self.network, self.series = network, _Scaled(scales.series)
        self.covariates = None if scales.covariates is None else _Scaled(scales.covariates)
        self.static = None if scales.static is None else _Scaled(scales.static)

    def forward(self, past: Tensor, *known: Tensor) -> tuple[Tensor]:
        B, C, K = past.shape
        N, rest = self.network.horizon, list(known)
        covariates, static = past.new_zeros(B, 0, K + N).float(), past.new_zeros(B, 0).float()
        if self.covariates is not None:
            covariates = self.covariates(rest.pop(0)).nan_to_num(0.0)
        if self.static is not None:
            static = self.static(rest.pop(0)[:, :, None])[:, :, 0].nan_to_num(0.0)
        of_each = covariates.transpose(1, 2)[:, None].expand(-1, C, -1, -1).flatten(0, 1)  # (B * C, K + N, E)
        y = self.network(
            self.series(past).flatten(0, 1), of_each, static[:, None].expand(-1, C, -1).flatten(0, 1)
        )  # (B * C, 1 + Q, N)
        if y.shape[1] > 1:
            y = torch.cat([y[:, :1], y[:, 1:].sort(dim=1).values], dim=1)
        y = y.unflatten(0, (B, C)).double()
        return (self.series.mean[:, :, None] + self.series.deviation[:, :, None] * y,)


class Forecast:
    """A forecaster as a `Source`; it reads its last K steps at once, so that there is no step graph."""

    task = "forecast"

    def __init__(self, estimator: MinRNNForecaster) -> None:
        check_mixers(estimator.network_)
        self.estimator = estimator
        self.K, self.N, self.scales = estimator.context_, estimator.horizon, estimator.scales_

    def graphs(self, *, exported: bool) -> dict[str, Graph]:
        network, scales = self.estimator.network_, self.scales
        C, K, N = len(scales.series.mean), self.K, self.N
        inputs = [Port("past", ("B", C, K), torch.float64)]
        if scales.covariates is not None:
            inputs.append(Port("covariates", ("B", len(scales.covariates.mean), K + N), torch.float64))
        if scales.static is not None:
            inputs.append(Port("static", ("B", len(scales.static.mean)), torch.float64))
        answers = Port("answers", ("B", C, network.answers, N), torch.float64)
        module = _Forecast(self.estimator, stepped(network) if exported else network)
        unit = scales.series.deviation[:, None, None]
        return {"sequence": Graph("sequence", module, tuple(inputs), (answers,), unit=unit)}

    def record(self) -> dict[str, Any]:
        return {
            "channels": scale_record(self.scales.series),
            "context": self.K,
            "horizon": self.N,
            "answers": ["mean", *(f"quantile {level:g}" for level in sorted(self.estimator.quantiles))],
            "missing": "NaN; a past of fewer steps has NaN before it, and what is known in advance counts as its mean",
            "no_step": "a forecaster reads its last steps at once",
        }

    def files(self) -> dict[str, Path]:
        return {"run.py": beside("forecast.py"), "values.py": beside("values.py")}

    def vocabulary(self) -> None:
        return None

    def random(self, rng: np.random.Generator, B: int, T: int) -> Arrays:
        """Of the T steps of a past, at most K, those before it are missing."""
        scales = self.scales
        past = random_values(rng, scales.series, (B, self.K)).transpose(0, 2, 1)
        past[:, :, : max(self.K - T, 0)] = np.nan
        arrays = {"past": past}
        if scales.covariates is not None:
            known = rng.normal(size=(B, len(scales.covariates.mean), self.K + self.N))
            arrays["covariates"] = scales.covariates.mean[:, None] + scales.covariates.deviation[:, None] * known
        if scales.static is not None:
            known = rng.normal(size=(B, len(scales.static.mean)))
            arrays["static"] = scales.static.mean + scales.static.deviation * known
        return arrays

    def score(self, sequence: Run, held_out: tuple[list[Arrays], np.ndarray]) -> tuple[str, float]:
        windows, targets = held_out  # (windows, C, N)
        means = np.concatenate([sequence(window)["answers"][:, :, 0] for window in windows])
        error = (means - targets) / self.scales.series.deviation[:, None]
        figure = float(np.nanmean(error**2))
        return f"mean squared error in units of the channels' variances, over {len(targets):,} forecasts", figure

    def invented(self) -> tuple[tuple[list[Arrays], np.ndarray], str]:
        rng = np.random.default_rng(0)
        windows = [self.random(rng, 1, self.K) for _ in range(200)]
        module = self.graphs(exported=False)["sequence"].module
        with torch.inference_mode():
            answers = [module(*(torch.from_numpy(array) for array in window.values()))[0] for window in windows]
        return (windows, torch.cat(answers)[:, :, 0].numpy()), "random pasts with the run's own forecasts"
