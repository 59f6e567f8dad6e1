"""Blocks and stacks: parts that can be left out, and a carried state that is exact, the window included."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from minrnn.mixers import build
from minrnn.models import Block, Stack
from minrnn.recurrence import backend

D = 6
STACKS: list[tuple[str, dict[str, Any]]] = [
    ("mingru*2", {}),
    ("mingru:activation=tanh,expansion=2 minlstm", {"conv": 3, "mlp": 1.5, "expansion": 0.5}),
    ("(mingru minlstm:normalize=false)*2", {"conv": 0}),
    ("mingru", {"mlp": 0, "conv": 1}),
]
every_stack = pytest.mark.parametrize(("pattern", "options"), STACKS, ids=lambda value: str(value))


def make(pattern: str, options: dict[str, Any]) -> Stack:
    torch.manual_seed(0)
    stack = Stack(D, pattern, **options).double()
    with torch.no_grad():
        for parameter in stack.parameters():  # ones and zeros would hide what they multiply and add
            parameter += 0.1 * torch.randn_like(parameter)
    return stack


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    return [] if state is None else [tensor for part in state for tensor in tensors(part)]


def same_state(actual: Any, expected: Any) -> None:
    for a, e in zip(tensors(actual), tensors(expected), strict=True):
        close(a, e)


def rows(state: Any, first: int, stop: int) -> Any:
    """The state of batch rows first..stop."""
    if isinstance(state, Tensor):
        return state[first:stop]
    if state is None:
        return None
    parts = [rows(part, first, stop) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def some_state(stack: Stack, B: int) -> Any:
    """A state as it comes out of a few steps."""
    return stack(random(B, 5, D))[1]


def test_a_block_by_hand() -> None:
    torch.manual_seed(0)
    block = Block(build("mingru", width=D), conv=3, mlp=2.0).double()
    x = random(2, 9, D)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    y, state = block(x)
    assert block.conv is not None
    assert block.mlp is not None
    padded = F.pad(norm(x, block.conv.norm.weight).transpose(1, 2), (2, 0))
    expected = x + F.conv1d(padded, block.conv.weight[:, None], block.conv.bias, groups=D).transpose(1, 2)
    expected = expected + block.mixer(norm(expected, block.mixer_norm.weight))[0]
    hidden = F.gelu(block.mlp.up(norm(expected, block.mlp.norm.weight)), approximate="tanh")
    expected = expected + block.mlp.down(hidden)
    close(y, expected)
    close(state.window, padded[..., -2:].transpose(1, 2))


@every_stack
def test_equals_the_definition_with_all_gradients(pattern: str, options: dict[str, Any]) -> None:
    stack = make(pattern, options)
    x, reset = random(3, 9, D).requires_grad_(), torch.rand(3, 9) < 0.2
    upstream = random(3, 9, D)

    def run() -> list[Tensor]:
        y, state = stack(x, None, reset)
        loss = (y * upstream).sum() + sum(tensor.square().sum() for tensor in tensors(state))
        return [y, *tensors(state), *torch.autograd.grad(loss, [x, *stack.parameters()])]

    fast = run()
    with backend("definition"):
        for actual, expected in zip(fast, run(), strict=True):
            close(actual, expected)


@every_stack
@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 2, 3, 7, 70]), min_size=1, max_size=5),
    B=st.integers(1, 3),
    seed=st.integers(0, 99),
    resets=st.booleans(),
)
def test_chunks_are_the_whole(
    pattern: str, options: dict[str, Any], lengths: list[int], B: int, seed: int, resets: bool
) -> None:
    stack, T = make(pattern, options), sum(lengths)
    torch.manual_seed(seed)
    x, state, reset = random(B, T, D), some_state(stack, B), torch.rand(B, T) < 0.3
    cuts = reset.split(lengths, 1) if resets else [None] * len(lengths)
    whole, last = stack(x, state, reset if resets else None)
    pieces = []
    for chunk, cut in zip(x.split(lengths, 1), cuts, strict=True):
        y, state = stack(chunk, state, cut)
        pieces.append(y)
    close(torch.cat(pieces, 1), whole)
    same_state(state, last)


@every_stack
def test_single_steps_are_the_whole(pattern: str, options: dict[str, Any]) -> None:
    stack, x = make(pattern, options), random(3, 13, D)
    whole, last = stack(x)
    state = stack.initial_state(3)
    for t in range(13):
        y, state = stack(x[:, t : t + 1], state)
        close(y, whole[:, t : t + 1])
    same_state(state, last)


@every_stack
@settings(max_examples=20, deadline=None)
@given(T=st.integers(1, 12), seed=st.integers(0, 99), share=st.sampled_from([0.1, 0.5]))
def test_a_reset_begins_a_sequence_of_its_own(
    pattern: str, options: dict[str, Any], T: int, seed: int, share: float
) -> None:
    stack = make(pattern, options)
    torch.manual_seed(seed)
    x, reset, before = random(2, T, D), torch.rand(2, T) < share, some_state(stack, 2)
    y, last = stack(x, before, reset)
    for b in range(2):
        bounds = [0, *(t for t in range(T) if reset[b, t]), T]
        state = rows(before, b, b + 1)
        for start, stop in pairwise(bounds):
            if start or reset[b, 0]:
                state = None
            if start < stop:
                alone, state = stack(x[b : b + 1, start:stop], state)
                close(y[b : b + 1, start:stop], alone)
        same_state(rows(last, b, b + 1), state)


@every_stack
def test_no_step_sees_a_later_one(pattern: str, options: dict[str, Any]) -> None:
    stack, x = make(pattern, options), random(2, 9, D)
    changed = torch.cat([x[:, :5], random(2, 4, D)], dim=1)
    close(stack(changed)[0][:, :5], stack(x)[0][:, :5])


@every_stack
def test_gradients_flow_through_the_carried_state(pattern: str, options: dict[str, Any]) -> None:
    stack, x = make(pattern, options), random(2, 9, D).requires_grad_()
    upstream = random(2, 9, D)
    (expected,) = torch.autograd.grad(stack(x)[0], x, upstream)
    first, state = stack(x[:, :4])
    second, _ = stack(x[:, 4:], state)
    (actual,) = torch.autograd.grad(torch.cat([first, second], dim=1), x, upstream)
    close(actual, expected)


@every_stack
def test_the_state_does_not_grow(pattern: str, options: dict[str, Any]) -> None:
    stack = make(pattern, options)

    def held(T: int) -> list[int]:
        return [tensor.untyped_storage().nbytes() for tensor in tensors(stack(random(2, T, D))[1])]

    assert held(1) == held(700) == [tensor.nbytes for tensor in tensors(stack.initial_state(2))]


@every_stack
def test_the_residual_stream_stays_float32_under_autocast(pattern: str, options: dict[str, Any]) -> None:
    stack, x = make(pattern, options).float(), torch.randn(2, 20, D, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = stack(x)
        first, carried = stack(x[:, :11])
        second, _ = stack(x[:, 11:], carried)
    assert y.dtype == torch.float32
    assert all(block.mixer.h.dtype == torch.float32 for block in state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), y, rtol=0.02, atol=0.02)
    torch.testing.assert_close(y, stack(x)[0], rtol=0.1, atol=0.1)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in stack.parameters())


@every_stack
def test_compiles_without_graph_breaks(pattern: str, options: dict[str, Any]) -> None:
    stack, x, reset = make(pattern, options), random(2, 9, D), torch.rand(2, 9) < 0.2
    y, state = torch.compile(stack, backend="aot_eager", fullgraph=True)(x, stack.initial_state(2), reset)
    expected, expected_state = stack(x, None, reset)
    close(y, expected)
    same_state(state, expected_state)


def test_dropout_follows_the_seed_and_stops_in_evaluation() -> None:
    stack, x = make("mingru*2", {"dropout": 0.4}), random(2, 9, D)
    torch.manual_seed(1)
    y, _ = stack(x)
    torch.manual_seed(1)
    assert torch.equal(stack(x)[0], y)
    assert not torch.equal(stack(x)[0], y)
    assert torch.equal(stack.eval()(x)[0], make("mingru*2", {})(x)[0])


@pytest.mark.parametrize("part", ["mixer", "mlp"])
def test_dropout_stands_at_the_end_of_each_branch(part: str) -> None:
    torch.manual_seed(0)
    block, x = (
        Block(build("mingru", width=40), conv=0, mlp=1.0 if part == "mlp" else 0, dropout=0.25),
        torch.ones(50, 1, 40),
    )
    if part == "mlp":
        nn.utils.vector_to_parameters(torch.zeros(10_000), block.mixer.parameters())  # only the MLP speaks
    branch = block.eval()(x)[0] - x
    dropped = block.train()(x)[0] - x
    if part == "mixer":  # the MLP drops hidden activations too
        torch.testing.assert_close(dropped[dropped != 0], (branch / 0.75)[dropped != 0], rtol=1e-3, atol=1e-5)
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.05)
