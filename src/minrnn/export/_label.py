from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minrnn.errors import UserError

from ..series import MinRNNClassifier, MinRNNRegressor
from ..series._collection import Scale
from ..series._network import SeriesNetwork
from ._places import beside
from ._ports import Graph, Port, State
from ._source import Arrays, Run
from ._stepped import check_mixers, stepped
from ._text import carried

Estimator = MinRNNClassifier | MinRNNRegressor
MISSING = 0.05  # share of random values


class Scaling(nn.Module):
    """values (..., C) float64, NaN where one is missing -> what a network reads, (..., inputs) float32."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(scale.mean))
        self.register_buffer("deviation", torch.from_numpy(scale.deviation))
        self.marked = np.flatnonzero(scale.marked).tolist()

    def forward(self, values: Tensor) -> Tensor:
        missing = values.isnan()
        x = torch.where(missing, 0.0, (values - self.mean) / self.deviation)
        return torch.cat([x.float(), missing[..., self.marked].float()], dim=-1)


class _Answer(nn.Module):
    """What a network gives, (B, K) -> probabilities (B, K), or numbers (B,) float64."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.numbers = isinstance(estimator, MinRNNRegressor)
        if isinstance(estimator, MinRNNRegressor):
            self.mean, self.deviation = estimator.target_mean_, estimator.target_deviation_

    def forward(self, y: Tensor) -> Tensor:
        return self.mean + self.deviation * y[:, 0].double() if self.numbers else y.softmax(dim=-1)


class _Step(nn.Module):
    """values (B, C), states -> the answer to each series so far, states."""

    def __init__(self, estimator: Estimator, state: State) -> None:
        super().__init__()
        self.scaling, self.network, self.answer = Scaling(estimator.scale_), estimator.network_, _Answer(estimator)
        self.state = state

    def forward(self, values: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        y, after = self.network.step(self.scaling(values)[:, None], self.state.tree(state))
        return self.answer(y), *self.state.tensors(after)


class _Sequence(nn.Module):
    """values (B, T, C), lengths (B,) -> the answer to each series."""

    def __init__(self, estimator: Estimator, network: SeriesNetwork) -> None:
        super().__init__()
        self.scaling, self.network, self.answer = Scaling(estimator.scale_), network, _Answer(estimator)

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor]:
        return (self.answer(self.network(self.scaling(values), lengths)),)


class Label:
    """A classifier or a regressor as a `Source`."""

    def __init__(self, estimator: Estimator) -> None:
        check_mixers(estimator.network_)
        if estimator.time_channel is not None:
            raise UserError(
                "the run reads the times of steps (--irregular, time_channel), which no graph here does; train one "
                "with the time since the step before as a channel like others"
            )
        self.estimator = estimator
        self.task = "regress" if isinstance(estimator, MinRNNRegressor) else "classify"

    def graphs(self, *, exported: bool) -> dict[str, Graph]:
        estimator, network = self.estimator, self.estimator.network_
        C, unit = len(estimator.scale_.mean), 1.0
        if isinstance(estimator, MinRNNRegressor):
            answer, unit = Port("answer", ("B",), torch.float64), estimator.target_deviation_
        else:
            answer = Port("probabilities", ("B", len(estimator.classes_)), torch.float32)
        values, lengths = Port("values", ("B", "T", C), torch.float64), Port("lengths", ("B",), torch.int64)
        module = _Sequence(estimator, stepped(network) if exported else network)
        graphs = {"sequence": Graph("sequence", module, (values, lengths), (answer,), unit=unit)}
        if not estimator.bidirectional:
            state, values = State(network.initial_state(1)), Port("values", ("B", C), torch.float64)
            graphs["step"] = Graph("step", _Step(estimator, state), (values,), (answer,), state, unit)
        return graphs

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = {"channels": scale_record(self.estimator.scale_)}
        if isinstance(self.estimator, MinRNNClassifier):
            record["classes"] = self.estimator.classes_.tolist()
        else:
            target = {"mean": self.estimator.target_mean_, "deviation": self.estimator.target_deviation_}
            record["target"] = target
        if self.estimator.bidirectional:
            record["no_step"] = "the run reads series from both ends, so that it needs their end"
        return record

    def files(self) -> dict[str, Path]:
        example = beside("series_whole.py" if self.estimator.bidirectional else "series.py")
        return {"run.py": example, "values.py": beside("values.py")}

    def vocabulary(self) -> None:
        return None

    def random(self, rng: np.random.Generator, B: int, T: int) -> Arrays:
        lengths = rng.integers(1, T + 1, size=B)
        lengths[0] = T
        return {"values": random_values(rng, self.estimator.scale_, (B, T)), "lengths": lengths}

    def step_through(self, step: Run, inputs: Arrays) -> Arrays:
        state: Arrays = {}
        answers = []
        for t in range(inputs["values"].shape[1]):
            found = step({"values": inputs["values"][:, t]} | state)
            answers.append(found.pop(self._answer))
            state = carried(found)
        return {self._answer: np.stack(answers)[inputs["lengths"] - 1, np.arange(len(inputs["lengths"]))]}

    @property
    def _answer(self) -> str:
        return "answer" if self.task == "regress" else "probabilities"

    def score(self, sequence: Run, held_out: tuple[list[np.ndarray], np.ndarray]) -> tuple[str, float]:
        X, y = held_out
        found = np.concatenate(
            [
                sequence({"values": one.T[None].astype(np.float64), "lengths": np.array([one.shape[1]])})[self._answer]
                for one in X
            ]
        )
        if isinstance(self.estimator, MinRNNRegressor):
            return f"root mean squared error, over {len(y):,} series", float(np.sqrt(np.mean((found - y) ** 2)))
        right = self.estimator.classes_[found.argmax(axis=1)] == y
        return f"accuracy, over {len(y):,} series", float(right.mean())

    def invented(self) -> tuple[tuple[list[np.ndarray], np.ndarray], str]:
        rng = np.random.default_rng(0)
        X = [random_values(rng, self.estimator.scale_, (100,)).T for _ in range(200)]
        return (X, self.estimator.predict(X)), "random series with the run's own answers"


def scale_record(scale: Scale) -> dict[str, Any]:
    return {
        "count": len(scale.mean),
        "mean": scale.mean.tolist(),
        "deviation": scale.deviation.tolist(),
        "marked": scale.marked.tolist(),
        "missing": "NaN; it counts as the mean of its channel, and the network is told of it where marked is true",
        "scaling": "the graphs do it: give values as they are",
    }


def random_values(rng: np.random.Generator, scale: Scale, shape: tuple[int, ...]) -> np.ndarray:
    """Values (*shape, C) like those that were learned from."""
    values = scale.mean + scale.deviation * rng.normal(size=(*shape, len(scale.mean)))
    return np.where(rng.random(values.shape) < MISSING, np.nan, values)
