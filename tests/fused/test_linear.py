"""`fused.Linear` is `nn.Linear`; few rows without gradients take another way to the same numbers."""

import pytest
import torch
import torch.nn.functional as F

from minrnn.fused import Linear, linear
from minrnn.kernels import rows

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}


@pytest.fixture
def calls(monkeypatch):
    """How often the kernel was asked for."""
    asked = []
    kernel = rows.product()
    monkeypatch.setattr(rows, "product", lambda: asked.append(1) or kernel)
    return asked


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(17,), (1, 1, 17), (2, 2, 17), (4, 17)])
@pytest.mark.parametrize("bias", [True, False])
def test_few_rows_equal_a_matrix_product(dtype, shape, bias, calls):
    torch.manual_seed(0)
    layer = Linear(17, 37, bias=bias).to(dtype)
    x = torch.randn(shape, dtype=dtype)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            y = layer(x)
        expected = F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
        assert y.dtype == dtype and y.shape == expected.shape
        assert (y.double() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()
    assert len(calls) == 2


def test_a_matrix_large_enough_for_threads(calls):
    torch.manual_seed(0)
    layer = Linear(1999, 2003)
    x = torch.randn(1, 1999)
    with torch.inference_mode():
        assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5)
    assert calls


def test_rows_that_are_strided(calls):
    layer = Linear(8, 5)
    x = torch.randn(8, 3).T
    with torch.inference_mode():
        assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-6)
    assert calls


def test_gradients_and_many_rows_take_the_usual_way(calls):
    layer = Linear(8, 5)
    layer(torch.randn(1, 8)).sum().backward()
    assert layer.weight.grad is not None
    with torch.inference_mode():
        layer(torch.randn(5, 8))
        assert layer(torch.randn(0, 8)).shape == (0, 5)
    with torch.no_grad():
        tangent = torch.randn(1, 8)
        _, out = torch.func.jvp(layer, (torch.randn(1, 8),), (tangent,))
        torch.vmap(layer)(torch.randn(3, 8))
    assert torch.allclose(out, tangent @ layer.weight.T, atol=1e-6)
    assert not calls


def test_what_does_not_fit_is_torch_s_own_error():
    with torch.inference_mode(), pytest.raises(RuntimeError, match="mat1 and mat2"):
        Linear(8, 5)(torch.randn(1, 4))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="dtype"):
        Linear(8, 5)(torch.randn(1, 8, dtype=torch.float64))


@pytest.mark.parametrize("size", [1, 3])
def test_a_bias_of_another_size_is_treated_as_torch_does(size):
    x, weight, bias = torch.randn(1, 8), torch.randn(64, 8), torch.randn(size)
    with torch.inference_mode():
        if size == 1:
            assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
        else:
            with pytest.raises(RuntimeError):
                linear(x, weight, bias)
