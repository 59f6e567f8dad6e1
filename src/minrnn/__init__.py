"""Minimal recurrent networks that train at the speed of matrix multiplication and run step by step in constant memory.

    from minrnn import MinGRU, MinLSTM             # called like nn.GRU
    from minrnn import RNN                         # any mixer, called like nn.GRU: RNN("mamba", 32, 64)
    from minrnn import replace_recurrent           # swaps torch's layers in a model that you have
    from minrnn import stream                      # one value at a time, from a trained run
    from minrnn.recurrence import mingru, minlstm  # the recurrences alone
    from minrnn.mixers import build, names         # mamba, rwkv4, attention and others on one contract
    from minrnn.models import LanguageModel        # blocks, stacks and a language model

Source: "Were RNNs All We Needed?", arXiv 2410.01201.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minrnn.layers import RNN, MinGRU, MinLSTM, replace_recurrent
    from minrnn.streaming import stream

__version__ = "0.1.0"
__all__ = ["RNN", "MinGRU", "MinLSTM", "__version__", "replace_recurrent", "stream"]


def __getattr__(name: str) -> Any:
    """The layers, imported when they are asked for: `minrnn --help` need not wait for torch."""
    if name in ("MinGRU", "MinLSTM", "RNN", "replace_recurrent"):
        from minrnn import layers

        return getattr(layers, name)
    if name == "stream":
        from minrnn.streaming import stream

        return stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
