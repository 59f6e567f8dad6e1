"""Models that compete on tasks: the same few trials choose each one's learning rate, then all run with some seeds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from . import _picture
from ._experiment import Cell, Experiment, Results, Scale, Table, Watch
from ._fit import Fit, Learner, fresh_model, train
from ._judging import percent, seeds_solved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS = (0, 1, 2)
TWO_SETS = (*SEEDS, 3, 4, 5)
"""With a second set, for what contradicts the paper in the first."""
ALL = "all"
"""Model of the cells that time all contestants."""
SEED_OF_TUNING = 100
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
RATES_WITH_BIAS = (3e-3, 1e-2)
BIASES = (0.0, 3.0)


@dataclass(frozen=True)
class Trial:
    """One choice of what is tuned: as many for every model."""

    learning_rate: float
    forget_bias: float | None = None

    def __str__(self) -> str:
        bias = "" if self.forget_bias is None else f" bias {self.forget_bias:g}"
        return f"rate {self.learning_rate:g}{bias}"

    def setting(self, of: str) -> str:
        """The name of its cell, when it chooses for the setting `of`, or for all."""
        return f"tuning {of} {self}" if of else f"tuning {self}"

    def apply(self, fit: Fit) -> Fit:
        pattern = fit.pattern.replace(BIAS, f"forget_bias={self.forget_bias}")
        return replace(fit, pattern=pattern, learning_rate=fit.learning_rate or self.learning_rate)


BIAS = "forget_bias=?"
"""In a pattern: the bias of the forget gate, which is tuned along with the learning rate."""


def grid(pattern: str) -> list[Trial]:
    """Four for every model: four learning rates, or two with two biases of the forget gate where it has one to tune."""
    if BIAS in pattern:
        return [Trial(rate, bias) for rate in RATES_WITH_BIAS for bias in BIASES]
    return [Trial(rate) for rate in RATES]


def on_short_windows(fit: Fit, steps: int) -> Fit:
    """A fit on text as its trials are: windows of 64 tokens, and 400 of them held out."""
    return replace(fit, setting={**fit.setting, "context": 64}, steps=steps, sequences=400, evaluations=1)


@dataclass(frozen=True)
class Contestant:
    """A model in the contest."""

    name: str
    pattern: str
    family: str = ""
    """The contestant whose trials it takes over; empty: its own."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What is not as in the others' `Fit`."""

    def fit(self, open_fit: Fit, trial: Trial) -> Fit:
        """Nothing left open."""
        return trial.apply(replace(open_fit, pattern=self.pattern, **self.changes))


class Contest(Experiment):
    """An experiment whose cells are all of them `Fit`s.

    Subclasses name the contestants, and the `Fit` of a contestant in a setting; patterns and learning rates are filled
    in from the trials.
    """

    pictured: ClassVar[str] = ""
    """Which evaluation the picture shows."""
    unnamed: ClassVar[str] = ""
    """What the table calls the setting without a name, where there are others beside it."""
    timed: ClassVar[Sequence[str]] = ()
    """Settings in which a training step of every contestant is timed: alone on the machine, all in turns. What they
    took to learn, beside other runs, is no measure.
    """

    @abstractmethod
    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        """Who takes part."""

    @abstractmethod
    def settings(self, scale: Scale) -> dict[str, Fit]:
        """The fits that each contestant does, by name, with the pattern still open, and the learning rate (0) where it
        is not a published one.
        """

    def trials(self) -> Mapping[str, Fit]:
        """The short fits of the tuning at scale cpu and beyond, by the setting for which they choose; "" for all that
        have none of their own. Without any, all have the middle of the grid.
        """
        return {}

    def seeds(self, contestant: Contestant, setting: str) -> Sequence[int]:
        """With which seeds a contestant runs in a setting, at scale cpu and beyond: several where it bears on the
        verdict, one where it is shown beside it, none where it takes no part.
        """
        return SEEDS

    def tuning(self, scale: Scale) -> Sequence[Cell]:
        return [
            Cell(one.name, SEED_OF_TUNING, trial.setting(of), one.fit(fit, trial).to_json())
            for of, fit in ({} if scale == "smoke" else self.trials()).items()
            for one in self.contestants(scale)
            if not one.family and (not of or self.seeds(one, of))
            for trial in grid(one.pattern)
        ]

    def chosen(self, contestant: Contestant, setting: str, tuned: Results) -> Trial:
        """The trial with the lowest loss on the distribution of training."""
        choices = grid(contestant.pattern)
        family = contestant.family or contestant.name
        if not len(tuned):
            return choices[2]
        of = setting if setting in self.trials() else ""

        def loss(trial: Trial) -> float:
            (result,) = tuned.of(family, trial.setting(of))
            first = next(iter(result["losses"].values()))
            return float("inf") if first != first else float(first)

        return min(choices, key=loss)

    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        learning = [
            Cell(one.name, seed, setting, one.fit(fit, self.chosen(one, setting, tuned)).to_json())
            for setting, fit in self.settings(scale).items()
            for one in self.contestants(scale)
            for seed in self.seeds(one, setting)[: 1 if scale == "smoke" else None]
        ]
        timing = [
            in_turns(_timing_of(setting), [cell for cell in learning if cell.setting == setting], scale)
            for setting in self.timed
        ]
        return [*learning, *timing]

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        if cell.model == ALL:
            return self._step_times(cell, watch)
        fit = Fit.from_json(cell.options)
        return train(self.fresh(fit, cell.seed), fit, cell.seed, watch)

    def fresh(self, fit: Fit, seed: int) -> nn.Module:
        """What training begins with."""
        return fresh_model(fit, seed)

    def _step_times(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        from minrnn.timing import interleaved_medians

        fits = {name: Fit.from_json(fit) for name, fit in cell.options["fits"].items()}
        steps = {name: Learner(self.fresh(fit, cell.seed), fit, cell.seed).step for name, fit in fits.items()}
        times = interleaved_medians(steps, cell.options["repeats"], partial(watch, 0.5))
        milliseconds = {name: round(one, 2) for name, one in times.items()}
        return {"milliseconds": milliseconds, "threads": torch.get_num_threads()}

    def table(self, results: Results) -> Table:
        labels = list(dict.fromkeys(label for one in results for label in one.result["scores"]))
        settings = results.settings()
        rows = []
        for setting, model in results.pairs():
            seeds = results.of(model, setting)
            row = [setting or self.unnamed] if len(settings) > 1 else []
            row += [model, f"{seeds[0]['parameters']:,}"]
            for label in labels:
                scores = [one["scores"][label] for one in seeds if label in one["scores"]]
                row += [percent(scores), seeds_solved(scores)] if scores else ["", ""]
            rows.append(row)
        shown = [part for label in labels for part in (f"% at {label}", "solved")]
        return Table(["task"] * (len(settings) > 1) + ["model", "parameters", *shown], rows)

    def pictured_scores(self, results: Results, model: str, setting: str) -> list[float]:
        """Of each seed, what the picture shows."""
        return results.scores(model, setting, at=self.pictured)

    def draw(self, results: Results, figure: Figure) -> None:
        settings, models = results.settings(), results.models()
        columns = min(4, len(settings))
        panels = figure.subplots(-(-len(settings) // columns), columns, squeeze=False, sharey=True).flatten()
        figure.set_size_inches(2.5 + 2.5 * max(columns, 3), 1 + (1 + 0.22 * len(models)) * (len(panels) // columns))
        for axes, setting in zip(panels, settings, strict=False):
            here = results.models(setting)
            groups = {model: self.pictured_scores(results, model, setting) if model in here else [] for model in models}
            _picture.dots(axes, groups, f"accuracy, {self.pictured}")
            axes.set_xlim(-0.03, 1.03)
            axes.set_title(setting, fontsize=9)
        for axes in panels[len(settings) :]:
            axes.set_visible(False)


def in_turns(name: str, learning: Sequence[Cell], scale: Scale) -> Cell:
    """One cell, alone on the machine, in which the models of others are measured in turns."""
    fits = {cell.model: dict(cell.options) for cell in learning}
    return Cell(ALL, SEEDS[0], name, {"fits": fits, "repeats": 1 if scale == "smoke" else 9}, alone=True)


def step_milliseconds(results: Results, setting: str) -> Mapping[str, float]:
    """A training step of each model, in one of the contest's `timed` settings."""
    (found,) = results.of(ALL, _timing_of(setting))
    times: Mapping[str, float] = found["milliseconds"]
    return times


def _timing_of(setting: str) -> str:
    return f"time of a step {setting}".rstrip()
