"""What classifier and regressor share: a network that answers once for each series."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from aeon.utils.validation import check_n_jobs
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from torch import Tensor

from ..training._optimizer import build_optimizer
from ._collection import Collection, Scale, check_collection, time_between
from ._learning import Loss, Plan, answers, begun_from, check_ranges, kept_through_reset, learn, processors, seeded
from ._network import SeriesNetwork

OF_THE_NETWORK = ("mixer", "width", "layers", "bidirectional", "conv", "mlp", "dropout")
FEWEST = 800


def updates(series: int) -> int:
    """How many updates suit so many series: as 40 times the square root, and 800 at least."""
    return max(FEWEST, round(40 * math.sqrt(series)))


@dataclass(frozen=True)
class Whole:
    """Whole series, scaled, with a target each, as `Examples`.

    Learning disturbs them: `noise` is the deviation of what is added to each value, and of each series' amplitude;
    `shift` is the most that a series is moved in time, as a share of its length.
    """

    x: Tensor  # (N, T, C)
    lengths: Tensor  # (N,)
    targets: Tensor  # (N,)
    noise: float = 0.0
    shift: float = 0.0

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor, random: torch.Generator | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """x (B, T, C), lengths (B,); targets (B,)"""
        lengths = self.lengths[rows]
        x = self.x[rows, : int(lengths.max())]
        if random is not None and self.noise:
            amplitude = 1 + self.noise * torch.randn(len(x), 1, 1, generator=random)
            x = x * amplitude + self.noise * torch.randn(x.shape, generator=random)
        if random is not None and self.shift:
            x = moved(x, lengths, self.shift, random)
        return (x, lengths), self.targets[rows]

    def only(self, rows: np.ndarray) -> Whole:
        """Some of them."""
        return replace(self, x=self.x[rows], lengths=self.lengths[rows], targets=self.targets[rows])


def moved(x: Tensor, lengths: Tensor, most: float, random: torch.Generator) -> Tensor:
    """Each series as many whole steps earlier or later as chance has it, up to `most` of its length; what has no value
    then has that of the nearer end. (B, T, C) -> (B, T, C)
    """
    farthest = (most * lengths).floor()
    steps = (farthest + 0.5) * (2 * torch.rand(len(x), generator=random) - 1)  # rounds to each with the same chance
    source = torch.arange(x.shape[1]) + steps.round().long()[:, None]  # (B, T)
    source = torch.minimum(source.clamp(min=0), lengths[:, None] - 1)
    return x.gather(1, source[:, :, None].expand_as(x))


class Learner:
    """Under aeon's base classes, which check and convert what they are given and then call `_fit` and `_predict`."""

    LEARNED: tuple[str, ...] = ("network_", "scale_", "time_unit_")
    """What `warm_start` goes on with."""

    is_fitted: bool
    scale_: Scale
    time_unit_: float | None
    network_: SeriesNetwork
    optimizer_: torch.optim.Optimizer
    seed_: int
    updates_: int
    curve_: list[dict[str, float]]

    @property
    @abstractmethod
    def _outputs(self) -> int:
        """Numbers that the network answers with."""

    _tags = {  # noqa: RUF012
        "X_inner_type": ["np-list", "numpy3D"],
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "capability:missing_values": True,
        "capability:multithreading": True,
        "algorithm_type": "deeplearning",
    }

    def __init__(
        self,
        mixer: str = "mingru",
        *,
        width: int = 64,
        layers: int = 2,
        bidirectional: bool = True,
        time_channel: int | None = None,
        conv: int = 4,
        mlp: float = 2.0,
        dropout: float = 0.2,
        steps: int | None = None,
        learning_rate: float = 3e-3,
        batch_size: int = 32,
        noise: float = 0.1,
        shift: float = 0.035,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = 1,
        verbose: bool = False,
    ) -> None:
        self.mixer = mixer
        self.width = width
        self.layers = layers
        self.bidirectional = bidirectional
        self.time_channel = time_channel
        self.conv = conv
        self.mlp = mlp
        self.dropout = dropout
        self.steps = steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.noise = noise
        self.shift = shift
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        super().__init__()

    def reset(self, keep: str | list[str] | None = None) -> Any:
        """Forget what was learned; with `warm_start` all but the network and its scale."""
        return super().reset(kept_through_reset(self, keep, self.LEARNED))  # type: ignore[misc]

    def _preprocess_collection(self, X: Any, store_metadata: bool = True) -> Any:
        check_collection(X)
        with warnings.catch_warnings():  # of aeon's look at each series, which may lack a channel, or vary little
            warnings.filterwarnings("ignore", "All-NaN|Degrees of freedom", RuntimeWarning)
            warnings.filterwarnings("ignore", "Data seen by instance of .* very little variation", UserWarning)
            return super()._preprocess_collection(X, store_metadata)  # type: ignore[misc]

    def _check_y(self, y: Any, *arguments: Any, **options: Any) -> np.ndarray:
        y = np.asarray(y) if isinstance(y, list | tuple) else y
        values = np.asarray(y)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            first = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"y[{first}] is {values[first]}; leave that series out")
        return np.asarray(super()._check_y(y, *arguments, **options))  # type: ignore[misc]

    def _more(self, X: Any) -> Collection:
        """Series to go on with, checked as aeon checks them in `fit` and `predict`."""
        fresh = not self.is_fitted
        X = self._preprocess_collection(X, store_metadata=fresh)
        if not fresh:
            self._check_shape(X)  # type: ignore[attr-defined]
        return X  # type: ignore[no-any-return]

    def _learn(self, X: Collection, targets: Tensor, loss: Loss, stratify: np.ndarray | None = None) -> None:
        """Fit the network; a held-out part has each label of `stratify` in proportion."""
        self._begin(X)
        examples = self._examples(X, targets)
        held_out = None
        if self.early_stopping:
            examples, held_out = self._split(examples, stratify)
        steps = self.steps or updates(len(examples))
        self._update(examples, held_out, loss, self._plan(steps), None)

    def _go_on(self, X: Collection, targets: Tensor, loss: Loss) -> None:
        """One pass over more series at the highest learning rate."""
        examples = self._examples(X, targets)
        steps = -(-len(examples) // self.batch_size)
        size = -(-len(examples) // steps)  # nearly the same for each update, rather than a last one of few series
        plan = replace(self._plan(steps), batch_size=size, remainders=True, warmup=0, final_rate=1.0)
        if not hasattr(self, "optimizer_"):
            self.optimizer_ = build_optimizer(self.network_, plan)
        self._update(examples, None, loss, plan, self.optimizer_)

    def _begin(self, X: Collection) -> None:
        """A network for series like these: a fresh one, or what `reset` kept of the last."""
        check_ranges(self)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.updates_ = 0
        learned = getattr(self, "network_", None) if self.warm_start else None
        if learned is None:
            self.time_unit_ = self._mean_time(X)
            self.scale_ = Scale.of(self._timed(X))
        elif len(X[0]) != len(self.scale_.mean):
            raise ValueError(f"X has {len(X[0])} channels; warm_start goes on from {len(self.scale_.mean)}")
        elif (self.time_unit_ is None) != (self.time_channel is None):
            raise ValueError(f"time_channel is {self.time_channel}; warm_start goes on from a fit where it was another")
        with seeded(self.seed_):
            self.network_ = begun_from(learned, self._network(), ("head",))

    def _mean_time(self, X: Collection) -> float | None:
        """Between two steps, 1 where all are at the same time; None where no channel holds times."""
        if self.time_channel is None:
            return None
        apart = np.concatenate([one[self.time_channel, 1:] for one in time_between(X, self.time_channel)])
        return float(apart.mean()) or 1.0 if len(apart) else 1.0

    def _timed(self, X: Collection) -> Collection:
        """With ln(1 + time since the step before, over the usual one) in the place of times."""
        if self.time_channel is None:
            return X
        changed = time_between(X, self.time_channel)
        for one in changed:
            one[self.time_channel] = np.log1p(one[self.time_channel] / self.time_unit_)
        return changed

    def _scaled(self, X: Collection) -> tuple[Tensor, Tensor]:
        """What the network reads: x (N, T, C), lengths (N,)."""
        return self.scale_.apply(self._timed(X))

    def _examples(self, X: Collection, targets: Tensor) -> Whole:
        """To learn from."""
        return Whole(*self._scaled(X), targets, self.noise, self.shift)

    def _network(self) -> SeriesNetwork:
        """A fresh one, for the series that `scale_` is of."""
        options = {name: getattr(self, name) for name in OF_THE_NETWORK}
        return SeriesNetwork(self.scale_.inputs, self._outputs, **options)

    def _plan(self, steps: int) -> Plan:
        return Plan.of(self, steps, self.seed_ + self.updates_)

    def _update(
        self, examples: Whole, held_out: Whole | None, loss: Loss, plan: Plan, optimizer: torch.optim.Optimizer | None
    ) -> None:
        with processors(check_n_jobs(self.n_jobs)), seeded(plan.seed):  # dropout is random
            self.curve_ = learn(self.network_, examples, loss, plan, held_out, self.verbose, optimizer)
        self.updates_ += int(self.curve_[-1]["step"])

    def _split(self, examples: Whole, stratify: np.ndarray | None) -> tuple[Whole, Whole]:
        share, number = self.validation_fraction, np.arange(len(examples))
        try:
            learned, held = train_test_split(number, test_size=share, random_state=self.seed_, stratify=stratify)
        except ValueError as error:
            raise ValueError(
                f"early_stopping cannot hold out {share:g} of {len(examples)} series: {error}; give more series, "
                "another validation_fraction, or early_stopping=False"
            ) from None
        return examples.only(learned), examples.only(held)

    def _answers(self, X: Collection) -> Tensor:
        """(N, outputs)"""
        with processors(check_n_jobs(self.n_jobs)):
            return answers(self.network_, Whole(*self._scaled(X), torch.zeros(len(X))))

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        """What aeon's checks fit with."""
        return {"width": 8, "layers": 1, "steps": 10}
