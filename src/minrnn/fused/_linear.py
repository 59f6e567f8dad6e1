from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._autograd import nothing_to_record
from ..kernels import rows
from ..kernels._threads import parallel
from ._common import flat, fusable

FEW_ROWS = 4  # up to which reading the weight is all the work
PER_ELEMENT = 64  # multiply-adds that take as long as an element of the kernels that threads are rationed for

_NO_BIAS = torch.empty(0)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, as `F.linear`; single steps read the weight at the speed of memory.

    A product of one row does nothing but read the weight, and the libraries behind `F.linear` do that at a fraction
    of what memory gives. Where no gradient is asked for, on a CPU, up to 4 rows go through a kernel that does not.

    Args:
        x: (..., D).
        weight: (E, D), in the dtype of x.
        bias: (E,).

    Returns:
        (..., E)

    Example:
        >>> with torch.inference_mode():
        ...     y = linear(torch.randn(1, 1, 384), torch.randn(1536, 384))
    """
    if not (fusable(x, weight) and nothing_to_record() and _few(x, weight, bias)) or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    E, D = weight.shape
    y = x.new_empty(*x.shape[:-1], E)
    arguments = (flat(x), flat(weight), flat(_NO_BIAS.to(x.dtype) if bias is None else bias), flat(y))
    sizes = (x.numel() // D, D, E)
    units = -(-E // rows.OUTPUTS)
    parallel(lambda first, last: rows.product()(*arguments, *sizes, first, last), units, E * D // PER_ELEMENT)
    return y


def _few(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    E, D = weight.shape if weight.dim() == 2 else (0, 0)
    fits = x.shape[-1] == D and x.dtype == weight.dtype
    return 0 < x.numel() <= FEW_ROWS * D and fits and (bias is None or bias.shape == (E,))


class Linear(nn.Linear):
    """`nn.Linear` that calls `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., E)"""
        return linear(input, self.weight, self.bias)
