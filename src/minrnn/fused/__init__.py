"""The pieces around a mixer, one pass each on a CPU: norm, causal convolution, activation and dropout.

Eager torch reads and writes memory several times for each of these, which then costs as much as a matrix product. On
a CPU they run as Numba kernels, under `torch.compile` and on other devices as the plain torch of `_definitions`. All
are differentiable to every order.
"""

from ._blocks import BlockLinear
from ._conv import causal_conv, recent
from ._dropout import dropout_add, gelu_dropout
from ._gate import gated
from ._linear import Linear, linear
from ._norm import rms_norm

__all__ = [
    "BlockLinear",
    "Linear",
    "causal_conv",
    "dropout_add",
    "gated",
    "gelu_dropout",
    "linear",
    "recent",
    "rms_norm",
]
