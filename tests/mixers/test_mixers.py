"""The contract of every mixer: one call serves whole sequences, chunks and single steps, and resets part sequences."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minrnn.mixers import Mixer, RecurrentState, build
from minrnn.recurrence import backend, in_memory_order

D = 5
MIXERS: list[tuple[str, dict[str, Any]]] = [
    ("mingru", {"expansion": 1.4, "activation": "identity"}),
    ("mingru", {"expansion": 0.6, "activation": "g"}),
    ("minlstm", {"expansion": 1.4, "activation": "tanh", "forget_bias": 1.0}),
    ("minlstm", {"expansion": 1.0, "normalize": False, "bias": False}),
]
every_mixer = pytest.mark.parametrize(("name", "chosen"), MIXERS, ids=lambda value: str(value))


def make(name: str, chosen: dict[str, Any]) -> Mixer:
    torch.manual_seed(0)
    return build(name, width=D, **chosen).double()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def random_state(mixer: Mixer, B: int) -> RecurrentState:
    return RecurrentState(torch.rand_like(mixer.initial_state(B).h))


@every_mixer
@pytest.mark.parametrize(("B", "T"), [(3, 7), (1, 1), (2, 0), (0, 4), (1, 130)])
def test_equals_the_definition_with_all_gradients(name: str, chosen: dict[str, Any], B: int, T: int) -> None:
    mixer = make(name, chosen)
    x, h = random(B, T, D).requires_grad_(), random_state(mixer, B).h.requires_grad_()
    reset = torch.rand(B, T) < 0.2
    upstream = random(B, T, D), torch.randn_like(h)

    def run() -> list[Tensor]:
        y, state = mixer(x, RecurrentState(h), reset=reset)
        inputs = [x, h, *mixer.parameters()]
        return [y, state.h, *torch.autograd.grad([y, state.h], inputs, upstream, materialize_grads=True)]

    fast = run()
    with backend("definition"):
        for actual, expected in zip(fast, run(), strict=True):
            close(actual, expected)


@every_mixer
@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.sampled_from([0, 1, 2, 5, 17]), min_size=1, max_size=4), B=st.integers(1, 3), data=st.data())
def test_chunks_are_the_whole(name: str, chosen: dict[str, Any], lengths: list[int], B: int, data: Any) -> None:
    mixer = make(name, chosen)
    torch.manual_seed(data.draw(st.integers(0, 99)))
    x, reset, state = random(B, sum(lengths), D), torch.rand(B, sum(lengths)) < 0.2, random_state(mixer, B)
    whole, last = mixer(x, state, reset=reset)
    pieces = []
    for chunk, cut in zip(x.split(lengths, 1), reset.split(lengths, 1), strict=True):
        y, state = mixer(chunk, state, reset=cut)
        pieces.append(y)
    close(torch.cat(pieces, 1), whole)
    close(state.h, last.h)


@every_mixer
def test_single_steps_are_the_whole(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    x = random(3, 9, D)
    whole, last = mixer(x)
    state = mixer.initial_state(3)
    for t in range(9):
        y, state = mixer(x[:, t : t + 1], state)
        close(y, whole[:, t : t + 1])
    close(state.h, last.h)


@every_mixer
def test_a_reset_begins_a_sequence_of_its_own(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    x, state = random(2, 8, D), random_state(mixer, 2)
    reset = torch.zeros(2, 8, dtype=torch.bool)
    reset[0, 3] = reset[1, 0] = reset[1, 7] = True
    y, last = mixer(x, state, reset=reset)
    close(y[:1, :3], mixer(x[:1, :3], RecurrentState(state.h[:1]))[0])
    for b, start, stop in ((0, 3, 8), (1, 0, 7), (1, 7, 8)):
        alone, alone_last = mixer(x[b : b + 1, start:stop])
        close(y[b : b + 1, start:stop], alone)
        if stop == 8:
            close(last.h[b : b + 1], alone_last.h)


@every_mixer
def test_no_step_sees_a_later_one(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    x = random(2, 9, D)
    changed = torch.cat([x[:, :5], random(2, 4, D)], dim=1)
    assert torch.equal(mixer(changed)[0][:, :5], mixer(x)[0][:, :5])


@every_mixer
def test_state_stays_float32_under_bfloat16(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen).bfloat16()
    y, state = mixer(torch.randn(2, 7, D, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert state.h.dtype == mixer.initial_state(2).h.dtype == torch.float32


@every_mixer
def test_autocast(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen).float()
    x = torch.randn(2, 40, D)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = mixer(x)
    expected, expected_state = mixer(x)
    assert (y.dtype, state.h.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(y.float(), expected, rtol=0.03, atol=0.03)
    torch.testing.assert_close(state.h, expected_state.h, rtol=0.03, atol=0.03)


@every_mixer
def test_compiles_without_graph_breaks(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    x = random(2, 7, D)
    y, state = torch.compile(mixer, backend="aot_eager", fullgraph=True)(x)
    close(y, mixer(x)[0])
    close(state.h, mixer(x)[1].h)


@every_mixer
def test_weights_save_and_load(name: str, chosen: dict[str, Any]) -> None:
    mixer, other = make(name, chosen), build(name, width=D, **chosen).double()
    other.load_state_dict(mixer.state_dict())
    x = random(2, 7, D)
    assert torch.equal(other(x)[0], mixer(x)[0])


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


@every_mixer
@pytest.mark.parametrize("time_major", [False, True])
def test_neither_memory_order_is_copied(name: str, chosen: dict[str, Any], time_major: bool) -> None:
    B, T = 3, 50
    mixer = make(name, chosen)
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
    close(in_memory_order(torch.exp, x), x.exp())
    a, b = random(3, 4, D), random(4, 3, D).transpose(0, 1)
    close(in_memory_order(torch.add, a, b), a + b)


@pytest.mark.parametrize(
    ("x", "state", "reset", "error", "message"),
    [
        ((2, 7, D + 1), None, None, ValueError, r"x has shape \(2, 7, 6\); expected \(B, T, D\) with D = width = 5"),
        ((7, D), None, None, ValueError, r"x has shape \(7, 5\); expected \(B, T, D\)"),
        ((2, 7, D), (3, 7), None, ValueError, r"state.h has shape \(3, 7\); expected \(B, H\) = \(2, 7\)"),
        ((2, 7, D), None, ((2, 8), torch.bool), ValueError, r"reset has shape \(2, 8\); expected \(B, T\) = \(2, 7\)"),
        ((2, 7, D), None, ((2, 7), torch.int64), TypeError, r"reset has dtype torch.int64; expected torch.bool"),
    ],
)
def test_misuse_is_named(x: Any, state: Any, reset: Any, error: type[Exception], message: str) -> None:
    mixer = make("mingru", {"expansion": 1.4})
    with pytest.raises(error, match=message):
        mixer(
            random(*x),
            None if state is None else RecurrentState(random(*state)),
            reset=None if reset is None else torch.zeros(reset[0], dtype=reset[1]),
        )
