"""`BlockLinear` is its definition, its gradients to the second order included."""

import pytest
import torch

from minrnn.fused import BlockLinear, _blocks, _definitions


@pytest.fixture(autouse=True)
def no_short_way(monkeypatch):
    monkeypatch.setattr(_blocks, "SMALL_STEP", 0)


def tensors(dtype=torch.float64, N=2, heads=3, block=5):
    torch.manual_seed(0)
    shapes = [(2, 7, heads * block), (N, heads, block, block), (N * heads * block,)]
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def block_linear(x, weight, bias=None):
    """The layer as a function of its weights."""
    layer = BlockLinear(x.shape[-1], matrices=weight.shape[0], heads=weight.shape[1], bias=bias is not None)
    given = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return torch.func.functional_call(layer, given, (x,))


def test_each_block_sees_its_part_alone():
    x, weight, bias = tensors()
    y = block_linear(x, weight, bias).view(2, 7, 2, 3, 5)
    for n in range(2):
        for head in range(3):
            expected = x[..., head * 5 : head * 5 + 5] @ weight[n, head].T + bias.view(2, 3, 5)[n, head]
            torch.testing.assert_close(y[:, :, n, head], expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)]
)
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_and_gradients(dtype, tolerance, strided, bias):
    leaves = tensors(dtype)[: 2 + bias]
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    x = leaves[0].transpose(0, 1).contiguous().transpose(0, 1) if strided else leaves[0]
    y, expected = block_linear(x, *leaves[1:]), _definitions.block_linear(*wide)
    upstream = torch.randn_like(expected)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, atol=tolerance * 4, rtol=tolerance)
    found = torch.autograd.grad(y, leaves, upstream.to(dtype))
    for given, wanted in zip(found, torch.autograd.grad(expected, wide, upstream), strict=True):
        torch.testing.assert_close(given.double(), wanted, atol=tolerance * 20, rtol=tolerance)


def test_narrow_blocks_are_joined(monkeypatch):
    leaves = tensors(heads=6)
    monkeypatch.setattr(_blocks, "WIDE", 15)  # three blocks of 5, twice
    found = torch.autograd.grad(block_linear(*leaves).sin().sum(), leaves)
    expected = torch.autograd.grad(_definitions.block_linear(*leaves).sin().sum(), leaves)
    assert _blocks._joined(leaves[1]).shape == (2, 2, 15, 15)
    for given, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(given, wanted)


def test_second_order():
    assert torch.autograd.gradcheck(block_linear, tensors())
    assert torch.autograd.gradgradcheck(block_linear, tensors())
    assert torch.autograd.gradgradcheck(block_linear, tensors()[:2])


def test_autocast():
    leaves = tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = block_linear(*leaves)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and all(leaf.grad.dtype == torch.float32 for leaf in leaves)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="heads is 3; expected a divisor of the width 8"):
        BlockLinear(8, heads=3)
