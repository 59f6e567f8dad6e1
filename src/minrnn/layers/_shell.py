"""What turns one-direction, one-layer cells into a layer that is called like `nn.GRU`."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..mixers import MinimalCell, in_memory_order


class Shell(nn.Module):
    """Layers, directions, dropout between them and both memory orders, over the cells of `make_cell(input_size)`."""

    def __init__(
        self,
        make_cell: Callable[[int], MinimalCell],
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
    ) -> None:
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}; expected an int")
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        for name, value in (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}; expected a bool (arguments stand in the order of nn.GRU's)")
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout!r}; expected a share between 0 and 1")
        if dropout and num_layers == 1:
            warnings.warn(
                f"dropout={dropout} does nothing with num_layers=1: it stands between layers, not after the last",
                stacklevel=3,
            )
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        directions = 2 if bidirectional else 1
        sizes = [input_size] + [directions * hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(make_cell(size) for size in sizes for _ in range(directions))

    def forward(self, x: Tensor, h_0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (T, B, D), (B, T, D) with batch_first, or (T, D) -> out, h_n."""
        self._check(x, h_0)
        if x.dim() == 2:
            unbatched = x.unsqueeze(0 if self.batch_first else 1)
            out, h_n = self(unbatched, None if h_0 is None else h_0.unsqueeze(1))
            return out.squeeze(0 if self.batch_first else 1), h_n.squeeze(1)
        out = x if self.batch_first else x.transpose(0, 1)  # (B, T, D), in the caller's memory order
        last_states = []
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            states = []
            for direction in range(directions):
                index = layer * directions + direction
                h, h_last = self.cells[index](out, None if h_0 is None else h_0[index], reverse=direction == 1)
                states.append(h)
                last_states.append(h_last)
            out = states[0] if directions == 1 else in_memory_order(_side_by_side, *states)  # (B, T, directions * H)
            if self.dropout and layer < self.num_layers - 1:
                out = F.dropout(out, self.dropout, self.training)
        h_n = torch.stack(last_states)  # (L * directions, B, H)
        return out if self.batch_first else out.transpose(0, 1), h_n

    def _check(self, x: Tensor, h_0: Tensor | None) -> None:
        if isinstance(x, PackedSequence):
            raise TypeError(
                "x is a PackedSequence; expected a padded tensor: "
                f"call torch.nn.utils.rnn.pad_packed_sequence(x, batch_first={self.batch_first}) first"
            )
        layout = "(B, T, D)" if self.batch_first else "(T, B, D)"
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected {layout} or (T, D) with D = input_size = {self.input_size}"
            )
        weight: Tensor = self.cells[0].projection.weight  # type: ignore[union-attr,assignment]
        if x.device != weight.device:
            raise ValueError(f"x is on {x.device}; expected the device of the weights, {weight.device}")
        if x.dtype != weight.dtype and not _autocasts(x):
            raise TypeError(
                f"x has dtype {x.dtype}; expected that of the weights, {weight.dtype}: call x.to({weight.dtype})"
            )
        if h_0 is None:
            return
        states = self.num_layers * (2 if self.bidirectional else 1)
        expected: tuple[int, ...] = (states, self.hidden_size)
        axes = "H"
        if x.dim() == 3:
            expected, axes = (states, x.shape[0 if self.batch_first else 1], self.hidden_size), "B, H"
        if h_0.shape != expected:
            raise ValueError(
                f"h_0 has shape {tuple(h_0.shape)}; expected (num_layers * directions, {axes}) = {expected}"
            )
        if h_0.device != x.device:
            raise ValueError(f"h_0 is on {h_0.device}; expected the device of x, {x.device}")
        if not h_0.is_floating_point():
            raise TypeError(f"h_0 has dtype {h_0.dtype}; expected a floating dtype: call .float() on it")

    def extra_repr(self) -> str:
        shown = [str(self.input_size), str(self.hidden_size)]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        shown += [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join(shown)


def _side_by_side(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors, dim=-1)


def _autocasts(x: Tensor) -> bool:
    """Whether a matrix product here converts x by itself."""
    return x.is_floating_point() and x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type)
