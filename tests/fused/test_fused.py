"""Each fused function against its definition in float64: outputs, all gradients, layouts, dtypes, second order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from minrnn.fused import causal_conv, dropout_add, gelu_dropout, rms_norm

# Of the largest element.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """Memory that nobody wrote is NaN."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    assert torch.empty_like(torch.ones(3)).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def conv(x: Tensor, weight: Tensor, bias: Tensor, window: Tensor, reset: Tensor | None = None) -> Tensor:
    """Output and window side by side, so that both have upstream gradients."""
    return torch.cat(causal_conv(x, weight, bias, window, reset), dim=1)


def conv_of_torch(x: Tensor, weight: Tensor, bias: Tensor, window: Tensor, reset: Tensor | None = None) -> Tensor:
    """Sequences between resets one by one, each with zeros in front."""
    B, T, D = x.shape
    W = weight.shape[1]
    rows = []
    for b in range(B):
        starts = [0] if reset is None else [0, *[t for t in range(T) if reset[b, t]]]
        before, y = window[b], []
        for i, (start, stop) in enumerate(zip(starts, [*starts[1:], T], strict=True)):
            before = before if i == 0 else torch.zeros_like(before)
            full = torch.cat([before, x[b, start:stop]])
            if stop > start:
                y.append(F.conv1d(full.T[None], weight[:, None], bias, groups=D)[0].T)
            before = full[full.shape[0] - (W - 1) :]
        rows.append(torch.cat([*y, before]))
    return torch.stack(rows)


def norm_of_torch(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, 1e-6)


Function = Callable[..., Tensor]
SHAPES = [(2, 5, 7), (3, 0, 7), (2, 1, 7), (1, 70, 1), (1, 65, 33), (5, 300, 67)]


def inputs(name: str, B: int, T: int, D: int) -> list[Tensor]:
    x = torch.randn(B, T, D)
    return {
        "rms_norm": [x, torch.randn(D)],
        "causal_conv": [x, torch.randn(D, 4), torch.randn(D), torch.randn(B, 3, D)],
        "gelu": [x * 3],
        "add": [x, torch.randn(B, T, D)],
    }[name]


FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "rms_norm": (rms_norm, norm_of_torch),
    "causal_conv": (conv, conv_of_torch),
    "gelu": (gelu_dropout, lambda x: F.gelu(x, approximate="tanh")),
    "add": (dropout_add, torch.add),
}


def values_and_gradients(f: Function, arguments: list[Tensor], upstream: Tensor) -> list[Tensor]:
    arguments = [a.detach().requires_grad_() for a in arguments]
    y = f(*arguments)
    return [y, *torch.autograd.grad(y, arguments, upstream.to(y.dtype), materialize_grads=True)]


def expect_the_same(name: str, arguments: list[Tensor], upstream: Tensor | None = None) -> None:
    f, definition = FUNCTIONS[name]
    dtype = arguments[0].dtype
    upstream = torch.randn(f(*arguments).shape).to(dtype) if upstream is None else upstream
    wanted = values_and_gradients(definition, [a.double() for a in arguments], upstream.double())
    for given_, expected, source in zip(
        values_and_gradients(f, arguments, upstream), wanted, [arguments[0], *arguments], strict=True
    ):
        assert given_.dtype == source.dtype
        scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
        torch.testing.assert_close(given_.double() / scale, expected / scale, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_every_shape(name: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    expect_the_same(name, [a.to(dtype) for a in inputs(name, *shape)])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_with_parameters_in_either_precision(name: str, dtype: torch.dtype) -> None:
    arguments = inputs(name, 2, 70, 33)
    expect_the_same(name, [a.to(dtype) for a in arguments])
    if name in ("rms_norm", "causal_conv"):
        x, *parameters = arguments
        expect_the_same(name, [x.to(dtype), *parameters[:2], *[w.to(dtype) for w in parameters[2:]]])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_strided_inputs_and_expanded_gradients(name: str) -> None:
    x, *others = inputs(name, 4, 6, 5)
    strided = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    upstream = torch.randn(1).expand(FUNCTIONS[name][0](x, *others).shape)
    expect_the_same(name, [strided, *[o.repeat_interleave(2, dim=-1)[..., ::2] for o in others]], upstream)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_of_second_order(name: str) -> None:
    arguments = [a.double().requires_grad_() for a in inputs(name, 2, 3, 3)]
    gradcheck(FUNCTIONS[name][0], arguments)
    gradgradcheck(FUNCTIONS[name][0], arguments)


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_derivatives_of_second_order_of_dropout(p: float) -> None:
    x, residual = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True).unbind()

    def drawn_again(f: Function) -> Function:
        def run(*arguments: Tensor) -> Tensor:
            torch.manual_seed(0)
            return f(*arguments, p)

        return run

    for f, arguments in ((gelu_dropout, [x]), (dropout_add, [residual, x])):
        gradcheck(drawn_again(f), arguments)
        gradgradcheck(drawn_again(f), arguments)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_second_order_below_float64(name: str, dtype: torch.dtype) -> None:
    arguments = [a.to(dtype) for a in inputs(name, 2, 6, 5)]

    def second(arguments: list[Tensor], f: Function) -> Tensor:
        arguments = [a.detach().requires_grad_() for a in arguments]
        (g,) = torch.autograd.grad(f(*arguments).double().sin().sum(), arguments[0], create_graph=True)
        return torch.autograd.grad(g.double().square().sum(), arguments[0])[0]

    f, definition = FUNCTIONS[name]
    wanted = second([a.double() for a in arguments], definition)
    error = (second(arguments, f).double() - wanted).abs().max() / wanted.abs().max()
    assert error < {torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]


def test_rms_norm_of_other_shapes() -> None:
    for shape in ((5,), (0, 5), (2, 3, 4, 5)):
        x, weight = torch.randn(shape), torch.randn(5)
        torch.testing.assert_close(rms_norm(x, weight), norm_of_torch(x, weight))
    assert rms_norm(torch.zeros(2, 5), torch.ones(5)).eq(0).all()


def test_extreme_numbers() -> None:
    x = torch.tensor([[1e30, -1e30], [1e-30, 0], [float("nan"), 1], [float("inf"), 1]])
    torch.testing.assert_close(rms_norm(x, torch.ones(2)), norm_of_torch(x, torch.ones(2)), equal_nan=True)
    x = torch.tensor([-1e4, -100.0, -5.0, 0.0, 5.0, 100.0, 1e4, float("nan"), float("inf"), -1.0], requires_grad=True)
    y = gelu_dropout(x[:8])
    torch.testing.assert_close(y, F.gelu(x[:8], approximate="tanh"), equal_nan=True)
    (dx,) = torch.autograd.grad(y[:7].sum(), x)
    torch.testing.assert_close(dx[:7], torch.tensor([0, 0, 0, 0.5, 1, 1, 1]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_func_and_compile(name: str) -> None:
    f, definition = FUNCTIONS[name]
    x, *others = inputs(name, 2, 6, 5)
    loss = lambda f: lambda x: f(x, *others).sin().sum()  # noqa: E731
    for transform in (torch.func.grad, lambda f: lambda x: torch.func.jvp(f, (x,), (x.cos(),))[1]):
        torch.testing.assert_close(transform(loss(f))(x), transform(loss(definition))(x))
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    upstream = torch.randn(f(x, *others).shape)
    given_, wanted = (values_and_gradients(g, [x, *others], upstream) for g in (compiled, f))
    torch.testing.assert_close(given_, wanted)


def test_autocast() -> None:
    """The norm hands the next matrix product what it wants; the others keep the dtype of their input."""
    x, weight = torch.randn(2, 6, 5), torch.randn(5)
    kernel, bias = torch.randn(5, 4), torch.randn(5)
    low = x.bfloat16()
    for compile_ in (lambda f: f, lambda f: torch.compile(f, backend="aot_eager", fullgraph=True)):
        torch._dynamo.reset()
        with torch.autocast("cpu", torch.bfloat16):
            assert compile_(rms_norm)(x, weight).dtype == torch.bfloat16
            assert compile_(rms_norm)(low, weight).dtype == torch.bfloat16
            for given_, wanted in ((x, torch.float32), (low, torch.bfloat16)):
                assert compile_(causal_conv)(given_, kernel, bias)[0].dtype == wanted
                assert compile_(gelu_dropout)(given_, 0.2).dtype == wanted
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = rms_norm(x, weight)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    (wanted,) = torch.autograd.grad(norm_of_torch(x, weight), x, torch.ones_like(x))
    assert dx.dtype == torch.float32
    torch.testing.assert_close(dx, wanted, rtol=1e-2, atol=1e-2)


# --- the window of the convolution ------------------------------------------------------------------------------------


@given(st.integers(1, 3), st.integers(0, 30), st.integers(1, 6), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
def test_chunks_with_the_window_are_the_whole(B: int, T: int, W: int, seed: int, data: st.DataObject) -> None:
    torch.manual_seed(seed)
    x, weight, bias, window = torch.randn(B, T, 5), torch.randn(5, W), torch.randn(5), torch.randn(B, W - 1, 5)
    reset = torch.rand(B, T) < data.draw(st.sampled_from([0.0, 0.2]))
    cuts = sorted(data.draw(st.lists(st.integers(0, T), max_size=5)))
    whole = causal_conv(x, weight, bias, window, reset)
    torch.testing.assert_close(torch.cat(whole, dim=1), conv_of_torch(x, weight, bias, window, reset))
    pieces, last = [x[:, :0]], window
    for start, stop in zip([0, *cuts], [*cuts, T], strict=True):
        y, last = causal_conv(x[:, start:stop], weight, bias, last, reset[:, start:stop])
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, dim=1), whole[0])
    assert torch.equal(last, whole[1])


@pytest.mark.parametrize("W", [1, 2, 4, 7])
def test_resets_cut_the_window_and_its_gradients(W: int) -> None:
    x, reset = torch.randn(3, 80, 5), torch.rand(3, 80) < 0.15
    arguments = [x, torch.randn(5, W), torch.randn(5), torch.randn(3, W - 1, 5)]
    upstream = torch.randn(3, 80 + W - 1, 5)
    given_ = values_and_gradients(lambda *a: conv(*a, reset), [a.double() for a in arguments], upstream)
    wanted = values_and_gradients(lambda *a: conv_of_torch(*a, reset), [a.double() for a in arguments], upstream)
    for a, b in zip(given_, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_nan_ends_at_a_reset() -> None:
    x = torch.randn(1, 9, 2)
    x[0, 3, 1] = torch.nan
    reset = torch.arange(9)[None] == 5
    y, window = causal_conv(x, torch.randn(2, 4), torch.randn(2), reset=reset)
    assert y.isnan()[0].tolist() == [[False, 3 <= t < 5] for t in range(9)]
    assert not window.isnan().any()


def test_the_window_does_not_keep_the_input_alive() -> None:
    _, window = causal_conv(torch.randn(2, 1000, 5), torch.randn(5, 4), torch.randn(5))
    assert window.untyped_storage().nbytes() == window.numel() * 4


# --- bad arguments ----------------------------------------------------------------------------------------------------

x, weight, bias = torch.zeros(2, 5, 3), torch.zeros(3, 4), torch.zeros(3)
no_reset = torch.zeros(2, 5, dtype=torch.bool)
BAD: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "norm of another width": (lambda: rms_norm(x, torch.ones(4)), ["weight", "(4,)", "(3,)"]),
    "norm of integers": (lambda: rms_norm(x.long(), bias), ["x", "torch.int64", "float"]),
    "no batch": (lambda: causal_conv(x[0], weight, bias), ["x", "(5, 3)", "(B, T, D)"]),
    "integers": (lambda: causal_conv(x.long(), weight, bias), ["x", "torch.int64", "float"]),
    "weight of another width": (lambda: causal_conv(x, weight[:2], bias), ["weight", "(2, 4)", "(3, W)"]),
    "weight without an axis": (lambda: causal_conv(x, bias, bias), ["weight", "(3,)", "(3, W)"]),
    "weight of no width": (lambda: causal_conv(x, weight[:, :0], bias), ["weight", "(3, 0)", "(3, W)"]),
    "bias of another width": (lambda: causal_conv(x, weight, bias[:1]), ["bias", "(1,)", "(3,)"]),
    "window of another length": (lambda: causal_conv(x, weight, bias, x), ["window", "(2, 5, 3)", "(2, 3, 3)"]),
    "reset too short": (lambda: causal_conv(x, weight, bias, None, no_reset[:, :4]), ["reset", "(2, 4)", "(2, 5)"]),
    "reset of one row": (lambda: causal_conv(x, weight, bias, None, no_reset[:1]), ["reset", "(1, 5)", "(2, 5)"]),
    "reset of numbers": (lambda: causal_conv(x, weight, bias, None, no_reset.float()), ["reset", "float32", "bool"]),
    "p of 1": (lambda: gelu_dropout(x, 1.0), ["p is 1.0", "0 <= p < 1"]),
    "negative p": (lambda: dropout_add(x, x, -0.1), ["p is -0.1", "0 <= p < 1"]),
    "p that is none": (lambda: dropout_add(x, x, float("nan")), ["p is nan", "0 <= p < 1"]),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_arguments(bad: tuple[Callable[[], Any], list[str]]) -> None:
    call, words = bad
    with pytest.raises((ValueError, TypeError)) as raised:
        call()
    for word in words:
        assert word in str(raised.value)
