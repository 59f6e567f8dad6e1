"""The recurrence of sLSTM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import headwise
from ._fused import fused


def slstm_scan(
    input_forget: Tensor, cell_output: Tensor, R: Tensor, state: Tensor, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """sLSTM (arXiv 2405.04517, equations 8 to 18) from the logits that the input gives. Arguments are trusted: mixers
    check them.

    Args:
        input_forget: logits of input and forget gate, [i | f], (B, T, 2 * H).
        cell_output: logits of cell input and output gate, [z | o], like these.
        R: (heads, d, 4 * d) with heads * d = H, from the hidden channels of a head to its logits [i | f | z | o];
            in the dtype of the state.
        state: h, c, n and m before the first step, (B, 4, H), float32 or float64; zeros before a sequence.
        reset: (B, T) bool; the state is zeroed before step t where it is true.

    Returns:
        h (B, T, H) in the dtype of the logits; the last state, (B, 4, H), through whose m no gradient goes.
    """
    return _fused(input_forget, cell_output, R, state, reset=reset)


def _definition(
    input_forget: Tensor, cell_output: Tensor, R: Tensor, state: Tensor, *, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The loop over time that the kernels must agree with."""
    (B, T, _), (heads, d, _) = input_forget.shape, R.shape
    of_x = torch.cat([input_forget, cell_output], dim=-1).to(state.dtype).view(B, T, 4, heads * d)
    h, c, n, m = state.unbind(dim=1)
    outputs = []
    for t in range(T):
        if reset is not None:
            h, c, n, m = (torch.where(reset[:, t, None], 0, part) for part in (h, c, n, m))
        of_h = torch.einsum("bhk,hkge->bghe", h.view(B, heads, d), R.view(heads, d, 4, d))
        i, f, z, o = (of_x[:, t] + of_h.reshape(B, 4, heads * d)).unbind(dim=1)
        kept = torch.where(n == 0, -torch.inf, F.logsigmoid(f) + m.detach())  # nothing, before the first step
        m = torch.maximum(kept, i).detach()
        input, forget = torch.exp(i - m), torch.exp(kept - m)
        c = forget * c + input * torch.tanh(z)
        n = forget * n + input
        h = torch.sigmoid(o) * c / n
        outputs.append(h)
    y = torch.stack(outputs, dim=1).to(input_forget.dtype) if outputs else input_forget.new_zeros(B, T, heads * d)
    return y, torch.stack([h, c, n, m], dim=1)


def _sizes(tensors: Sequence[Tensor]) -> tuple[int, int, int]:
    """T, H, d"""
    logits, _, R, _ = tensors
    return logits.shape[1], logits.shape[2] // 2, R.shape[1]


_fused = fused("slstm", headwise, _definition, ("row", "row", "sequence"), _sizes, lambda tensors: tensors[2].shape[1])
