"""Derivatives of every order and every mode: gradcheck, forward mode, torch.func, vmap, checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from minrnn.recurrence import backend, linear_recurrence, mingru, minlstm, walk
from minrnn.recurrence._definitions import AFFINE, RECURRENCES

# torch.func's own first import of its decompositions warns.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

Outputs = tuple[Tensor, Tensor]
FAMILIES = ["linear", "mingru/g", "minlstm/identity", "minlstm_unnormalized/tanh"]
OPTIONS = {"forward": (False, False), "reversed with resets": (True, True)}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def case(name: str, B: int = 2, T: int = 4, H: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Stacked inputs, h0 and reset in float64; g has a kink at 0, which the candidates stay away from."""
    x = torch.randn(B, T, RECURRENCES[name].inputs * H, dtype=torch.float64)
    x = torch.where(x.abs() < 0.1, 0.3, x)
    return x.requires_grad_(), torch.randn(B, H, dtype=torch.float64, requires_grad=True), torch.rand(B, T) < 0.3


def function(name: str, reset: Tensor | None = None, reverse: bool = False) -> Callable[..., Outputs]:
    return lambda x, h0=None: walk(name, x, h0, reset, reverse=reverse)


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize(("reset", "reverse"), OPTIONS.values(), ids=OPTIONS)
def test_gradcheck(name: str, reset: bool, reverse: bool) -> None:
    x, h0, resets = case(name)
    f = function(name, resets if reset else None, reverse)
    gradcheck(f, (x, h0), check_forward_ad=True)
    gradcheck(f, (x,))
    gradgradcheck(f, (x, h0), check_fwd_over_rev=True, check_rev_over_rev=True)
    gradgradcheck(f, (x,))


PUBLIC = {
    "mingru": lambda a, b, c, h0: mingru(a, b, h0),
    "minlstm": lambda a, b, c, h0: minlstm(a, b, c, h0),
    "minlstm, not normalised": lambda a, b, c, h0: minlstm(a, b, c, h0, normalize=False),
    "linear_recurrence": lambda a, b, c, h0: linear_recurrence(a, b, h0),
    "linear_recurrence reversed": lambda a, b, c, h0: linear_recurrence(a, b, h0, reverse=True),
}


@pytest.mark.parametrize("op", PUBLIC)
def test_gradcheck_of_public_functions(op: str) -> None:
    arguments = [torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    h0 = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    gradcheck(PUBLIC[op], (*arguments, h0))
    gradgradcheck(PUBLIC[op], (*arguments, h0))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("T", [0, 1])
def test_short_sequences(name: str, T: int) -> None:
    x, h0, reset = case(name, T=T)
    gradcheck(function(name, reset), (x, h0))
    gradgradcheck(function(name, reset), (x, h0))
    h, h_last = torch.func.jvp(function(name, reset), (x, h0), (torch.ones_like(x), torch.ones_like(h0)))[1]
    assert h.shape == (2, T, 2) and h_last.shape == (2, 2)


def scalar(name: str, reset: Tensor | None = None) -> Callable[..., Tensor]:
    """Any nonlinear function of both outputs."""

    def loss(x: Tensor, h0: Tensor) -> Tensor:
        h, h_last = walk(name, x, h0, reset)
        return h.sin().sum() + (h_last.cos() * torch.arange(1.0, h_last.shape[-1] + 1)).sum()

    return loss


def per_sample(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, h0: torch.vmap(lambda x, h0: f(x[None], h0[None]))(x, h0)


TRANSFORMS: dict[str, Callable[[Callable[..., Tensor]], Callable[..., Any]]] = {
    "grad": lambda f: torch.func.grad(f, argnums=(0, 1)),
    "jvp": lambda f: lambda x, h0: torch.func.jvp(f, (x, h0), (x.cos(), h0.sin())),
    "jvp of h0": lambda f: lambda x, h0: torch.func.jvp(lambda h0: f(x, h0), (h0,), (h0.sin(),)),
    "jvp of jvp": lambda f: (
        lambda x, h0: torch.func.jvp(
            lambda x: torch.func.jvp(lambda x: f(x, h0), (x,), (x.cos(),))[1], (x,), (x.sin(),)
        )
    ),
    "vjp of vjp": lambda f: torch.func.grad(lambda x, h0: torch.func.grad(f)(x, h0).square().sum(), argnums=(0, 1)),
    "third order": lambda f: torch.func.grad(
        lambda x, h0: torch.func.grad(lambda x, h0: torch.func.grad(f)(x, h0).square().sum())(x, h0).square().sum()
    ),
    "hessian": lambda f: torch.func.hessian(f),
    "jvp of grad": lambda f: lambda x, h0: torch.func.jvp(lambda x: torch.func.grad(f)(x, h0), (x,), (x.sin(),)),
    "jvp of vmap of grad": lambda f: (
        lambda x, h0: torch.func.jvp(per_sample(torch.func.grad(f)), (x, h0), (h0.new_ones(x.shape), h0))
    ),
    "jacrev of jacfwd": lambda f: torch.func.jacrev(torch.func.jacfwd(f, argnums=1)),
    "vmap": per_sample,
    "vmap of grad": lambda f: per_sample(torch.func.grad(f, argnums=(0, 1))),
    "grad of vmap": lambda f: torch.func.grad(lambda x, h0: per_sample(f)(x, h0).square().sum(), argnums=(0, 1)),
    "vmap over h0 alone": lambda f: lambda x, h0: torch.vmap(lambda h: f(x, h))(torch.stack([h0, h0.cos(), h0.sin()])),
    "vmap over axis 1": lambda f: (
        lambda x, h0: torch.vmap(f, in_dims=(1, 1))(torch.stack([x, x.sin()], 1), torch.stack([h0, h0.sin()], 1))
    ),
    "vmap of vmap": lambda f: (
        lambda x, h0: torch.vmap(lambda h: torch.vmap(f, in_dims=(0, None))(x.expand(3, *x.shape), h))(
            torch.stack([h0, h0.cos()])
        )
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_transforms_agree_with_those_of_the_definition(transform: Callable[..., Any], name: str) -> None:
    x, h0, _ = case(name)
    x, h0 = x.detach(), h0.detach()
    with backend("definition"):
        expected = transform(scalar(name))(x, h0)
    torch.testing.assert_close(transform(scalar(name))(x, h0), expected)


def test_vmap_over_resets() -> None:
    x, h0, _ = case("mingru/g")
    resets = torch.rand(5, 2, 4) < 0.3
    mapped = torch.vmap(lambda reset: walk("mingru/g", x, h0, reset))(resets)
    for i, reset in enumerate(resets):
        torch.testing.assert_close((mapped[0][i], mapped[1][i]), walk("mingru/g", x, h0, reset))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_second_order_and_forward_mode_below_float64(dtype: torch.dtype) -> None:
    x, h0, _ = case("mingru/tanh", T=9, H=5)

    def derivatives(x: Tensor, h0: Tensor) -> tuple[Tensor, ...]:
        f = scalar("mingru/tanh")
        _, tangent = torch.func.jvp(lambda x: f(x, h0.detach()), (x.detach(),), (torch.ones_like(x),))
        (g,) = torch.autograd.grad(f(x, h0), x, create_graph=True)
        return tangent, *torch.autograd.grad(g.double().square().sum(), (x, h0))

    low = x.detach().to(dtype).requires_grad_(), h0.detach().float().requires_grad_()
    expected = derivatives(*[t.detach().double().requires_grad_() for t in low])
    for given, wanted in zip(derivatives(*low), expected, strict=True):
        error = (given.double() - wanted).abs().max() / wanted.abs().max()
        assert error < {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}[dtype]


def test_second_order_stays_with_the_implementation_of_the_forward_pass() -> None:
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    h, _ = walk("mingru/identity", x)
    with backend("logspace"):  # which would refuse signed gradients
        (g,) = torch.autograd.grad(h.sin().sum(), x, create_graph=True)
        torch.autograd.grad(g.sum(), x)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_gives_the_same_bits(use_reentrant: bool) -> None:
    x = torch.randn(2, 30, 34, requires_grad=True)
    plain = walk("mingru/identity", x)
    expected = torch.autograd.grad(plain[0].sum() + plain[1].sin().sum(), x)
    h, h_last = checkpoint(lambda x: walk("mingru/identity", x), x, use_reentrant=use_reentrant)
    (h.sum() + h_last.sin().sum()).backward()
    assert x.grad is not None and torch.equal(x.grad, expected[0])
