from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..mixers import check_activation, exempt_from_weight_decay, expanded, raise_forget_bias
from ..recurrence import ACTIVATIONS, Spans, in_memory_order, project_and_walk, walk_both
from ._shell import Shell


class _Minimal(Shell):
    """Stacked projections under torch's parameter names, `weight_ih_l0`, `bias_ih_l0` and `..._reverse`, then the walk.

    Weights start as those of `nn.Linear`, uniform within 1 / sqrt(D), not within 1 / sqrt(H) like `nn.GRU`'s:
    everything here reads D inputs and no state, and h, a mean of candidates, has their scale whatever H is.
    """

    h_0: Tensor | None

    def __init__(
        self,
        recurrence: str,
        projections: int,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        *,
        activation: str,
        expansion: float | None,
        learn_h_0: bool,
        recompute: bool,
        proj_size: int,
        device: Any,
        dtype: torch.dtype | None,
        **shell: Any,
    ) -> None:
        check_activation(activation)
        if proj_size:
            raise ValueError(
                f"proj_size is {proj_size}; expected 0: nn.LSTM projects its state to make the matrix that reads it "
                "smaller, and here no matrix reads the state; expansion=E makes the state wider than the output instead"
            )
        state_size = hidden_size if expansion is None else expanded(hidden_size, expansion)
        super().__init__(
            *(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional),
            state_size=state_size,
            **shell,
        )
        self.recurrence, self.activation = f"{recurrence}/{activation}", activation
        self.expansion, self.recompute = expansion, recompute
        factory = {"device": device, "dtype": dtype}
        shape_of_h_0 = num_layers * self.directions, state_size
        self.register_parameter("h_0", nn.Parameter(torch.empty(shape_of_h_0, **factory)) if learn_h_0 else None)
        self._names: list[list[str]] = []
        for layer in range(num_layers):
            size = input_size if layer == 0 else self.directions * hidden_size
            for direction in range(self.directions):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (projections * state_size, size)}
                if bias:
                    shapes["bias_ih"] = (projections * state_size,)
                if expansion is not None:
                    shapes["weight_hr"] = (hidden_size, state_size)
                names = []
                for kind, shape in shapes.items():
                    names.append(f"{kind}_l{layer}{'_reverse' if direction else ''}")
                    self.register_parameter(names[-1], nn.Parameter(torch.empty(shape, **factory)))
                self._names.append(names)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights; a learned h_0 starts at zero, before its activation."""
        for names in self._names:
            bound = getattr(self, names[0]).shape[1] ** -0.5
            for name in names:
                parameter = getattr(self, name)
                within = self.state_size**-0.5 if name.startswith("weight_hr") else bound
                nn.init.uniform_(parameter, -within, within)
                if not name.startswith("weight_hr"):
                    exempt_from_weight_decay(parameter)  # the gates; as the authors' code does
        if self.h_0 is not None:
            nn.init.zeros_(self.h_0)
            exempt_from_weight_decay(self.h_0)

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights of each layer and direction, as `nn.GRU` lists them."""
        return [[getattr(self, name) for name in names] for names in self._names]

    def _initial_states(self, B: int) -> Tensor | None:
        if self.h_0 is None:
            return None
        return ACTIVATIONS[self.activation](self.h_0)[:, None].expand(-1, B, -1)

    def _run(
        self, layer: int, direction: int, x: Tensor, h_0: Tensor | None, reset: Tensor | None, spans: Spans
    ) -> tuple[Tensor, Tensor]:
        names = self._names[layer * self.directions + direction]
        weight = getattr(self, names[0])
        bias = getattr(self, names[1]) if self.bias else None
        h, h_last = project_and_walk(
            *(self.recurrence, x, weight, bias, h_0, reset),
            spans=spans,
            reverse=direction == 1,
            recompute=self.recompute,
        )
        if self.expansion is None:
            return h, h_last
        down = getattr(self, names[-1])
        return in_memory_order(lambda h: F.linear(h, down), h), h_last

    def _run_layer(
        self,
        layer: int,
        x: Tensor,
        h_0: list[Tensor | None],
        reset: list[Tensor | None],
        spans: Spans,
    ) -> tuple[Tensor, list[Tensor]]:
        if not self.bidirectional or self.recompute or self.expansion is not None:
            return super()._run_layer(layer, x, h_0, reset, spans)
        ways = [self._names[2 * layer + way] for way in (0, 1)]
        weight = torch.cat([getattr(self, names[0]) for names in ways])
        bias = torch.cat([getattr(self, names[1]) for names in ways]) if self.bias else None
        projected = in_memory_order(lambda x: F.linear(x, weight, bias), x)
        h, *states = walk_both(self.recurrence, projected, (h_0[0], h_0[1]), (reset[0], reset[1]), spans=spans)
        return h, states

    def _expected(self) -> tuple[torch.device, torch.dtype]:
        weight = getattr(self, self._names[0][0])
        return weight.device, weight.dtype

    def extra_repr(self) -> str:
        shown = {
            "activation": (self.activation, "identity"),
            "expansion": (self.expansion, None),
            "learn_h_0": (self.h_0 is not None, False),
            "recompute": (self.recompute, False),
            "pair": (self.pair, False),
            "state_dtype": (self.state_dtype, None),
        }
        extras = [f"{name}={value!r}" for name, (value, default) in shown.items() if value != default]
        return ", ".join([super().extra_repr(), *extras])


class MinGRU(_Minimal):
    """Minimal GRU, called like `nn.GRU` (arXiv 2410.01201, section 3.1).

    z_t = sigmoid(W_z x_t + b_z);  c_t = act(W_h x_t + b_h);  h_t = (1 - z_t) * h_{t-1} + z_t * c_t

    Gates read the input alone, so all projections are one matrix product, and the rest is one walk over time.

    Args:
        input_size: D, features of the input.
        hidden_size: H, features of the state and, for each direction, of the output.
        num_layers: layers, each reading the output of the one below. Default 1.
        bias: add b_z and b_h. Default True.
        batch_first: input and output are (B, T, ...) instead of (T, B, ...). Default False.
        dropout: share of each layer's output that is dropped in training, but for the last layer. Default 0.
        bidirectional: a second direction with weights of its own reads from the end; outputs are aligned and
            concatenated.
        device, dtype: of the weights.
        activation: act, "identity" (default), "g" (positive: the parametrisation of the paper's log-space form,
            Appendix B.2.1) or "tanh".
        expansion: make the state of each layer expansion * H wide, and bring it back to H with a matrix `weight_hr_l0`
            of its own, without bias, as the paper's blocks do (Appendix C). h_0 and h_n are then that wide. Default
            None: neither.
        learn_h_0: where a call gives no h_0, start from learned states act(`h_0`) instead of zeros. A reset still
            means zero. Default False.
        recompute: keep the projections, which are 2 H wide, of a piece of the sequence at a time, and compute them
            again in the backward pass: for sequences longer than memory. Gradients stay exact. Under `torch.compile`,
            `torch.func`, forward mode, float16 and backends without kernels all of them are kept. Default False.
        pair: take a pair (h_0, c_0) like `nn.LSTM`, ignore c_0, and return (out, (h_n, h_n)). Default False.
        state_dtype: of h_n, that of the input by default. `torch.float32` lets chunks and single steps of a bfloat16
            layer continue without rounding the state.

    Call: `out, h_n = layer(input, hx=None, *, lengths=None, reset=None)`
        input: (T, B, D), or (B, T, D) with `batch_first`, or (T, D) for one sequence, or a `PackedSequence`.
        hx: h_0, the states to start from, (num_layers * directions, B, H), zeros by default; (num_layers * directions,
            H) for one sequence.
        lengths: (B,), steps of each padded sequence: out is zero after them, h_n is the state at them, and the backward
            direction starts from them. A length of 0 returns h_0. Padding may hold any finite numbers.
        reset: (B, T) bool, whatever `batch_first` is; a new sequence starts at step t: the state is zeroed before it.
        out: (T, B, directions * H), arranged as the input.
        h_n: last states, shaped as h_0. Pass it as the next chunk's h_0.

    Raises:
        ValueError, TypeError: a shape, dtype or device does not fit; the message says which and what is expected.

    Example:
        >>> layer = MinGRU(16, 32, num_layers=2, batch_first=True)
        >>> out, h_n = layer(torch.randn(8, 100, 16))
        >>> out.shape, h_n.shape
        (torch.Size([8, 100, 32]), torch.Size([2, 8, 32]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str = "identity",
        expansion: float | None = None,
        learn_h_0: bool = False,
        recompute: bool = False,
        pair: bool = False,
        state_dtype: torch.dtype | None = None,
        proj_size: int = 0,
    ) -> None:
        super().__init__(
            *("mingru", 2, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional),
            activation=activation,
            expansion=expansion,
            learn_h_0=learn_h_0,
            recompute=recompute,
            proj_size=proj_size,
            device=device,
            dtype=dtype,
            pair=pair,
            state_dtype=state_dtype,
        )


class MinLSTM(_Minimal):
    """Minimal LSTM, called like `nn.GRU` (arXiv 2410.01201, section 3.2).

    f_t, i_t = sigmoid(W_f x_t + b_f), sigmoid(W_i x_t + b_i);  c_t = act(W_h x_t + b_h)
    h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * c_t

    There is no output gate, which is what makes h and the cell state of an LSTM two things: here they are one, and the
    layer returns `(out, h_n)`. Code that hands on a pair takes `pair=True`.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype, activation,
            expansion, learn_h_0, recompute, pair, state_dtype: as for `MinGRU`.
        normalize: divide both gates by f + i (default, the paper's form). False is the default of the authors'
            released code.
        forget_bias: added to b_f at the start; a larger one remembers longer. Default 0.

    Call, errors: as for `MinGRU`.

    Example:
        >>> out, h_n = MinLSTM(16, 32, batch_first=True)(torch.randn(8, 100, 16))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str = "identity",
        normalize: bool = True,
        forget_bias: float = 0.0,
        expansion: float | None = None,
        learn_h_0: bool = False,
        recompute: bool = False,
        pair: bool = False,
        state_dtype: torch.dtype | None = None,
        proj_size: int = 0,
    ) -> None:
        self.forget_bias = forget_bias
        super().__init__(
            "minlstm" if normalize else "minlstm_unnormalized",
            *(3, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional),
            activation=activation,
            expansion=expansion,
            learn_h_0=learn_h_0,
            recompute=recompute,
            proj_size=proj_size,
            device=device,
            dtype=dtype,
            pair=pair,
            state_dtype=state_dtype,
        )

    def reset_parameters(self) -> None:
        """Draw fresh weights, and raise the bias of the forget gates."""
        super().reset_parameters()
        if self.forget_bias:
            for names in self._names:
                raise_forget_bias(getattr(self, names[1]) if self.bias else None, self.state_size, self.forget_bias)

    def extra_repr(self) -> str:
        normalize = self.recurrence.split("/")[0] == "minlstm"
        extras = [] if normalize else ["normalize=False"]
        extras += [f"forget_bias={self.forget_bias:g}"] if self.forget_bias else []
        return ", ".join([super().extra_repr(), *extras])
