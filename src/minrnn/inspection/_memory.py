from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..mixers import name_of
from ..models import Block

LAYERS_WITH = ("h", "c", "C", "S", "s")
"""The states that decay, by the names that mixers give them; windows, caches and stabilisers do not."""
FORGETS, KEEPS = 0.05, 0.95
"""Gates below and above are saturated."""


@dataclass(frozen=True)
class Layer:
    """What a state of a mixer kept, over B sequences of T steps; S numbers are in the state of a sequence.

    A step keeps the share a_t = |d s_t / d s_{t-1}| of each number: minGRU's 1 - z_t, minLSTM's f'_t. Where the
    numbers of a state mix (nn.GRU, sLSTM) it is, in the mean, the length of the change that a small change of one
    number makes.
    """

    name: str  # "2 minlstm"
    state: str  # a name of `LAYERS_WITH`
    decay: Tensor  # -ln a_t in the mean over B and T, (S,)
    forgets: float  # share of all a_t below `FORGETS`
    keeps: float  # share of all a_t above `KEEPS`
    sizes: Tensor  # root mean square of the state after each step, (T,)

    def half_lives(self) -> Tensor:
        """Steps after which half of a number is gone, (S,); infinite where it does not decay."""
        return torch.where(self.decay > 0, math.log(2) / self.decay, torch.inf)


@contextmanager
def watching(network: nn.Module) -> Iterator[list[Layer]]:
    """Note what each state keeps while `network` reads: a `Layer` for each, in the order of the blocks.

    Every mixer is walked a second time, step by step, and each step differentiated: the sample should be some hundred
    steps long. Mixers without a state that decays (attention) give none.

    Args:
        network: anything with blocks of `minrnn.models` in it; its first call in the `with` block counts.

    Example:
        >>> from minrnn.models import Stack
        >>> stack = Stack(16, "mingru*2")
        >>> with watching(stack) as layers:
        ...     y, state = stack(torch.randn(2, 50, 16))
        >>> [layer.name for layer in layers]
        ['1 mingru', '2 mingru']
    """
    found: list[Layer] = []
    noted: set[int] = set()
    blocks = [module for module in network.modules() if isinstance(module, Block)]

    def note(number: int, block: Block, arguments: tuple[Any, ...]) -> None:
        if number not in noted:
            noted.add(number)
            found.extend(_layers(f"{number} {name_of(block.mixer)}", block.mixer, arguments[0].detach()))

    handles = [
        block.mixer.register_forward_pre_hook(
            lambda _, arguments, number=number, block=block: note(number, block, arguments)
        )
        for number, block in enumerate(blocks, 1)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _layers(name: str, mixer: Any, x: Tensor) -> list[Layer]:
    """One for each state of a mixer that reads x (B, T, D)."""
    state = mixer.initial_state(len(x))
    parts = [part for part in state._fields if part in LAYERS_WITH]
    if not parts:
        return []
    signs = torch.Generator().manual_seed(0)
    decay = {part: torch.zeros(getattr(state, part)[0].numel()) for part in parts}
    saturated = {part: [0, 0] for part in parts}
    sizes: dict[str, list[float]] = {part: [] for part in parts}
    with torch.enable_grad():
        for x_t in x.split(1, dim=1):  # type: ignore[no-untyped-call]
            before = {part: getattr(state, part).detach().requires_grad_() for part in parts}
            _, state = mixer.forward(x_t, state._replace(**before))
            for part in parts:
                after = getattr(state, part)
                # With random signs the sum is a_t where numbers do not mix, and as long as the change where they do.
                sign = torch.randint(2, after.shape, generator=signs, dtype=after.dtype) * 2 - 1
                (change,) = torch.autograd.grad((after * sign).sum(), before[part], retain_graph=True)
                kept = change.abs().flatten(1)  # (B, S)
                decay[part] -= kept.clamp(min=1e-30).log().mean(dim=0) / x.shape[1]
                saturated[part][0] += int((kept < FORGETS).sum())
                saturated[part][1] += int((kept > KEEPS).sum())
                sizes[part].append(after.detach().square().mean().sqrt().item())
            state = type(state)(*(one.detach() for one in state))
    B, T = x.shape[:2]
    return [
        Layer(
            name,
            part,
            decay[part],
            saturated[part][0] / (B * T * len(decay[part])),
            saturated[part][1] / (B * T * len(decay[part])),
            torch.tensor(sizes[part]),
        )
        for part in parts
    ]
