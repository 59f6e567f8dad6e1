"""Minimal recurrent networks that train at the speed of matrix multiplication and run step by step in constant memory.

    from minrnn import MinGRU, MinLSTM            # called like nn.GRU
    from minrnn.recurrence import mingru, minlstm # the recurrences alone
    from minrnn.models import LanguageModel       # blocks, stacks and a language model

Source: "Were RNNs All We Needed?", arXiv 2410.01201.
"""

from minrnn.layers import MinGRU, MinLSTM

__version__ = "0.1.0"
__all__ = ["MinGRU", "MinLSTM", "__version__"]
