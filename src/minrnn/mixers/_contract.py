from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class RecurrentState(NamedTuple):
    """The state of a mixer that is one recurrence."""

    h: Tensor  # (B, H), float32 or float64


class Mixer(nn.Module):
    """Mixes a sequence over time: one direction, one layer, width D in and out.

    `y, state = mixer(x, state=None, *, reset=None)` serves whole sequences, chunks and single steps alike: x and y
    are (B, T, D), state is a NamedTuple of tensors with B first, and calls that hand the state on give what one call
    gives. `reset` (B, T) bool starts a new sequence at step t.

    A subclass writes `forward` and `initial_state`, initialises itself, and calls the linear map that writes its
    output `down`.
    """

    width: int
    constant_state = True  # False where the state grows with the sequence

    def forward(self, x: Tensor, state: Any = None, *, reset: Tensor | None = None) -> tuple[Tensor, Any]:
        """x (B, T, D) -> y (B, T, D), state."""
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step, for B = batch_size: what `state=None` stands for."""
        raise NotImplementedError

    def select_rows(self, state: Any, rows: Tensor) -> Any:
        """The states of some sequences of a batch; `rows` (N,) int64 are their numbers."""
        return type(state)(*(tensor.index_select(0, rows) for tensor in state))

    def concatenate_rows(self, states: Sequence[Any]) -> Any:
        """The state of a batch from states of its parts, in their order."""
        return type(states[0])(*(torch.cat(tensors) for tensors in zip(*states, strict=True)))

    @torch.no_grad()
    def scale_output(self, gain: float) -> None:
        """Scale what a fresh mixer writes into a residual stream, which sums as many outputs as it has branches."""
        down = self.down
        assert isinstance(down, nn.Linear)
        down.weight.mul_(gain)


def check_sequence(x: Tensor, width: int, reset: Tensor | None) -> None:
    """Raise where x is not (B, T, D), or reset not (B, T) bool: kernels trust the shapes that they are given."""
    if x.dim() != 3 or x.shape[-1] != width:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, T, D) with D = width = {width}")
    if reset is None:
        return
    if reset.shape != x.shape[:2]:
        raise ValueError(f"reset has shape {tuple(reset.shape)}; expected (B, T) = {tuple(x.shape[:2])}")
    if reset.dtype != torch.bool:
        raise TypeError(f"reset has dtype {reset.dtype}; expected torch.bool: call .bool() on it")


def check_state(state: Any, kind: type, **expected: dict[str, int]) -> None:
    """Raise where a state that is given is not a `kind` whose fields have these shapes; None is always right.

    Example:
        >>> check_state(state, RecurrentState, h={"B": len(x), "H": 64})
    """
    if state is None:
        return
    if not isinstance(state, kind):
        raise TypeError(f"state is a {type(state).__name__}; expected a {kind.__name__}, as the call before returned")
    for field, axes in expected.items():
        shape = tuple(getattr(state, field).shape)
        if shape != tuple(axes.values()):
            raise ValueError(f"state.{field} has shape {shape}; expected ({', '.join(axes)}) = {tuple(axes.values())}")


def exempt_from_weight_decay(*parameters: Tensor | None) -> None:
    """Tag parameters that weight decay would harm (gates, norms, biases, embeddings): trainers read the attribute
    `no_weight_decay`. `copy.deepcopy` of a module loses it, as it loses every attribute of a parameter.
    """
    for parameter in parameters:
        if parameter is not None:
            parameter.no_weight_decay = True  # type: ignore[attr-defined]
