from __future__ import annotations

from typing import Any

import torch

from ..mixers import mingru_cell, minlstm_cell
from ._shell import Shell


class MinGRU(Shell):
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
        activation: act, "identity" (default), "g" (positive, Appendix B.2.1) or "tanh".

    Call: `out, h_n = layer(x, h_0=None)`
        x: (T, B, D), or (B, T, D) with `batch_first`, or (T, D) for one sequence.
        h_0: states to start from, (num_layers * directions, B, H), zeros by default; (num_layers * directions, H) for
            one sequence.
        out: (T, B, directions * H), arranged as x.
        h_n: last states, shaped as h_0, in the dtype of the state: float32, or float64 for float64. Pass it as the
            next chunk's h_0.

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
    ) -> None:
        def cell(size: int) -> Any:
            return mingru_cell(size, hidden_size, bias=bias, activation=activation, device=device, dtype=dtype)

        super().__init__(cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)


class MinLSTM(Shell):
    """Minimal LSTM, called like `nn.GRU` (arXiv 2410.01201, section 3.2).

    f_t, i_t = sigmoid(W_f x_t + b_f), sigmoid(W_i x_t + b_i);  c_t = act(W_h x_t + b_h)
    h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * c_t

    There is no output gate and so no cell state beside h: the layer returns `(out, h_n)`, not a pair of states.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype, activation: as
            for `MinGRU`.
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
    ) -> None:
        def cell(size: int) -> Any:
            return minlstm_cell(
                size,
                hidden_size,
                bias=bias,
                activation=activation,
                normalize=normalize,
                forget_bias=forget_bias,
                device=device,
                dtype=dtype,
            )

        super().__init__(cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
