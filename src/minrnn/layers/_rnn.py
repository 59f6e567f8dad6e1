from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..fused import Linear
from ..mixers import Mixer, build, options
from ..recurrence import Spans, existing, pack, unpack
from ._shell import Shell


class RNN(Shell):
    """Any mixer of `minrnn.mixers`, called like `nn.GRU`.

    Args:
        mixer: a name of `minrnn.mixers.names()`, such as "mamba".
        input_size: D, features of the input. A layer whose input is not H wide maps it to H first.
        hidden_size: H, the width of the mixers and, for each direction, of the output.
        num_layers, batch_first, dropout, bidirectional: as for `MinGRU`.
        bias: of those maps, and of mixers that have the option. Default True.
        device, dtype: of the weights.
        chosen: options of the mixer, such as `state=32`; see its class.

    Call: `out, state = layer(input, hx=None, *, lengths=None, reset=None)`, all but hx and state as for `MinGRU`.
        state: the mixer's NamedTuple, each of its tensors with an axis of num_layers * directions in front: (num_layers
            * directions, B, ...). Pass it as the next chunk's hx.

    Sequences of several lengths run in stretches between the ends of sequences: exact for every mixer, and as many
    calls as there are different lengths. `MinGRU` and `MinLSTM` know lengths in their kernels.

    Raises:
        ValueError, TypeError: a name, option, shape, dtype or device does not fit.

    Example:
        >>> layer = RNN("gilr", 16, 32, num_layers=2, batch_first=True, bidirectional=True)
        >>> out, state = layer(torch.randn(8, 100, 16))
        >>> out.shape, state.h.shape
        (torch.Size([8, 100, 64]), torch.Size([4, 8, 32]))
    """

    def __init__(
        self,
        mixer: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **chosen: Any,
    ) -> None:
        super().__init__(
            *(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional), state_size=hidden_size
        )
        self.mixer = mixer
        if "bias" in options(mixer):
            chosen = {"bias": bias} | chosen
        self.inputs, self.mixers = nn.ModuleList(), nn.ModuleList()
        for layer in range(num_layers):
            size = input_size if layer == 0 else self.directions * hidden_size
            for _ in range(self.directions):
                self.inputs.append(nn.Identity() if size == hidden_size else Linear(size, hidden_size, bias=bias))
                self.mixers.append(build(mixer, width=hidden_size, layer=layer, num_layers=num_layers, **chosen))
        self.to(device=device, dtype=dtype)

    def _run(
        self, layer: int, direction: int, x: Tensor, h_0: Any, reset: Tensor | None, spans: Spans
    ) -> tuple[Tensor, Any]:
        if spans.starts is not None:
            y, state = self._run(layer, direction, unpack(x, spans), h_0, reset, Spans(spans.lengths))
            return pack(y, spans), state
        way = layer * self.directions + direction
        mixer = self.mixers[way]
        assert isinstance(mixer, Mixer)
        x = self.inputs[way](x)
        if direction == 0:
            return _run_lengths(mixer, x, h_0, reset, spans.lengths)
        y, state = _run_lengths(
            mixer,
            _reversed(x, spans.lengths),
            h_0,
            None if reset is None else _reversed(reset, spans.lengths),
            spans.lengths,
        )
        return _reversed(y, spans.lengths), state

    def _check_states(self, h_0: Any, batch: tuple[int, ...], device: torch.device) -> None:
        if h_0 is None:
            return
        ways = self.num_layers * self.directions
        kind = type(self.mixers[0].initial_state(0))  # type: ignore[operator]
        if not isinstance(h_0, kind):
            raise TypeError(f"hx is a {type(h_0).__name__}; expected a {kind.__name__}, as an earlier call returned")
        for field, tensor in zip(h_0._fields, h_0, strict=True):
            if tensor.shape[: 1 + len(batch)] != (ways, *batch):
                axes = "num_layers * directions, B, ..." if batch else "num_layers * directions, ..."
                raise ValueError(
                    f"hx.{field} has shape {tuple(tensor.shape)}; expected ({axes}), beginning with {(ways, *batch)}"
                )
            if tensor.device != device:
                raise ValueError(f"hx.{field} is on {tensor.device}; expected the device of input, {device}")

    def _first_of_pair(self, hx: Any) -> Any:
        return hx

    def extra_repr(self) -> str:
        return f"{self.mixer!r}, {super().extra_repr()}"


def _run_lengths(
    mixer: Mixer, x: Tensor, state: Any, reset: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, Any]:
    """mixer(x, state), where sequence b ends after `lengths[b]` steps: y is zero from there on, its state stays."""
    if lengths is None:
        return mixer(x, state, reset=reset)  # type: ignore[no-any-return]
    B, T = x.shape[:2]
    state = mixer.initial_state(B) if state is None else state
    pieces = []
    for start, stop in pairwise([0, *(n for n in torch.unique(lengths).tolist() if n)]):
        here, ended = (lengths > start).nonzero().flatten(), (lengths <= start).nonzero().flatten()
        cut = None if reset is None else reset[here, start:stop]
        y, last = mixer(x[here, start:stop], mixer.select_rows(state, here), reset=cut)
        pieces.append(y.new_zeros(B, stop - start, y.shape[-1]).index_copy(0, here, y))
        joined = mixer.concatenate_rows([mixer.select_rows(state, ended), last])
        state = mixer.select_rows(joined, torch.cat([ended, here]).argsort())
    done = sum(piece.shape[1] for piece in pieces)
    rest = (pieces[0] if pieces else x).new_zeros(B, T - done, mixer.width)
    return torch.cat([*pieces, rest], dim=1), state


def _reversed(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (B, T, ...) with the steps of each sequence in the other order; what lies after its end stays there."""
    if lengths is None:
        return x.flip(1)
    B, T = x.shape[:2]
    t = torch.arange(T, device=x.device)
    source = torch.where(existing(lengths, T), lengths[:, None] - 1 - t, t)  # (B, T)
    return x[torch.arange(B, device=x.device)[:, None], source]
