"""Recurrences over time, h_t from h_{t-1}: one function each, on every device, differentiable to every order.

    h, h_last = mingru(gate, candidate, h0)                  # arXiv 2410.01201, section 3.1
    h, h_last = minlstm(forget, input, candidate, h0)        # section 3.2
    h, h_last = linear_recurrence(a, b, h0)
    with backend("definition"): ...                          # the loop that the others must agree with

Shapes: B batch, T time, H hidden width; inputs and h are (B, T, H), h0 and h_last (B, H).
"""

from ._backend import backend
from ._backend import choose as choose
from ._both import walk_both as walk_both
from ._channelwise import channelwise as channelwise
from ._definitions import ACTIVATIONS as ACTIVATIONS
from ._diagonal import diagonal_scan as diagonal_scan
from ._layout import Spans as Spans
from ._layout import existing as existing
from ._layout import in_memory_order as in_memory_order
from ._layout import pack as pack
from ._layout import packed_spans as packed_spans
from ._layout import unpack as unpack
from ._ops import linear_recurrence, mingru, minlstm
from ._recompute import project_and_walk as project_and_walk
from ._selective import selective_scan as selective_scan
from ._slstm import slstm_scan as slstm_scan
from ._walk import walk as walk

__all__ = ["backend", "linear_recurrence", "mingru", "minlstm"]
