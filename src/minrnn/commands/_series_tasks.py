"""What the tasks on series do with a file: fit, measure, answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from minrnn.errors import UserError

from ._table import aligned

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from minrnn.series import Backtest

Split = Literal["val", "train", "all"]
WINDOWS = 1000  # forecasts that are measured in each series, at most


@dataclass(frozen=True)
class Figures:
    """How good answers are: as JSON, in one line, in full, and as a picture."""

    values: dict[str, Any]
    line: str
    text: str
    draw: Callable[[Figure], None]


@dataclass(frozen=True)
class Baselines:
    """What simpler methods learn from: the part of `data` that was not held out. `busy` shows at which they are."""

    data: Any  # a `SeriesTask` of the same kind
    busy: Callable[[str], None]


class SeriesTask(Protocol):
    """The series of a file, and what is asked of them."""

    noted: dict[str, Any]
    """What `config.json` notes of the data."""
    summary: str
    """What was understood of the file."""

    def fit(self, estimator: Any) -> None:
        """Learn from what is not held out."""

    def figures(self, estimator: Any, split: Split, baselines: Baselines | None = None) -> Figures:
        """How good it is, and beside it what simpler methods reach."""

    def answers(self, estimator: Any) -> pd.DataFrame:
        """For all series of the file."""

    def read_some(self, estimator: Any, sequences: int, steps: int) -> str:
        """Let the network read a few stretches of equal length; what they are."""


def opened(task: str, source: str, noted: dict[str, Any]) -> SeriesTask:
    """The data of a run. Raises UserError where the file is not what it should be, or the extra is missing."""
    try:
        import minrnn.series  # noqa: F401
    except ImportError as error:
        raise UserError(str(error)) from None
    kinds: dict[str, Callable[[str, dict[str, Any]], SeriesTask]] = {
        "classify": Classes,
        "regress": Numbers,
        "forecast": Forecasts,
    }
    return kinds[task](source, noted)


@contextmanager
def one_line() -> Iterator[None]:
    """What the estimators refuse is for the person at the command line to mend."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error


class _Labelled:
    """Series with a label each."""

    kind: str

    def __init__(self, source: str, noted: dict[str, Any]) -> None:
        from minrnn.data._series import Layout, load_labelled

        names = ("target", "labelled", "channels", "series", "time", "irregular", "ignore", "ignore_absent")
        layout = Layout(**{name: noted[name] for name in names if name in noted})
        self.source = source
        self.data = load_labelled(source, layout, self.kind)
        channels = self.data.channels if layout.series else ()
        self.noted = noted | {"channels": channels, "target": self.data.target}
        self.summary = f"{source}: {self.data}"

    @property
    def y(self) -> np.ndarray:
        if self.data.y is None:
            raise UserError(f"{self.source} has no labels; name their column (--target)")
        return self.data.y

    def fit(self, estimator: Any) -> None:
        estimator.fit(*self.part("train"))

    def baselines(
        self,
        estimator: Any,
        X: list[np.ndarray],
        y: np.ndarray,
        baselines: Baselines | None,
        measure: Callable[[np.ndarray, np.ndarray], float],
        shown: str,
    ) -> tuple[dict[str, Any], str]:
        """Their `measure` of answers for X and of labels y, for JSON and as lines."""
        if baselines is None:
            return {}, ""

        from minrnn.series._baselines import label_baselines
        from minrnn.series._saving import task_of

        X_learned, y_learned = baselines.data.part("train")
        timed = [estimator._timed(one) for one in (X_learned, X)]
        answers = label_baselines(task_of(estimator), timed[0], y_learned, timed[1], baselines.busy)
        figures = {name: None if one is None else measure(one, y) for name, one in answers.items()}
        lines = [
            f"\n{name}: {'left out, for so many series' if one is None else shown.format(one)}"
            for name, one in figures.items()
        ]
        return {"baselines": figures}, "".join(lines)

    def rows(self, split: Split) -> np.ndarray:
        """Of the series of a split; each class is held out in proportion where it has enough of them, and learned from
        in any case.
        """
        import numpy as np
        from sklearn.model_selection import train_test_split

        everything = np.arange(len(self.y))
        share = self.noted["held_out"]
        if split == "all" or (split == "train" and not share):
            return everything
        if len(everything) < 2 or share == 0:
            raise UserError(f"nothing of the {len(everything)} series is held out")
        try:
            learned, held = train_test_split(
                everything, test_size=share, random_state=self.noted["seed"], stratify=self.strata()
            )
        except ValueError:  # a class of one series, or fewer held out than there are classes
            learned, held = train_test_split(everything, test_size=share, random_state=self.noted["seed"])
        if (strata := self.strata()) is not None:
            firsts = [held[strata[held] == label][0] for label in np.setdiff1d(strata[held], strata[learned])]
            learned, held = np.append(learned, firsts).astype(int), np.setdiff1d(held, firsts)
        if not len(held):
            raise UserError(
                f"no series of {self.source} is left to hold out, as each class is learned from; give more series, "
                "another --seed, or --held-out 0"
            )
        return np.sort(learned if split == "train" else held)

    def strata(self) -> np.ndarray | None:
        return None

    def read_some(self, estimator: Any, sequences: int, steps: int) -> str:
        few = self.data.series[:sequences]
        T = min(steps, *(one.shape[1] for one in few))
        estimator._answers([one[:, :T] for one in few])
        return f"the first {T} steps of {len(few)} series of {self.source}"

    def part(self, split: Split) -> tuple[list[np.ndarray], np.ndarray]:
        """The series of a split, and their labels."""
        rows = self.rows(split)
        return [self.data.series[row] for row in rows], self.y[rows]


class Classes(_Labelled):
    kind = "classes"

    def __init__(self, source: str, noted: dict[str, Any]) -> None:
        import numpy as np

        super().__init__(source, noted)
        if self.data.y is not None:
            labels, counts = np.unique(self.data.y, return_counts=True)
            shown = [f"{label} {count:,}" for label, count in zip(labels, counts, strict=True)]
            self.summary += f"; {len(labels)} classes: {_few(shown)}"
            if self.noted["held_out"] and (alone := labels[counts == 1].tolist()):
                self.summary += f"\nlearned from and not held out, as the only one of its class: {_few(alone)}"

    def strata(self) -> np.ndarray | None:
        return self.y

    def figures(self, estimator: Any, split: Split, baselines: Baselines | None = None) -> Figures:
        import numpy as np
        from sklearn.metrics import confusion_matrix, f1_score, log_loss

        X, y = self.part(split)
        classes = estimator.classes_
        y = self._as_known(y, classes)
        chances = estimator.predict_proba(X)
        answers = classes[chances.argmax(axis=1)]
        counts = confusion_matrix(y, answers, labels=classes)
        found, true = np.unique(y), counts.sum(axis=1)
        recalls = counts.diagonal()[true > 0] / true[true > 0]
        values = {
            "series": len(y),
            "accuracy": float((answers == y).mean()),
            "balanced_accuracy": float(recalls.mean()) if len(found) > 1 else None,
            "macro_f1": float(f1_score(y, answers, average="macro", labels=found)),
            "log_loss": float(log_loss(y, chances, labels=classes)),
            "commonest_class": float(true.max() / len(y)),
            "classes": classes.tolist(),
            "confusion": counts.tolist(),
        }
        simpler, simpler_lines = self.baselines(
            estimator, X, y, baselines, lambda found, y: float((found == y).mean()), "{:.1%} right"
        )
        line = (
            f"{values['accuracy']:.1%} of {len(y):,} series right "
            f"({values['commonest_class']:.1%} are of the commonest class)"
        )
        names = [str(label) for label in classes]
        more = f"macro F1 {values['macro_f1']:.3f}, log loss {values['log_loss']:.3f}"
        if values["balanced_accuracy"] is not None:
            more = f"balanced accuracy {values['balanced_accuracy']:.1%}, " + more
        rows = ["true \\ answer", *names]
        table = aligned([rows, *([name, *map(str, row)] for name, row in zip(names, counts, strict=True))])

        def draw(figure: Figure) -> None:
            from sklearn.metrics import ConfusionMatrixDisplay

            axes = figure.subplots()
            ConfusionMatrixDisplay(counts, display_labels=names).plot(ax=axes, cmap="Blues", colorbar=False)
            axes.set(xlabel="answer", ylabel="true class", title=line)

        return Figures(values | simpler, line, f"{line}{simpler_lines}\n{more}\n\n{table}", draw)

    def _as_known(self, y: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Labels as a run knows them: a file has 0 and 1 as numbers, and as words where others stand beside them."""
        import numpy as np

        known = {key(label): label for key in (_number, str) for label in classes.tolist()}
        found = [known.get(str(label), known.get(_number(label))) for label in y.tolist()]
        if None in found:
            raise UserError(
                f"{self.source} has the class {y.tolist()[found.index(None)]!r}, which the run has not seen; it knows "
                f"{classes.tolist()}"
            )
        return np.array(found, classes.dtype)

    def answers(self, estimator: Any) -> pd.DataFrame:
        import pandas as pd

        chances = estimator.predict_proba(self.data.series)
        answers = estimator.classes_[chances.argmax(axis=1)]
        columns = {f"probability of {label}": chances[:, at] for at, label in enumerate(estimator.classes_)}
        return pd.DataFrame({"series": self.data.names, "answer": answers, **columns})


class Numbers(_Labelled):
    kind = "numbers"

    def __init__(self, source: str, noted: dict[str, Any]) -> None:
        super().__init__(source, noted)
        if self.data.y is not None:
            y = self.data.y
            self.summary += f"; labels from {y.min():g} to {y.max():g}, {y.mean():g} in the mean"

    def figures(self, estimator: Any, split: Split, baselines: Baselines | None = None) -> Figures:
        import numpy as np

        X, y = self.part(split)
        answers = estimator.predict(X)
        rmse = _rmse(answers, y)
        values = {
            "series": len(y),
            "mae": float(np.abs(answers - y).mean()),
            "rmse": rmse,
            "rmse_of_mean": float(y.std()),
            "r2": float(1 - rmse**2 / y.var()) if y.var() else None,
        }
        line = f"root mean squared error {rmse:.4g} on {len(y):,} series (their mean: {values['rmse_of_mean']:.4g})"
        simpler, simpler_lines = self.baselines(estimator, X, y, baselines, _rmse, "root mean squared error {:.4g}")
        text = f"{line}{simpler_lines}\nmean absolute error {values['mae']:.4g}"
        if values["r2"] is not None:
            text += f", R squared {values['r2']:.3f}"

        def draw(figure: Figure) -> None:
            axes = figure.subplots()
            axes.scatter(y, answers, s=12, alpha=0.6)
            ends = [min(y.min(), answers.min()), max(y.max(), answers.max())]
            axes.plot(ends, ends, color="gray", linewidth=1)
            axes.set(xlabel="true", ylabel="answer", title=line)

        return Figures(values | simpler, line, text, draw)

    def answers(self, estimator: Any) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({"series": self.data.names, "answer": estimator.predict(self.data.series)})


class Forecasts:
    """Series to be continued; what is held out is the end of each."""

    def __init__(self, source: str, noted: dict[str, Any]) -> None:
        from minrnn.data._series import Layout, load_observed

        names = ("channels", "series", "time", "known", "static", "ignore", "ignore_absent")
        self.data = load_observed(source, Layout(**{name: noted[name] for name in names if name in noted}))
        self.noted = noted | {"channels": self.data.channels}
        self.summary = f"{source}: {self.data}"

    def fit(self, estimator: Any) -> None:
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

    def figures(self, estimator: Any, split: Split, baselines: Baselines | None = None) -> Figures:
        import numpy as np

        tested, errors = [], []
        N = estimator.horizon
        if baselines is not None:
            from minrnn.series._baselines import Ridge

            baselines.busy("ridge regression")
            ridge = Ridge(estimator, [one[:, : baselines.data._cut(one)] for one in baselines.data.data.series])
        for at, (one, name) in enumerate(zip(self.data.series, self.data.names, strict=True)):
            T, cut = one.shape[1], self._cut(one)
            first, end = {"val": (cut, T), "train": (estimator.context_, cut), "all": (estimator.context_, T)}[split]
            if end - first < N:
                raise UserError(
                    f"series {name} has {T} steps, {end - first} of them to be forecast; expected {N} or more, the "
                    "horizon; give a longer series or a larger --held-out"
                )
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


def _few(words: Sequence[object]) -> str:
    return ", ".join(map(str, words[:10])) + (", ..." if len(words) > 10 else "")


def _number(label: Any) -> Any:
    """The number that a label says, where it says one."""
    try:
        return float(label)
    except ValueError:
        return label


def _rmse(found: np.ndarray, true: np.ndarray) -> float:
    return float(((found - true) ** 2).mean() ** 0.5)


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
