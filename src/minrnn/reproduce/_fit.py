"""One training loop for every task: a stack of mixers learns from batches drawn anew for each step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minrnn.fused import Linear
from minrnn.models import Norm, Stack
from minrnn.training._optimizer import build_optimizer, learning_rate

from . import tasks
from ._experiment import Watch

NEVER = 2.0
"""A score that no model has."""


@dataclass(frozen=True)
class Fit:
    """Everything that decides a run on a task; as JSON it is the options of a `Cell`."""

    task: str
    setting: Mapping[str, Any]  # arguments of the task in training
    pattern: str
    width: int
    steps: int
    learning_rate: float
    conv: int = 0
    mlp: float = 0.0
    dropout: float = 0.0
    batch: int = 64
    evaluate: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is evaluated as training goes on, by name, as changes to `setting`; first the distribution of training."""
    test: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is evaluated at the end as well."""
    sequences: int = 512  # in an evaluation
    sequences_at_once: int = 128
    evaluations: int = 10
    enough: float = NEVER  # score on the distribution of training at which to stop, seen twice in a row
    warmup: int = 50
    final_rate: float = 0.05
    weight_decay: float = 0.0
    """On what `build_optimizer` lets decay: of attention and Mamba nearly all, of gates and candidates nothing."""
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they come back from a file."""
        return asdict(self) | {"betas": list(self.betas)}

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> Fit:
        """The inverse of `to_json`."""
        return cls(**dict(options) | {"betas": tuple(options["betas"])})


class SequenceModel(nn.Module):
    """Tokens (B, T) or features (B, T, D_in) -> outputs at the steps that are scored, (N, outputs)."""

    def __init__(self, task: tasks.Task, fit: Fit) -> None:
        super().__init__()
        self.enter = Linear(task.inputs, fit.width) if task.real else nn.Embedding(task.inputs, fit.width)
        self.stack = Stack(fit.width, fit.pattern, conv=fit.conv, mlp=fit.mlp, dropout=fit.dropout)
        self.norm = Norm(fit.width)
        self.head = Linear(fit.width, task.outputs)

    def forward(self, inputs: Tensor, scored: Tensor) -> Tensor:
        """`scored` (B, T) bool."""
        y, _ = self.stack(self.enter(inputs))
        return self.head(self.norm(y[scored]))  # type: ignore[no-any-return]


def fresh_model(fit: Fit, seed: int) -> SequenceModel:
    """What training begins with."""
    torch.manual_seed(seed)
    return SequenceModel(tasks.make(fit.task, fit.setting), fit)


class Learner:
    """A model as it learns: `model(inputs, scored)` gives outputs at the steps that are scored, (N, outputs)."""

    def __init__(self, model: nn.Module, fit: Fit, seed: int) -> None:
        self.fit = fit
        self.task = tasks.make(fit.task, fit.setting)
        self.model = model
        self.optimizer = build_optimizer(self.model, fit)
        self.steps = 0
        self._rng = np.random.default_rng([seed, 1])

    def step(self) -> float:
        """Learn from a new batch; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.fit, self.steps)
        batch = self.task.batch(self._rng, self.fit.batch)
        loss = _loss(self.model(batch.inputs, batch.scored), batch.targets)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.fit.clip)
        self.optimizer.step()
        self.steps += 1
        return loss.item()


def train(model: nn.Module, fit: Fit, seed: int, watch: Watch) -> dict[str, Any]:
    """Train a fresh model: parameters, steps, seconds, the curve and the scores as JSON. Processor seconds are those of
    the steps of training, of all threads, without the evaluations.
    """
    learner = Learner(model, fit, seed)

    def measure(wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
        model.eval()
        measured = {
            name: evaluate(model, tasks.make(fit.task, {**fit.setting, **changes}), fit)
            for name, changes in wanted.items()
        }
        model.train()
        return measured

    curve: list[dict[str, Any]] = []
    every = max(1, fit.steps // fit.evaluations)
    began = time.perf_counter()
    learning = 0.0
    for step in range(1, fit.steps + 1):
        used = time.process_time()
        loss = learner.step()
        learning += time.process_time() - used
        if step % every == 0 or step == fit.steps:
            measured = measure(fit.evaluate)
            seconds = {"seconds": time.perf_counter() - began, "processor_seconds": learning}
            curve.append({"step": step, **seconds, "loss": loss, "held_out": measured})
            watch(step / fit.steps, _words(measured))
            newest = [next(iter(point["held_out"].values()))["score"] for point in curve[-2:]]
            if len(newest) == 2 and min(newest) >= fit.enough:
                break
        elif step % 20 == 0:
            watch(step / fit.steps, f"loss {loss:.3g}")
    final = curve[-1]["held_out"] | measure(fit.test)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": learner.steps,
        "seconds": round(curve[-1]["seconds"], 1),
        "curve": [_rounded(point) for point in curve],
        "scores": {name: one["score"] for name, one in _rounded(final).items()},
        "losses": {name: one["loss"] for name, one in _rounded(final).items()},
    }


@torch.no_grad()
def evaluate(model: nn.Module, task: tasks.Task, fit: Fit) -> dict[str, float]:
    """Mean loss, and the share of scored steps, or of whole sequences, that are right."""
    losses, right, count = [], [], 0
    for inputs, scored, targets in task.held_out(fit.sequences, fit.sequences_at_once):
        outputs = model(inputs, scored)
        losses.append(_loss(outputs, targets).item() * len(targets))
        count += len(targets)
        if task.real_targets:
            hits = ((outputs - targets).abs() <= task.tolerance).all(dim=-1)
        else:
            hits = outputs.argmax(-1) == targets
        if task.whole:
            hits = torch.stack([row.all() for row in hits.split(scored.sum(dim=1).tolist())])
        right.append(hits)
    return {"loss": sum(losses) / count, "score": torch.cat(right).double().mean().item()}


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return F.mse_loss(outputs, targets)
    return F.cross_entropy(outputs, targets)


def _words(measured: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{name} {one['score']:.3f} ({one['loss']:.3g})" for name, one in measured.items())


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
