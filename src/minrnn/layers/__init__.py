"""Layers with the calling convention of `nn.GRU`."""

from ._layers import MinGRU, MinLSTM
from ._replace import Replacement, replace_recurrent

__all__ = ["MinGRU", "MinLSTM", "Replacement", "replace_recurrent"]
