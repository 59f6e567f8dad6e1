from __future__ import annotations

import torch
from torch import Tensor, nn

from ..fused import Linear
from ._block import Norm
from ._stack import Stack, StackState


class DecisionModel(nn.Module):
    """A policy that is asked for a return: Linear(1 + S + A, D), `Stack`, norm, Linear(D, A). After the Decision
    Transformer (arXiv 2106.01345), over any mixer; its models see return, observation and action as three tokens, here
    they are one step.

    Args:
        observation_size: S, numbers in an observation.
        action_size: A, numbers in an action.
        width: D.
        pattern: the mixers of the stack (see `parse_pattern`).
        conv, mlp, dropout: of each `Block`.

    Call: `actions, state = model(returns_to_go, observations, previous_actions, state=None, reset=None)`
        returns_to_go: (B, T), what is still to be earned, of order 1 (thousands are best divided by 1,000).
        observations: (B, T, S), best with mean 0 and deviation 1.
        previous_actions: (B, T, A), of the step before; zeros at the first.
        state: of the steps before, from an earlier call; None at the start. Its size does not depend on how many those
            were, if `constant_state`.
        reset: (B, T) bool; where it is true, a new episode starts at step t.
        actions: (B, T, A), for each step from it and those before.

    Raises:
        ValueError: an argument's shape does not fit.

    Example:
        >>> policy = DecisionModel(11, 3, width=64, pattern="mingru*2")
        >>> to_go, seen, before = torch.ones(8, 20), torch.randn(8, 20, 11), torch.zeros(8, 20, 3)
        >>> actions, state = policy(to_go, seen, before)                                  # a window in training
        >>> action, state = policy(torch.ones(8, 1), torch.randn(8, 1, 11), actions[:, -1:], state)   # and one step
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        *,
        width: int = 128,
        pattern: str = "mingru*3",
        conv: int = 0,
        mlp: float = 4.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        for name, size in (("observation_size", observation_size), ("action_size", action_size)):
            if size < 1:
                raise ValueError(f"{name} is {size}; expected 1 or more")
        self.observation_size, self.action_size = observation_size, action_size
        self.enter = Linear(1 + observation_size + action_size, width)
        self.stack = Stack(width, pattern, conv=conv, mlp=mlp, dropout=dropout)
        self.norm = Norm(width)
        self.head = Linear(width, action_size)

    def forward(
        self,
        returns_to_go: Tensor,
        observations: Tensor,
        previous_actions: Tensor,
        state: StackState | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, StackState]:
        """returns_to_go (B, T), observations (B, T, S), previous_actions (B, T, A) -> actions (B, T, A), state."""
        steps = tuple(returns_to_go.shape)
        if len(steps) != 2:
            raise ValueError(f"returns_to_go has shape {steps}; expected (B, T)")
        for name, given, size in (
            ("observations", observations, self.observation_size),
            ("previous_actions", previous_actions, self.action_size),
        ):
            if tuple(given.shape) != (*steps, size):
                letter = "S" if name == "observations" else "A"
                raise ValueError(f"{name} has shape {tuple(given.shape)}; expected (B, T, {letter}) = {(*steps, size)}")
        x = torch.cat([returns_to_go[..., None], observations, previous_actions], dim=-1)  # (B, T, 1 + S + A)
        y, state = self.stack(self.enter(x), state, reset)
        return self.head(self.norm(y)), state

    @property
    def constant_state(self) -> bool:
        """Whether the state has one size, however many steps were seen."""
        return self.stack.constant_state
