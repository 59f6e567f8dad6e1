"""Every backend against the definition in float64: both outputs, and all gradients from upstream gradients of both."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from minrnn.recurrence import backend, linear_recurrence, mingru, minlstm, walk
from minrnn.recurrence._definitions import AFFINE, RECURRENCES, definition

# Of the largest element. bfloat16 rounds h, which the backward pass reads again.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """Memory that nobody wrote is NaN."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def as_given(x: Tensor, layout: str) -> Tensor:
    """x (B, T, W) as another view of the same numbers, with NaN around them."""
    B, T, W = x.shape
    if layout == "batch-major":
        view = x.new_full((B, T + 2, W + 3), torch.nan)[:, 1:-1, 2:-1]
    elif layout == "time-major":
        view = x.new_full((T, B + 1, W + 3), torch.nan)[:, 1:, 2:-1].transpose(0, 1)
    else:
        assert layout == "strided"  # the last stride is not 1
        view = x.new_full((W, T, B + 1), torch.nan)[..., 1:].permute(2, 1, 0)
    return view.copy_(x)


def run(
    name: str,
    x: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    upstream: tuple[Tensor, Tensor],
    chosen: str,
    layout: str = "batch-major",
) -> dict[str, Tensor]:
    x = as_given(x, layout).requires_grad_()
    inputs = [x] if h0 is None else [x, h0.clone().requires_grad_()]
    with backend(chosen):
        h, h_last = walk(name, x, *inputs[1:], reset=reset, reverse=reverse)
        # Without a step no input reaches the states of the plain loops; x itself keeps autograd content.
        pairs = zip((x, h, h_last), (torch.zeros_like(x), *upstream), strict=True)
        outputs, upstream_of_them = zip(*[(y, dy) for y, dy in pairs if y.requires_grad], strict=True)
        gradients = torch.autograd.grad(outputs, inputs, upstream_of_them, materialize_grads=True)
    return dict(zip(("h", "h_last", "dx", "dh0"), (h, h_last, *gradients), strict=False))


def expect_the_definition(
    name: str,
    chosen: str,
    dtype: torch.dtype,
    shape: tuple[int, int, int] = (3, 17, 21),
    h0: bool = True,
    reset: bool = True,
    reverse: bool = False,
    layout: str = "batch-major",
    expanded: bool = False,
) -> None:
    B, T, H = shape
    state_dtype = torch.promote_types(dtype, torch.float32)
    x = torch.randn(B, T, RECURRENCES[name].inputs * H).to(dtype)
    if chosen == "logspace" and not name.endswith("/g"):
        x = torch.where(torch.arange(x.shape[-1]) < (0 if name == "linear" else x.shape[-1] - H), x, x.abs() + 0.01)
    initial = torch.rand(B, H, dtype=state_dtype) if h0 else None
    resets = torch.rand(T, B).T < 0.2 if reset and chosen != "logspace" else None
    upstream = (torch.randn(B, T, H).to(dtype), torch.randn(B, H, dtype=state_dtype))
    if expanded:
        upstream = (upstream[0][:1, :1, :1].expand(shape), upstream[1][:1].expand(B, H))

    given = run(name, x, initial, resets, reverse, upstream, chosen, layout)
    double = [None if t is None else t.double() for t in (x, initial, *upstream)]
    wanted = run(name, double[0], double[1], resets, reverse, (double[2], double[3]), "definition")
    for what in wanted:
        scale = wanted[what].abs().max().clamp(min=1) if wanted[what].numel() else 1
        torch.testing.assert_close(
            given[what].double() / scale,
            wanted[what] / scale,
            rtol=0,
            atol=TOLERANCE[dtype],
            msg=lambda message, what=what: f"{what}: {message}",
        )
        assert given[what].dtype == (dtype if what in ("h", "dx") else state_dtype), what


each_recurrence = pytest.mark.parametrize("name", AFFINE)


@each_recurrence
@pytest.mark.parametrize("chosen", ["cpu", "torch", "logspace"])
def test_float64(name: str, chosen: str) -> None:
    if chosen == "logspace" and RECURRENCES[name].log_coefficients is None:
        with pytest.raises(ValueError, match=f"{name} has coefficients below zero, which have no logarithm"):
            expect_the_definition(name, chosen, torch.float64)
        return
    expect_the_definition(name, chosen, torch.float64)


@each_recurrence
@pytest.mark.parametrize("chosen", ["cpu", "torch", "definition"])
def test_float32(name: str, chosen: str) -> None:
    expect_the_definition(name, chosen, torch.float32)


@pytest.mark.parametrize("name", ["linear", "mingru/identity", "mingru/tanh", "minlstm/g"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("chosen", ["cpu", "torch", "definition"])
def test_half_precision(name: str, dtype: torch.dtype, chosen: str) -> None:
    expect_the_definition(name, chosen, dtype)


SHAPES = [(2, 0, 5), (2, 1, 5), (0, 3, 4), (2, 3, 0), (2, 3, 1), (1, 1, 1), (1, 35, 131), (17, 3, 16), (3, 170, 67)]


@pytest.mark.parametrize("name", ["linear", "mingru/g", "minlstm/identity"])
@pytest.mark.parametrize("chosen", ["cpu", "torch"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape(name: str, chosen: str, shape: tuple[int, int, int]) -> None:
    expect_the_definition(name, chosen, torch.float32, shape)


@pytest.mark.parametrize("name", ["linear", "minlstm_unnormalized/tanh"])
@pytest.mark.parametrize("chosen", ["cpu", "torch"])
@pytest.mark.parametrize(("h0", "reset", "reverse"), list(product([False, True], repeat=3)))
def test_every_option(name: str, chosen: str, h0: bool, reset: bool, reverse: bool) -> None:
    for T in (0, 1, 2, 9):
        expect_the_definition(name, chosen, torch.float64, (2, T, 3), h0, reset, reverse)


@pytest.mark.parametrize("name", ["mingru/identity", "minlstm/identity"])
@pytest.mark.parametrize("layout", ["batch-major", "time-major", "strided"])
@pytest.mark.parametrize(("reverse", "expanded"), list(product([False, True], repeat=2)))
@pytest.mark.parametrize("H", [1, 19])
def test_every_layout(name: str, layout: str, reverse: bool, expanded: bool, H: int) -> None:
    expect_the_definition(name, "cpu", torch.float32, (3, 7, H), reverse=reverse, layout=layout, expanded=expanded)


def test_a_time_major_input_is_not_copied() -> None:
    x = torch.randn(6, 3, 10).transpose(0, 1).requires_grad_()
    h, _ = walk("mingru/identity", x)
    (dx,) = torch.autograd.grad(h, x, torch.ones_like(h))
    assert h.transpose(0, 1).is_contiguous() and dx.transpose(0, 1).is_contiguous()


def test_inputs_are_left_as_they_are() -> None:
    x, h0, reset = torch.randn(3, 40, 30), torch.randn(3, 15), torch.rand(3, 40) < 0.1
    upstream = (torch.randn(3, 40, 15), torch.randn(3, 15))
    before = [t.clone() for t in (x, h0, reset, *upstream)]
    run("mingru/identity", x, h0, reset, False, upstream, "cpu")
    for now, then in zip((x, h0, reset, *upstream), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("wanted", ["h", "h_last"])
def test_one_output_alone_has_its_own_gradient(wanted: str) -> None:
    x, h0 = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True), torch.randn(2, 3, dtype=torch.float64)
    index = ("h", "h_last").index(wanted)
    with backend("definition"):
        (expected,) = torch.autograd.grad(walk("mingru/identity", x, h0)[index].square().sum(), x)
    (given,) = torch.autograd.grad(walk("mingru/identity", x, h0)[index].square().sum(), x)
    torch.testing.assert_close(given, expected)


def test_inference_mode_and_no_grad() -> None:
    x = torch.randn(2, 5, 6, requires_grad=True)
    expected = walk("mingru/identity", x)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            h, h_last = walk("mingru/identity", x)
        assert torch.equal(h, expected[0]) and torch.equal(h_last, expected[1])
        assert not h.requires_grad


PUBLIC = {  # the order of the stacked projections
    "linear": lambda a, b, c, h0, reset: linear_recurrence(a, b, h0, reset=reset),
    "mingru/identity": lambda a, b, c, h0, reset: mingru(a, b, h0, reset=reset),
    "mingru/g": lambda a, b, c, h0, reset: mingru(a, b, h0, activation="g", reset=reset),
    "minlstm/tanh": lambda a, b, c, h0, reset: minlstm(a, b, c, h0, activation="tanh", reset=reset),
    "minlstm_unnormalized/identity": lambda a, b, c, h0, reset: minlstm(a, b, c, h0, normalize=False, reset=reset),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_stack_their_arguments(name: str) -> None:
    separate = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    h0, reset = torch.randn(2, 4, dtype=torch.float64), torch.rand(2, 5) < 0.3
    stacked = torch.cat(tuple(separate[: RECURRENCES[name].inputs]), dim=-1)
    expected = definition(RECURRENCES[name], stacked, h0, reset, False)
    torch.testing.assert_close(PUBLIC[name](*separate, h0, reset), expected)


def test_linear_recurrence_reversed() -> None:
    a, b, h0 = torch.rand(2, 5, 4), torch.randn(2, 5, 4), torch.randn(2, 4)
    h, h_last = linear_recurrence(a, b, h0, reverse=True)
    torch.testing.assert_close(h[:, -1], a[:, -1] * h0 + b[:, -1])
    torch.testing.assert_close(h[:, :-1], a[:, :-1] * h[:, 1:] + b[:, :-1])
    assert torch.equal(h_last, h[:, 0])


@pytest.mark.parametrize("chosen", ["torch", "cpu", "definition"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("T", [1, 2, 5, 8])
def test_a_reset_cuts_off_what_is_not_finite(chosen: str, value: float, T: int) -> None:
    x, h0 = torch.randn(1, T, 6), torch.full((1, 3), value)
    with backend(chosen):
        for at in range(T):
            reset = torch.zeros(1, T, dtype=torch.bool)
            reset[0, at] = True
            for reverse in (False, True):
                h = walk("mingru/identity", x, h0, reset, reverse=reverse)[0]
                rest = slice(0, at + 1) if reverse else slice(at, None)
                expected = walk("mingru/identity", x[:, rest], reverse=reverse)[0]
                torch.testing.assert_close(h[:, rest], expected)
