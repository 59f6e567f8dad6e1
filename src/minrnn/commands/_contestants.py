"""What `minrnn bench layers` times: each a function of x (B, T, D) with its parameters, D = H."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minrnn.layers import MinGRU, MinLSTM
from minrnn.recurrence import backend

FLOORS = {"MinGRU": "2 projections", "MinLSTM": "3 projections"}


@dataclass(frozen=True)
class Contestant:
    """One implementation of a layer."""

    name: str
    call: Callable[[Tensor], Tensor]  # x (B, T, D) -> (B, T, H), or (B, T, K*H) for a floor
    parameters: list[Tensor]
    reference: Callable[[Tensor], Tensor] | None  # what it must equal, in float64

    def forward_backward(self, x: Tensor, upstream: Tensor) -> None:
        """One training step's work: the output, and the gradients of x and of all parameters."""
        torch.autograd.grad(self.call(x), [x, *self.parameters], upstream)


def contestants(H: int, dtype: torch.dtype, peers: bool) -> list[Contestant]:
    """All of them for width H, with fresh weights."""
    rows = [floor(K, H, dtype) for K in (2, 3)]
    for layer_type in (MinGRU, MinLSTM):
        for name in ("cpu", "torch", "logspace"):
            rows.append(minimal(layer_type, name, H, dtype))
    rows += [recurrent(nn.GRU, H, dtype), recurrent(nn.LSTM, H, dtype), cell_loop(H, dtype)]
    if peers:
        rows.append(peer(H, dtype))
    return rows


def floor(K: int, H: int, dtype: torch.dtype) -> Contestant:
    """The projections alone: what no recurrence can be faster than."""
    linear = nn.Linear(H, K * H, dtype=dtype)
    return Contestant(f"{K} projections", linear, list(linear.parameters()), None)


def minimal(layer_type: type[MinGRU] | type[MinLSTM], implementation: str, H: int, dtype: torch.dtype) -> Contestant:
    """One of our layers under one backend; log space needs positive candidates."""
    activation = "g" if implementation == "logspace" else "identity"
    layer = layer_type(H, H, batch_first=True, dtype=dtype, activation=activation)
    double = layer_type(H, H, batch_first=True, dtype=torch.float64, activation=activation)
    double.load_state_dict(layer.state_dict())

    def call(x: Tensor) -> Tensor:
        with backend(implementation):
            out: Tensor = layer(x)[0]
        return out

    def reference(x: Tensor) -> Tensor:
        with backend("definition"):
            out: Tensor = double(x)[0]
        return out

    name = f"{layer_type.__name__} ({implementation})"
    return Contestant(name, call, list(layer.parameters()), reference)


def recurrent(layer_type: type[nn.GRU] | type[nn.LSTM], H: int, dtype: torch.dtype) -> Contestant:
    """torch's own layer."""
    layer = layer_type(H, H, batch_first=True, dtype=dtype)
    return Contestant(f"nn.{layer_type.__name__}", lambda x: layer(x)[0], list(layer.parameters()), None)


def cell_loop(H: int, dtype: torch.dtype) -> Contestant:
    """nn.GRUCell step by step in Python: what the paper's speed-ups were most likely measured against."""
    cell = nn.GRUCell(H, H, dtype=dtype)
    double = nn.GRU(H, H, batch_first=True, dtype=torch.float64)
    double.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})

    def call(x: Tensor) -> Tensor:
        h, states = x.new_zeros(x.shape[0], H), []
        for x_t in x.unbind(1):
            h = cell(x_t, h)
            states.append(h)
        return torch.stack(states, dim=1)

    return Contestant("GRUCell loop", call, list(cell.parameters()), lambda x: double(x)[0])


def peer(H: int, dtype: torch.dtype) -> Contestant:
    """The PyPI package mingru-pytorch, its parallel form."""
    from minrnn.errors import UserError

    if importlib.util.find_spec("minGRU_pytorch") is None:
        raise UserError("--peers needs the packages to compare with: pip install mingru-pytorch")
    from minGRU_pytorch import minGRU

    layer = minGRU(H).to(dtype)
    linear = layer.to_hidden_and_gate.weight
    double = linear.detach().double()

    def reference(x: Tensor) -> Tensor:
        candidate, gate = F.linear(x, double).chunk(2, dim=-1)
        from minrnn.recurrence import mingru

        with backend("definition"):
            return mingru(gate, candidate, activation="g")[0]

    return Contestant("mingru-pytorch", layer, [linear], reference)
