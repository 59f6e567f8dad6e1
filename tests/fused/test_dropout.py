"""The random numbers of dropout: their statistics, and what they depend on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minrnn.fused import dropout_add, gelu_dropout

N = 1_000_000


def kept(p: float, n: int = N) -> Tensor:
    y = dropout_add(torch.zeros(n), torch.ones(n), p)
    assert torch.logical_or(y == 0, (y - 1 / (1 - p)).abs() < 1e-6 / (1 - p)).all()
    return (y != 0).double()


def within(mean: Tensor, p: float, n: int) -> bool:
    """Five standard errors of n draws with probability p."""
    return abs(mean.item() - p) < 5 * (p * (1 - p) / n) ** 0.5


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_elements_survive_with_probability_1_minus_p_and_independently(p: float) -> None:
    torch.manual_seed(0)
    q = 1 - p
    first, second = kept(p), kept(p)
    assert within(first.mean(), q, N) and within(second.mean(), q, N)
    assert within((first * second).mean(), q * q, N)  # one call and the next
    for distance in (1, 2, 16, 64, 1000, 65_536):
        assert within((first[distance:] * first[:-distance]).mean(), q * q, N - distance)
    for bit in range(20):  # no bit of the position decides
        chosen = first[(torch.arange(N) >> bit) & 1 == 1]
        assert within(chosen.mean(), q, len(chosen))


def test_p_so_near_1_that_hardly_anything_survives() -> None:
    torch.manual_seed(0)
    assert (gelu_dropout(torch.ones(1000, dtype=torch.float64), 1 - 1e-11) != 0).sum() == 0


def run(f: Callable[[Tensor], Tensor], seed: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    x = torch.linspace(-2, 2, 50_000, requires_grad=True)
    y = f(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


CALLS: dict[str, Callable[..., Tensor]] = {
    "gelu_dropout": lambda x, **options: gelu_dropout(x, **options),
    "dropout_add": lambda x, **options: dropout_add(x.detach().cos(), x, **options),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_seed_decides(name: str) -> None:
    f = lambda x: CALLS[name](x, p=0.3)  # noqa: E731
    first, again, other = run(f, 7), run(f, 7), run(f, 8)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert (first[0] != other[0]).double().mean() > 0.3


@pytest.mark.parametrize("name", CALLS)
def test_the_backward_pass_drops_what_the_forward_pass_dropped(name: str) -> None:
    y, dx = run(lambda x: CALLS[name](x, p=0.3), 7)
    x = torch.linspace(-2, 2, 50_000, requires_grad=True)
    (slope,) = torch.autograd.grad(CALLS[name](x).sum(), x)
    undropped = CALLS[name](x).detach()
    dropped = (y == 0) if name == "gelu_dropout" else torch.isclose(y, x.detach().cos(), rtol=0, atol=0)
    assert 0.28 < dropped.double().mean() < 0.32
    torch.testing.assert_close(dx, torch.where(dropped, 0, slope / 0.7))
    residual = 0 if name == "gelu_dropout" else x.detach().cos()
    torch.testing.assert_close(y - residual, torch.where(dropped, 0, (undropped - residual) / 0.7))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("options", [{"p": 0.0}, {}, {"p": 0.3, "training": False}], ids=str)
def test_without_dropout_nothing_is_drawn(name: str, options: dict[str, float]) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    x = torch.randn(3, 5)
    torch.set_rng_state(before)
    y = CALLS[name](x, **options)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(y, F.gelu(x, approximate="tanh") if name == "gelu_dropout" else x.cos() + x)


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("training", [True, False])
def test_the_result_has_the_dtype_of_the_residual(p: float, training: bool) -> None:
    x = torch.randn(2, 3)
    for residual_dtype in (torch.float32, torch.bfloat16, torch.float64):
        for dtype in (torch.float32, torch.bfloat16):
            low = x.to(dtype).requires_grad_()
            y = dropout_add(x.to(residual_dtype), low, p, training)
            assert y.dtype == residual_dtype
            assert torch.autograd.grad(y.sum(), low)[0].dtype == dtype


def test_dropout_of_a_strided_input_drops_by_position_in_the_result() -> None:
    x = torch.randn(30, 40)
    given = [gelu_dropout(x.t().contiguous().t(), 0.5), gelu_dropout(x, 0.5)]
    torch.manual_seed(1)
    first = gelu_dropout(x.t().contiguous().t(), 0.5)
    torch.manual_seed(1)
    assert torch.equal(first, gelu_dropout(x, 0.5))
    assert not torch.equal(*given)
