"""What `forecast` does with the series of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minrnn.errors import UserError

from ._series_tasks import Baselines, Figures, Split

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from minrnn.series import Backtest

WINDOWS = 1000  # forecasts that are measured in each series, at most


class Forecasts:
    """Series to be continued; what is held out is the end of each."""

    def __init__(self, source: str, noted: dict[str, Any]) -> None:
        from minrnn.data._series import Layout, load_observed

        names = ("channels", "series", "time", "known", "static", "ignore", "ignore_absent")
        self.data = load_observed(source, Layout(**{name: noted[name] for name in names if name in noted}))
        self.noted = noted | {"channels": self.data.channels}
        self.summary = f"{source}: {self.data}"

    def fit(self, estimator: Any) -> None:
        if self.noted["held_out"]:
            for at in range(len(self.data.series)):
                self._forecast_part(at, "val", estimator)  # what cannot be measured is not learned first
        ends = [self._cut(one) for one in self.data.series]
        known = self.data.known
        estimator.fit_many(
            [one[:, :end] for one, end in zip(self.data.series, ends, strict=True)],
            known and [one[:, :end] for one, end in zip(known, ends, strict=True)],
            self.data.static,
        )

    def _static(self, at: int) -> np.ndarray | None:
        """Of one series: (S,)."""
        return None if self.data.static is None else self.data.static[at]

    def _cut(self, one: np.ndarray) -> int:
        """Where what is held out of a series begins."""
        return int(one.shape[1] - round(self.noted["held_out"] * one.shape[1]))

    def _forecast_part(self, at: int, split: Split, estimator: Any) -> tuple[int, int]:
        """First step and end of what is forecast of a series. Raises UserError where that is less than one horizon."""
        T, cut, N = self.data.series[at].shape[1], self._cut(self.data.series[at]), estimator.horizon
        first = cut if split == "val" else estimator.context_
        end = cut if split == "train" else T
        if end - first < N:
            raise UserError(
                f"series {self.data.names[at]} has {T} steps, {end - first} of them to be forecast; expected {N} or "
                "more, the horizon; give a longer series, a larger --held-out or a shorter --horizon"
            )
        return first, end

    def figures(self, estimator: Any, split: Split, baselines: Baselines | None = None) -> Figures:
        import numpy as np

        tested, errors = [], []
        N = estimator.horizon
        if baselines is not None:
            from minrnn.series._baselines import Ridge

            baselines.busy("ridge regression")
            ridge = Ridge(estimator, [one[:, : baselines.data._cut(one)] for one in baselines.data.data.series])
        for at, one in enumerate(self.data.series):
            first, end = self._forecast_part(at, split, estimator)
            known = None if self.data.known is None else self.data.known[at][:, :end]
            stride = -(-(end - first - N + 1) // WINDOWS)
            tested.append(estimator.backtest(one[:, :end], known, self._static(at), start=first, stride=stride))
            if baselines is not None:
                errors.append(((ridge.forecasts(one, tested[-1].origins) - tested[-1].actual) ** 2).reshape(-1))
        found = _pooled(tested)
        values = {
            "forecasts": len(found.origins),
            "horizon": N,
            "mse": found.mse,
            "mae": found.mae,
            "mse_of_last_value": found.mse_of_last_value,
            "below": {f"{level:g}": share for level, share in found.below.items()},
        }
        line = (
            f"mean squared error {found.mse:.4g} in {len(found.origins):,} forecasts of {N} steps "
            f"(the last value: {found.mse_of_last_value:.4g})"
        )
        shares = ", ".join(f"{share:.1%} below the quantile {level:g}" for level, share in found.below.items())
        text = line
        if errors:
            values["baselines"] = {"ridge regression": float(np.nanmean(np.concatenate(errors)))}
            text += f"\nridge regression: mean squared error {values['baselines']['ridge regression']:.4g}"
        text += f"\nmean absolute error {found.mae:.4g}" + (f"\n{shares}" if shares else "")
        return Figures(values, line, text, lambda figure: _draw_forecast(figure, tested[0], self.data, line))

    def answers(self, estimator: Any) -> pd.DataFrame:
        import pandas as pd

        N, C = estimator.horizon, len(self.data.channels)
        parts = []
        for at, (one, name) in enumerate(zip(self.data.series, self.data.names, strict=True)):
            known = None
            if self.data.known is not None:
                known = self.data.known[at][:, : one.shape[1] + N]
            seen = (one, known, self._static(at))
            mean, quantiles = estimator.predict_path(*seen), estimator.predict_quantiles(*seen)
            columns = {
                "series": name,
                "channel": [channel for channel in self.data.channels for _ in range(N)],
                "step": self.data.clocks[at].after(N) * C,
                "mean": mean.reshape(-1),
            }
            for row, level in enumerate(sorted(estimator.quantiles)):
                columns[f"quantile {level:g}"] = quantiles[:, row].reshape(-1)
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    def read_some(self, estimator: Any, sequences: int, steps: int) -> str:
        few, known, N = self.data.series[:sequences], self.data.known, estimator.horizon
        if known is not None:  # of the steps to come as well
            few = [y[:, : one.shape[1] - N] for y, one in zip(few, known, strict=False)]
            known = [one[:, : y.shape[1] + N] for y, one in zip(few, known, strict=False)]
        estimator._answers(
            few,
            known,
            None if self.data.static is None else self.data.static[:sequences],
        )
        patch = f"a step of the network is {estimator.patch} of them"
        return f"the last {estimator.context_} steps of {len(few)} series; {patch}"


def _pooled(tested: Sequence[Backtest]) -> Backtest:
    """Those of several series as one."""
    import numpy as np

    from minrnn.series import Backtest

    names = ("origins", "actual", "mean", "quantiles", "last")
    joined = {name: np.concatenate([getattr(one, name) for one in tested]) for name in names}
    return Backtest(**joined, levels=tested[0].levels)


def _draw_forecast(figure: Figure, tested: Backtest, data: Any, title: str) -> None:
    """The last forecast of the first series, beside what came."""
    import numpy as np

    shown = min(len(data.channels), 3)
    N = tested.mean.shape[2]
    origin = int(tested.origins[-1])
    for row, axes in enumerate(np.atleast_1d(figure.subplots(shown, 1, sharex=True))):
        before = np.arange(max(0, origin - 3 * N), origin + N)
        axes.plot(before, data.series[0][row, before], color="black", linewidth=1, label="what came")
        ahead = np.arange(origin, origin + N)
        axes.plot(ahead, tested.mean[-1, row], color="tab:blue", label="forecast")
        if len(tested.levels) > 1:
            low, high = tested.quantiles[-1, row, 0], tested.quantiles[-1, row, -1]
            label = f"quantiles {tested.levels[0]:g} to {tested.levels[-1]:g}"
            axes.fill_between(ahead, low, high, color="tab:blue", alpha=0.2, label=label)
        axes.set_ylabel(data.channels[row])
    axes.set_xlabel("step")
    figure.suptitle(title)
    figure.axes[0].legend(loc="upper left", fontsize="small")
