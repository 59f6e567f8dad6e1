"""How a network learns from examples: AdamW, one cycle of the learning rate, and a held-out part if asked."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..training._optimizer import build_optimizer, learning_rate
from ..training._progress import display

Loss = Callable[[Tensor, Tensor], Tensor]
"""(B, ...) answers, (B, ...) targets -> (B,)"""

Network = TypeVar("Network", bound=nn.Module)

_should_stop: ContextVar[Callable[[], bool]] = ContextVar("should_stop", default=lambda: False)

AT_ONCE = 256
"""Examples that are read at once when nothing is learned."""


class Examples(Protocol):
    """What a network reads and should answer."""

    def __len__(self) -> int: ...

    def take(self, rows: Tensor, random: torch.Generator | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """The network's arguments and the targets of some `rows`; `random` where it may disturb them, to learn."""


@dataclass(frozen=True)
class Plan:
    """What decides the updates."""

    steps: int
    learning_rate: float
    batch_size: int
    seed: int
    patience: int
    warmup: int = 50
    final_rate: float = 0.02
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    evaluations: int = 20
    remainders: bool = False  # whether what is left of a pass, less than a batch, is an update of its own

    @classmethod
    def of(cls, estimator: Any, steps: int, seed: int) -> Plan:
        """What the parameters of an estimator ask for."""
        return cls(steps, estimator.learning_rate, estimator.batch_size, seed, estimator.patience)


def learn(
    network: nn.Module,
    examples: Examples,
    loss: Loss,
    plan: Plan,
    held_out: Examples | None,
    verbose: bool,
    optimizer: torch.optim.Optimizer | None = None,
) -> list[dict[str, float]]:
    """Update `network` in place and leave it in evaluation mode; the curve, a record for each evaluation.

    With a `held_out` part the best weights are kept, and `patience` evaluations in a row without a better one end it
    (0: none do). An `optimizer` goes on with what it knows of earlier gradients.

    Raises ValueError where it diverges, with the weights as they were before that update.
    """
    optimizer = build_optimizer(network, plan) if optimizer is None else optimizer
    random = torch.Generator().manual_seed(plan.seed)
    show = display("values") if verbose else None
    best, best_weights, waited = float("inf"), None, 0
    every = max(1, plan.steps // plan.evaluations)
    curve: list[dict[str, float]] = []
    began = time.perf_counter()
    try:
        for step, rows in enumerate(_batches(len(examples), plan, random), 1):
            network.train()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan, step - 1)
            inputs, targets = examples.take(rows, random)
            error = loss(network(*inputs), targets).mean()
            optimizer.zero_grad()
            error.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(network.parameters(), plan.clip).item()
            if not (math.isfinite(norm) and math.isfinite(error.item())):
                raise ValueError(
                    f"training diverged at step {step}: loss {error.item():g}, gradient norm {norm:g}; give a "
                    f"learning_rate below {plan.learning_rate:g}"
                )
            optimizer.step()
            if show is not None:
                seconds = time.perf_counter() - began
                values = step * inputs[0].shape[0] * inputs[0].shape[1]
                show.step(step, plan.steps, error.item(), values / seconds, seconds / step * (plan.steps - step))
            stop = _should_stop.get()()
            if step % every and step != plan.steps and not stop:
                continue
            curve.append({"step": float(step), "loss": error.item()})
            if held_out is None:
                if stop:
                    break
                continue
            score = float(torch.cat(list(_read(network, held_out, loss))).mean())
            curve[-1]["held_out"] = score
            waited = 0 if score < best else waited + 1
            if score < best:
                best, best_weights = score, copy.deepcopy(network.state_dict())
            if stop or (plan.patience and waited >= plan.patience):
                break
    finally:
        if show is not None:
            show.close()
        network.eval()
    if best_weights is not None:
        network.load_state_dict(best_weights)
    return curve


def begun_from(learned: Network | None, fresh: Network, last: Sequence[str]) -> Network:
    """`fresh`, with the weights of `learned` where there is one, but for those of the `last` parts if their shape is
    another.

    Raises ValueError where other parts differ.
    """
    if learned is None:
        return fresh
    weights, own = learned.state_dict(), fresh.state_dict()
    fitting = {name: weight for name, weight in weights.items() if name in own and weight.shape == own[name].shape}
    differing = sorted(name for name in weights.keys() | own.keys() if name not in fitting)
    if unfit := [name for name in differing if name.split(".")[0] not in last]:
        raise ValueError(
            f"warm_start goes on from a network of another shape, which differs in {unfit[0]}; leave all that shapes "
            "it (mixer, width, layers, conv, mlp, ...) as it was, or set warm_start=False"
        )
    fresh.load_state_dict(own | fitting)
    return fresh


def kept_through_reset(estimator: Any, keep: str | list[str] | None, learned: Sequence[str]) -> list[str]:
    """What aeon's `reset` should keep: what it is told, and what was `learned` where `warm_start` goes on from it."""
    told = [keep] if isinstance(keep, str) else list(keep or ())
    return told + [name for name in learned if estimator.warm_start and hasattr(estimator, name)]


@contextmanager
def stopping(should_stop: Callable[[], bool]) -> Iterator[None]:
    """Let what learns in here end after the update in which `should_stop` says so, and keep what it has learned."""
    token = _should_stop.set(should_stop)
    try:
        yield
    finally:
        _should_stop.reset(token)


def answers(network: nn.Module, examples: Examples) -> Tensor:
    """What `network` says of each example: (N, ...)."""
    return torch.cat(list(_read(network, examples, lambda outputs, targets: outputs)))


@torch.no_grad()
def _read(network: nn.Module, examples: Examples, of: Loss) -> Iterator[Tensor]:
    network.eval()
    for rows in torch.arange(len(examples)).split(AT_ONCE):  # type: ignore[no-untyped-call]
        inputs, targets = examples.take(rows)
        yield of(network(*inputs), targets)


def _batches(examples: int, plan: Plan, random: torch.Generator) -> Iterator[Tensor]:
    """Rows of each update: passes in a new order each."""
    size = min(plan.batch_size, examples)
    fewest = 1 if plan.remainders else size
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(plan.steps):
        if len(waiting) < fewest:
            waiting = torch.randperm(examples, generator=random)
        rows, waiting = waiting[:size], waiting[size:]
        yield rows


@contextmanager
def processors(threads: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch draw from `seed` for a while, and go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def check_ranges(estimator: object) -> None:
    """Raise ValueError for a parameter that is out of range; each may be missing."""
    above_0, from_0, from_1, share = "more than 0", "0 or more", "1 or more", "more than 0 and less than 1"
    holds: dict[str, Callable[[float], bool]] = {
        above_0: lambda value: value > 0,
        from_0: lambda value: value >= 0,
        from_1: lambda value: value >= 1,
        share: lambda value: 0 < value < 1,
    }
    for allowed, names in {
        from_1: ("width", "layers", "batch_size", "steps", "horizon", "context", "patch"),
        from_0: ("conv", "mlp", "noise", "shift", "patience", "dropout", "label_smoothing"),
        above_0: ("learning_rate",),
        share: ("validation_fraction",),
    }.items():
        for name in names:
            value = getattr(estimator, name, None)
            if value is not None and not holds[allowed](value):
                raise ValueError(f"{name} is {value}; expected {allowed}")
    for name in ("dropout", "label_smoothing", "shift"):
        if getattr(estimator, name, 0) >= 1:
            raise ValueError(f"{name} is {getattr(estimator, name)}; expected 0 or more and less than 1")
