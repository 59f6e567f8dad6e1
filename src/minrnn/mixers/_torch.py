from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..fused import Linear
from ..recurrence import choose
from ._contract import Mixer, RecurrentState, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, raise_forget_bias, unit_variance


class LSTMState(NamedTuple):
    """What an LSTM carries."""

    h: Tensor  # (B, H), float32 or float64
    c: Tensor  # (B, H), float32 or float64


def _refuses_bfloat16(device: torch.device) -> bool:
    """Whether torch's recurrent layers end in an error in bfloat16: oneDNN has that type for AVX-512 and AMX alone."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


class _TorchMixer(Mixer):
    """One of torch's recurrent layers, then Linear(H, D). A reset cuts the call: each stretch between resets is one."""

    State: type[Any]
    torch_function: Any  # torch.gru or torch.lstm; `torch.compile` refuses the modules around them

    def __init__(self, width: int, gates: int, H: int) -> None:
        super().__init__()
        self.width, self.hidden_size = width, H
        self.input, self.recurrent = Linear(width, gates * H), Linear(H, gates * H)  # W and b, U and b'
        self.down = Linear(H, width)
        for parameter in (*self.input.parameters(), *self.recurrent.parameters()):
            nn.init.uniform_(parameter, -(H**-0.5), H**-0.5)  # as torch does
        unit_variance(self.down)
        exempt_from_weight_decay(*self.input.parameters(), *self.recurrent.parameters(), self.down.bias)

    def forward(self, x: Tensor, state: Any = None, *, reset: Tensor | None = None) -> tuple[Tensor, Any]:
        check_sequence(x, self.width, reset)
        shape = {"B": len(x), "H": self.hidden_size}
        check_state(state, self.State, **dict.fromkeys(self.State._fields, shape))
        x = x.to(self.down.weight.dtype)
        state = self.initial_state(len(x)) if state is None else state
        carried: tuple[Tensor, ...] = tuple(tensor.to(x.dtype) for tensor in state)
        pieces = []
        single = x.shape[1] == 1  # for which a call of torch's takes up to five times as long as the definition
        stepwise = single or torch.compiler.is_compiling() or choose(x.device) == "definition"
        for start, stop in pairwise(self._stretches(x, reset, stepwise)):
            if reset is not None:
                over = reset[:, start, None]
                carried = tuple(torch.where(over, 0, tensor) for tensor in carried)
            if stepwise:
                carried = self.step(x[:, start], *carried)
                pieces.append(carried[0][:, None])
            else:
                y, *last = self._call(x[:, start:stop], carried)
                carried = tuple(last)
                pieces.append(y)
        h = torch.cat(pieces, dim=1) if pieces else x.new_zeros(*x.shape[:2], self.hidden_size)
        return self.down(h), self.State(*(new.to(old.dtype) for new, old in zip(carried, state, strict=True)))

    def _call(self, x: Tensor, state: Sequence[Tensor]) -> Sequence[Tensor]:
        """All steps of x at once: outputs (B, T, H), last state."""
        weights = (self.input.weight, self.recurrent.weight, self.input.bias, self.recurrent.bias)
        bfloat16 = x.dtype == torch.bfloat16 or torch.is_autocast_enabled(x.device.type)
        if not bfloat16 or not _refuses_bfloat16(x.device):
            return self._of_torch(x, state, weights)
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            states = [tensor.to(dtype) for tensor in state]
            y, *last = self._of_torch(x.to(dtype), states, [weight.to(dtype) for weight in weights])
        return y.to(x.dtype), *last

    def _of_torch(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
        stacked = [tensor[None] for tensor in state]  # with an axis of layers
        first = stacked if len(stacked) > 1 else stacked[0]
        y, *last = self.torch_function(x, first, weights, True, 1, 0.0, self.training, False, True)
        return y, *(tensor[0] for tensor in last)

    @staticmethod
    def _stretches(x: Tensor, reset: Tensor | None, stepwise: bool) -> list[int]:
        """Where calls begin, and T."""
        B, T = x.shape[:2]
        if stepwise:
            return list(range(T + 1))
        if B == 0 or T == 0:
            return []
        cuts = [] if reset is None else [t for t in reset.any(dim=0).nonzero().flatten().tolist() if t]
        return [0, *cuts, T]

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """The equations of one step: x (B, D), state -> state, h first."""
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> Any:
        shape = (self.down.weight, batch_size, self.hidden_size)
        return self.State(*(fresh(*shape) for _ in self.State._fields))


class GRUMixer(_TorchMixer):
    """`nn.GRU` (arXiv 1406.1078, in torch's form), for comparison.

    r, z = sigmoid(W x_t + U h_{t-1} + b); n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + b'_n));
    h_t = (1 - z) n + z h_{t-1}; y = W_down h

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
    """

    State = RecurrentState
    torch_function = staticmethod(torch.gru)

    def __init__(self, width: int, *, expansion: float = 1.0) -> None:
        super().__init__(width, 3, expanded(width, expansion))

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        (h,) = state
        r_x, z_x, n_x = self.input(x).chunk(3, dim=-1)
        r_h, z_h, n_h = self.recurrent(h).chunk(3, dim=-1)
        r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
        n = (n_x + r * n_h).tanh()
        return ((1 - z) * n + z * h,)


class LSTMMixer(_TorchMixer):
    """`nn.LSTM` (Hochreiter and Schmidhuber 1997, with forget gates), for comparison.

    i, f, o = sigmoid(W x_t + U h_{t-1} + b); g = tanh(W_g x_t + U_g h_{t-1} + b_g);
    c_t = f c_{t-1} + i g; h_t = o tanh(c_t); y = W_down h

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        forget_bias: what is added to the bias of the forget gate at the start. Default 1.
    """

    State = LSTMState
    torch_function = staticmethod(torch.lstm)

    def __init__(self, width: int, *, expansion: float = 1.0, forget_bias: float = 1.0) -> None:
        H = expanded(width, expansion)
        super().__init__(width, 4, H)
        raise_forget_bias(self.input.bias[H:], H, forget_bias)  # torch's order has the input gate first

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        h, c = state
        i, f, g, o = (self.input(x) + self.recurrent(h)).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
