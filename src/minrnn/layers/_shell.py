"""What turns one-direction, one-layer recurrences into a layer that is called like `nn.GRU`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..recurrence import Spans, existing, in_memory_order, packed_spans


class Shell(nn.Module):
    """Layers, directions, dropout between them, both memory orders, packed and padded sequences of several lengths.

    A subclass says what one layer in one direction does, in `_run`. States are tensors (B, S), or NamedTuples of
    tensors with B first; stacked over layers and directions they are the h_0 and h_n of a call.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        *,
        state_size: int,
        state_dtype: torch.dtype | None = None,
        pair: bool = False,
    ) -> None:
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}; expected an int")
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        flags = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional, "pair": pair}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise TypeError(f"{name} is {flag!r}; expected a bool (arguments stand in the order of nn.GRU's)")
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout!r}; expected a share between 0 and 1")
        if dropout and num_layers == 1:
            bases = type(self).__mro__
            constructors = sum("__init__" in vars(base) for base in bases[: bases.index(Shell)])
            warnings.warn(
                f"dropout={dropout} does nothing with num_layers=1: it stands between layers, not after the last",
                stacklevel=2 + constructors,
            )
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self.directions = 2 if bidirectional else 1
        self.state_size, self.state_dtype, self.pair = state_size, state_dtype, pair

    def _run(
        self, layer: int, direction: int, x: Tensor, h_0: Any, reset: Tensor | None, spans: Spans
    ) -> tuple[Tensor, Any]:
        """One layer in one direction: x (B, T, D) or packed (N, D) -> out of the same rows, the last state (B, S)."""
        raise NotImplementedError

    def _run_layer(
        self,
        layer: int,
        x: Tensor,
        h_0: list[Any],
        reset: list[Tensor | None],
        spans: Spans,
    ) -> tuple[Tensor, list[Any]]:
        """All directions of one layer, side by side in out; h_0 and reset have one for each."""
        if self.directions == 1:
            out, state = self._run(layer, 0, x, h_0[0], reset[0], spans)
            return out, [state]
        runs = [self._run(layer, way, x, h_0[way], reset[way], spans) for way in range(self.directions)]
        outputs, states = [list(of_all) for of_all in zip(*runs, strict=True)]
        return in_memory_order(_side_by_side, *outputs), states

    def _initial_states(self, B: int) -> Tensor | None:
        """Where a call without h_0 starts, (num_layers * directions, B, S); None for zeros."""
        return None

    def flatten_parameters(self) -> None:
        """Nothing: weights here need not lie in one piece. `nn.GRU` has this method, so models call it."""

    def _expected(self) -> tuple[torch.device, torch.dtype]:
        parameter = next(self.parameters())
        return parameter.device, parameter.dtype

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        """input (T, B, D), (B, T, D) with batch_first, (T, D), or packed -> out, h_n; see the class."""
        h_0 = self._first_of_pair(hx)
        out: Tensor | PackedSequence
        if isinstance(input, PackedSequence):
            out, h_n = self._packed(input, h_0, lengths, reset)
        elif input.dim() == 2:
            out, h_n = self._unbatched(input, h_0, lengths, reset)
        else:
            out, h_n = self._batched(input, h_0, lengths, reset)
        return out, ((h_n, h_n.clone()) if self.pair else h_n)

    def _first_of_pair(self, hx: Any) -> Any:
        if hx is None or (isinstance(hx, Tensor) and not self.pair):
            return hx
        if self.pair and isinstance(hx, tuple | list) and len(hx) == 2:
            return hx[0]
        wanted = (
            "a pair (h_0, c_0), of which c_0 is not used" if self.pair else "one tensor h_0, or pair=True for pairs"
        )
        raise TypeError(f"hx is a {type(hx).__name__}; expected {wanted}")

    def _packed(self, input: PackedSequence, h_0: Any, lengths: object, reset: object) -> tuple[PackedSequence, Any]:
        for name, value in (("lengths", lengths), ("reset", reset)):
            if value is not None:
                raise ValueError(f"{name} is given with a PackedSequence; expected a padded tensor with {name}")
        data, batch_sizes, ordered, back = input
        self._check_input(data, 2, "packed (N, D)")
        B = _checked_batch_sizes(data, batch_sizes, ordered, back)
        self._check_states(h_0, (B,), data.device)
        if h_0 is not None and ordered is not None:
            h_0 = of_each(lambda h: h.index_select(1, ordered), h_0)
        out, h_n = self._stack(data, h_0, None, packed_spans(batch_sizes), B)
        if back is not None:
            h_n = of_each(lambda h: h.index_select(1, back), h_n)
        return PackedSequence(out, batch_sizes, ordered, back), h_n

    def _unbatched(self, input: Tensor, h_0: Any, lengths: object, reset: Tensor | None) -> tuple[Tensor, Any]:
        if lengths is not None:
            raise ValueError("lengths is given with one sequence (T, D); expected a batch")
        self._check_input(input, 2)
        self._check_states(h_0, (), input.device)
        axis = 0 if self.batch_first else 1
        out, h_n = self._batched(
            input.unsqueeze(axis),
            None if h_0 is None else of_each(lambda h: h.unsqueeze(1), h_0),
            None,
            reset.unsqueeze(0) if reset is not None and reset.dim() == 1 else reset,
        )
        return out.squeeze(axis), of_each(lambda h: h.squeeze(1), h_n)

    def _batched(
        self, input: Tensor, h_0: Any, lengths: Tensor | Sequence[int] | None, reset: Tensor | None
    ) -> tuple[Tensor, Any]:
        self._check_input(input, 3)
        x = input if self.batch_first else input.transpose(0, 1)  # (B, T, D), in the caller's memory order
        B, T = x.shape[:2]
        self._check_states(h_0, (B,), x.device)
        if reset is not None and (reset.shape != (B, T) or reset.dtype != torch.bool):
            raise ValueError(
                f"reset has shape {tuple(reset.shape)} and dtype {reset.dtype}; "
                f"expected (B, T) = {(B, T)} and torch.bool, whatever batch_first is"
            )
        if reset is not None and reset.device != x.device:
            raise ValueError(f"reset is on {reset.device}; expected the device of input, {x.device}")
        spans = Spans() if lengths is None else Spans(_checked_lengths(lengths, B, T, x.device))
        out, h_n = self._stack(x, h_0, reset, spans, B)
        return out if self.batch_first else out.transpose(0, 1).contiguous(), h_n

    def _stack(self, x: Tensor, h_0: Any, reset: Tensor | None, spans: Spans, B: int) -> tuple[Tensor, Any]:
        """All layers and directions."""
        dtype = x.dtype
        h_0 = self._initial_states(B) if h_0 is None else h_0
        if reset is not None and spans.lengths is not None:
            reset = reset & existing(spans.lengths, reset.shape[1])
        # A sequence that starts at step t ends at step t - 1 for those who read from the end.
        resets = [reset, None if reset is None else F.pad(reset[:, 1:], (0, 1))[:, : reset.shape[1]]]
        last_states = []
        for layer in range(self.num_layers):
            ways = range(layer * self.directions, (layer + 1) * self.directions)
            initial = [None if h_0 is None else of_each(lambda h, way=way: h[way], h_0) for way in ways]
            x, states = self._run_layer(layer, x, initial, resets, spans)
            last_states += states
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        h_n = of_each(lambda *h: torch.stack(h) if len(h) > 1 else h[0][None], *last_states)
        if isinstance(h_n, Tensor):
            h_n = h_n.to(self.state_dtype or dtype)
        return x, h_n

    def _check_input(self, x: Tensor, dimensions: int, layout: str | None = None) -> None:
        if x.dim() != dimensions or x.shape[-1] != self.input_size:
            layout = layout or ("(B, T, D) or (T, D)" if self.batch_first else "(T, B, D) or (T, D)")
            raise ValueError(
                f"input has shape {tuple(x.shape)}; expected {layout} with D = input_size = {self.input_size}"
            )
        device, dtype = self._expected()
        if x.device != device:
            raise ValueError(f"input is on {x.device}; expected the device of the weights, {device}")
        if x.dtype != dtype and not _autocasts(x):
            raise TypeError(f"input has dtype {x.dtype}; expected that of the weights, {dtype}: call input.to({dtype})")

    def _check_states(self, h_0: Any, batch: tuple[int, ...], device: torch.device) -> None:
        """`batch` is (B,), or () for one sequence."""
        if h_0 is None:
            return
        expected = (self.num_layers * self.directions, *batch, self.state_size)
        if h_0.shape != expected:
            axes = "B, H" if batch else "H"
            raise ValueError(
                f"h_0 has shape {tuple(h_0.shape)}; expected (num_layers * directions, {axes}) = {expected}"
            )
        if h_0.device != device:
            raise ValueError(f"h_0 is on {h_0.device}; expected the device of input, {device}")
        if not h_0.is_floating_point():
            raise TypeError(f"h_0 has dtype {h_0.dtype}; expected a floating dtype: call .float() on it")

    def extra_repr(self) -> str:
        shown = [str(self.input_size), str(self.hidden_size)]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        shown += [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join(shown)


def of_each(function: Callable[..., Tensor], *states: Any) -> Any:
    """function(*states) of tensors, or of each field of NamedTuples."""
    if isinstance(states[0], Tensor):
        return function(*states)
    return type(states[0])(*(function(*tensors) for tensors in zip(*states, strict=True)))


def _checked_lengths(lengths: Tensor | Sequence[int], B: int, T: int, device: torch.device) -> Tensor:
    if not isinstance(lengths, Tensor) and not len(lengths):
        lengths = torch.zeros(0, dtype=torch.int64)  # torch takes an empty list for floats
    lengths = torch.as_tensor(lengths)
    if lengths.shape != (B,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)} and dtype {lengths.dtype}; expected (B,) = ({B},), whole numbers"
        )
    # A compiled graph cannot look at values; kernels are safe for lengths up to T alone, so they are cut there.
    if torch.compiler.is_compiling():
        lengths = lengths.clamp(0, T)
    elif B and not 0 <= int(lengths.min()) <= int(lengths.max()) <= T:
        raise ValueError(f"lengths run from {int(lengths.min())} to {int(lengths.max())}; expected 0 to T = {T}")
    return lengths.to(device=device, dtype=torch.int64, copy=True).contiguous()  # the caller may change theirs


def _checked_batch_sizes(data: Tensor, batch_sizes: Tensor, *orders: Tensor | None) -> int:
    """B. A `PackedSequence` is a tuple that anyone can put together, and kernels trust what it says."""
    B = int(batch_sizes[0]) if len(batch_sizes) else 0
    rows = int(batch_sizes.sum())
    if rows != len(data):
        raise ValueError(f"the PackedSequence has {len(data)} rows of data; its batch_sizes expect {rows}")
    if B < 1 or int(batch_sizes.min()) < 1 or bool((batch_sizes[1:] > batch_sizes[:-1]).any()):
        raise ValueError("the batch_sizes of the PackedSequence rise or are not positive; expected falling numbers")
    for order in orders:
        if order is not None and order.shape != (B,):
            raise ValueError(f"an order of the PackedSequence has shape {tuple(order.shape)}; expected (B,) = ({B},)")
    return B


def _side_by_side(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors, dim=-1)


def _autocasts(x: Tensor) -> bool:
    """Whether a matrix product here converts x by itself."""
    return x.is_floating_point() and x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type)
