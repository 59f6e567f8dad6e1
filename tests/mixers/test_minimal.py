"""What minGRU and minLSTM promise beyond the contract of every mixer: no copy of a tensor as large as the sequence."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minrnn.mixers import build
from minrnn.recurrence import in_memory_order

D = 5


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


class Copies(TorchDispatchMode):
    """Names the operations that copy at least `size` elements into another layout."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.seen = size, list[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in ("clone", "copy_", "_to_copy", "contiguous") and result.numel() >= self.size:
            self.seen.append(name)
        return result


@pytest.mark.parametrize(("name", "chosen"), [("mingru", {"expansion": 1.4}), ("minlstm", {"normalize": False})])
@pytest.mark.parametrize("time_major", [False, True])
def test_neither_memory_order_is_copied(name: str, chosen: dict[str, Any], time_major: bool) -> None:
    B, T = 3, 50
    mixer = build(name, width=D, **chosen).double()
    x = random(T, B, D).transpose(0, 1) if time_major else random(B, T, D)
    x.requires_grad_()
    upstream = torch.empty_like(x).normal_()
    with Copies(size=B * T) as copies:
        y, _ = mixer(x)
        y.backward(upstream)
    assert copies.seen == []
    assert y.stride() == x.stride()
    assert x.grad is not None
    assert x.grad.stride() == x.stride()


def test_in_memory_order_leaves_broadcast_and_mixed_layouts_right() -> None:
    x = random(1, 4, D).expand(3, 4, D)
    assert torch.equal(in_memory_order(torch.exp, x), x.exp())
    a, b = random(3, 4, D), random(4, 3, D).transpose(0, 1)
    assert torch.equal(in_memory_order(torch.add, a, b), a + b)
