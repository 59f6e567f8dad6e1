"""Layers with the calling convention of `nn.GRU`."""

from ._layers import MinGRU, MinLSTM
from ._replace import Replacement, replace_recurrent
from ._rnn import RNN

__all__ = ["RNN", "MinGRU", "MinLSTM", "Replacement", "replace_recurrent"]
