"""Layers with the calling convention of `nn.GRU`."""

from ._layers import MinGRU, MinLSTM

__all__ = ["MinGRU", "MinLSTM"]
