from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn


class RecurrentState(NamedTuple):
    """The state of a mixer that is one recurrence."""

    h: Tensor  # (B, H), float32 or float64


class Mixer(nn.Module):
    """Mixes a sequence over time: one direction, one layer, width D in and out.

    `y, state = mixer(x, state=None, *, reset=None)` serves whole sequences, chunks and single steps alike: x and y
    are (B, T, D), state is a
    NamedTuple of tensors with B first, and calls that hand the state on give what one call gives. `reset` (B, T) bool
    starts a new
    sequence at step t.
    """

    width: int

    def forward(self, x: Tensor, state: Any = None, *, reset: Tensor | None = None) -> tuple[Tensor, Any]:
        """x (B, T, D) -> y (B, T, D), state."""
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step, for B = batch_size."""
        raise NotImplementedError


def exempt_from_weight_decay(*parameters: Tensor | None) -> None:
    """Tag parameters that weight decay would harm (gates, norms, biases, embeddings); trainers read
    `no_weight_decay`.
    """
    for parameter in parameters:
        if parameter is not None:
            parameter.no_weight_decay = True  # type: ignore[attr-defined]
