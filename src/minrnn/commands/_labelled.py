"""What `classify` and `regress` do with the series of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from minrnn.errors import UserError

from ._series_tasks import Baselines, Figures, Split
from ._table import aligned

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure


class Labelled:
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


class Classes(Labelled):
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


class Numbers(Labelled):
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
