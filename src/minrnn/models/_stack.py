from __future__ import annotations

from torch import Tensor, nn

from ..mixers import build, options
from ._block import Block, BlockState
from ._pattern import parse_pattern

StackState = tuple[BlockState, ...]


class Stack(nn.Module):
    """Blocks on top of each other, described by a pattern such as `"mingru*6"` (see `parse_pattern`).

    Args:
        width: D.
        pattern: the mixers from bottom to top.
        expansion: default of the option `expansion`, of those mixers that have one; None leaves each its own.
        conv, mlp, dropout: of each `Block`.

    Call: `y, state = stack(x, state=None, reset=None)`, x and y (B, T, D). T single steps, or any chunks, that hand the
    state on give what one call gives.

    Raises:
        ValueError: the pattern, a mixer's name or an option is not known.

    Example:
        >>> y, state = Stack(64, "mingru*2")(torch.randn(8, 100, 64))
    """

    def __init__(
        self,
        width: int,
        pattern: str,
        *,
        expansion: float | None = None,
        conv: int = 4,
        mlp: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        parts = parse_pattern(pattern)
        self.blocks = nn.ModuleList(
            Block(
                build(name, width=width, layer=layer, num_layers=len(parts), **_defaults(name, expansion) | chosen),
                conv=conv,
                mlp=mlp,
                dropout=dropout,
            )
            for layer, (name, chosen) in enumerate(parts)
        )

    def forward(
        self, x: Tensor, state: StackState | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, StackState]:
        """x (B, T, D) -> y (B, T, D), state."""
        if state is not None and len(state) != len(self.blocks):
            raise ValueError(
                f"state is that of {len(state)} blocks; expected {len(self.blocks)}: it comes from another model"
            )
        states = []
        for index, block in enumerate(self.blocks):
            x, block_state = block(x, None if state is None else state[index], reset)
            states.append(block_state)
        return x, tuple(states)

    @property
    def constant_state(self) -> bool:
        """Whether the state has one size; false where a mixer's grows with the sequence, as attention's does."""
        return all(block.mixer.constant_state for block in self.blocks)  # type: ignore[union-attr]

    def initial_state(self, batch_size: int) -> StackState:
        """The state before the first step, for B = batch_size."""
        return tuple(block.initial_state(batch_size) for block in self.blocks)  # type: ignore[operator]


def _defaults(name: str, expansion: float | None) -> dict[str, float]:
    return {} if expansion is None or "expansion" not in options(name) else {"expansion": expansion}
