"""The kernels of the selective scan are its definition, in every dtype, at odd sizes and past their blocks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from minrnn.kernels import selective
from minrnn.recurrence import backend, selective_scan

TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 3e-2}


def arguments(B: int, T: int, E: int, N: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    wide = torch.promote_types(dtype, torch.float32)
    x, b, c = torch.randn(B, T, E), torch.randn(B, T, N), torch.randn(B, T, N)
    delta = torch.rand(B, T, E) * 0.5
    parameters = [-torch.rand(N, E) * N, torch.randn(E), torch.randn(B, N, E)]
    A, D, state = (tensor.to(wide) for tensor in parameters)
    return [x.to(dtype), delta.to(dtype), A, b.to(dtype), c.to(dtype), D, state]


def run(given: list[Tensor], reset: Tensor | None, chosen: str, upstream: tuple[Tensor, Tensor]) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in given]
    with backend(chosen):
        y, last = selective_scan(*leaves, reset)
        outputs = [y + 0 * leaves[0], last + 0 * leaves[-1]]  # without a step no input reaches them
        return [*outputs, *torch.autograd.grad(outputs, leaves, upstream, materialize_grads=True)]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("B", "T", "E", "N"),
    [(2, 2 * selective.STRETCH + 3, selective.BLOCK + 5, 3), (3, 7, 5, 16), (1, 2, 1, 1), (0, 3, 4, 2), (2, 0, 4, 2)],
)
def test_kernels_are_the_definition(dtype: torch.dtype, B: int, T: int, E: int, N: int) -> None:
    given, reset = arguments(B, T, E, N, dtype), torch.rand(B, T) < 0.1
    upstream = torch.randn(B, T, E).to(dtype), torch.randn_like(given[-1])
    wide: list[Any] = [tensor.double() for tensor in (*given, *upstream)]
    for cuts in (None, reset):
        found = run(given, cuts, "cpu", upstream)
        expected = run(wide[:7], cuts, "definition", (wide[7], wide[8]))
        for actual, right in zip(found, expected, strict=True):
            scale = max(1.0, float(right.detach().abs().max())) if right.numel() else 1.0
            assert actual.shape == right.shape
            assert ((actual.double() - right).abs() <= TOLERANCES[dtype] * scale).all()


def test_derivatives_to_the_second_order() -> None:
    given = [tensor.requires_grad_() for tensor in arguments(1, 4, 3, 2, torch.float64)]
    assert torch.autograd.gradcheck(selective_scan, given)
    assert torch.autograd.gradgradcheck(selective_scan, given)


def test_the_number_of_threads_changes_no_bit() -> None:
    given, upstream = arguments(3, 70, 150, 4, torch.float32), (torch.randn(3, 70, 150), torch.randn(3, 4, 150))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(run(given, None, "cpu", upstream))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_half_precision_goes_through_float32() -> None:
    given = arguments(2, 9, 5, 3, torch.float32)
    half = [tensor.half() if n in (0, 1, 3, 4) else tensor for n, tensor in enumerate(given)]
    y, last = selective_scan(*half)
    assert y.dtype == torch.float16 and last.dtype == torch.float32
    torch.testing.assert_close(y.float(), selective_scan(*given)[0], rtol=2e-2, atol=2e-2)
