"""The fused kernels of recurrences with several states, outputs, parameters or extra inputs are their definitions."""

from typing import Any

import pytest
import torch
from torch import Tensor

from minrnn.recurrence import backend, channelwise
from minrnn.recurrence._definitions import RECURRENCES

every_recurrence = pytest.mark.parametrize("name", [name for name, r in RECURRENCES.items() if not r.coefficients])
TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 2e-2}


def arguments(name: str, B: int, T: int, H: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Inputs, a state that a sequence may have, and whatever else the recurrence takes."""
    r = RECURRENCES[name]
    torch.manual_seed(0)
    given = {"inputs": torch.randn(B, T, r.inputs * H).to(dtype)}
    if r.extras:
        given["extra"] = torch.randn(B, T, H).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    if r.parameters:
        given["parameters"] = torch.rand(r.parameters, H, dtype=wide)
    given["state"] = torch.rand(B, r.states * H, dtype=wide) + 0.1
    return given


def gradients(
    name: str, given: dict[str, Tensor], reset: Tensor | None, chosen: str, upstream: tuple[Tensor, Tensor]
) -> list[Tensor]:
    leaves = {key: value.detach().requires_grad_() for key, value in given.items()}
    with backend(chosen):
        y, last = channelwise(name, leaves["inputs"], leaves["state"], reset, **without(leaves, "inputs", "state"))
        outputs = [y, last + 0 * leaves["state"]]  # without a step no input reaches them
        found = torch.autograd.grad(outputs, list(leaves.values()), upstream, materialize_grads=True)
    return [*outputs, *found]


def without(given: dict[str, Tensor], *names: str) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in names}


@every_recurrence
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("B", "T", "H"), [(3, 21, 7), (1, 70, 37), (2, 1, 5), (2, 0, 3), (0, 2, 3), (2, 2, 0)])
def test_kernels_are_the_definition(name: str, dtype: torch.dtype, B: int, T: int, H: int) -> None:
    given = arguments(name, B, T, H, dtype)
    reset = torch.rand(B, T) < 0.1
    r = RECURRENCES[name]
    upstream = torch.randn(B, T, r.width * H).to(dtype), torch.randn_like(given["state"])
    fast = gradients(name, given, reset, "cpu", upstream)
    exact = gradients(
        name,
        {key: value.double() for key, value in given.items()},
        reset,
        "definition",
        (upstream[0].double(), upstream[1].double()),
    )
    for actual, expected in zip(fast, exact, strict=True):
        scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
        assert (
            (actual.double() - expected).detach().abs().max().item() <= TOLERANCES[dtype] * scale
            if actual.numel()
            else True
        )


@every_recurrence
def test_what_is_left_out_is_zero(name: str) -> None:
    given = arguments(name, 2, 9, 5, torch.float64)
    rest = without(given, "inputs", "state")
    alone = channelwise(name, given["inputs"], **rest)
    zeros = channelwise(
        name, given["inputs"], torch.zeros_like(given["state"]), torch.zeros(2, 9, dtype=torch.bool), **rest
    )
    for actual, expected in zip(alone, zeros, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@every_recurrence
def test_views_are_read_where_they_lie(name: str) -> None:
    given = arguments(name, 3, 8, 5, torch.float64)
    views = {
        key: value.transpose(0, 1).contiguous().transpose(0, 1) if value.dim() == 3 else value
        for key, value in given.items()
    }
    upstream = torch.randn(3, 8, RECURRENCES[name].width * 5).double(), torch.randn_like(given["state"])
    plain, viewed = (gradients(name, tensors, None, "cpu", upstream) for tensors in (given, views))
    for actual, expected in zip(viewed, plain, strict=True):
        assert torch.equal(actual, expected)


@every_recurrence
def test_second_derivatives(name: str) -> None:
    given = {key: value.requires_grad_() for key, value in arguments(name, 1, 3, 2, torch.float64).items()}
    names = list(given)

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(names, tensors, strict=True))
        return channelwise(name, named["inputs"], named["state"], **without(named, "inputs", "state"))

    assert torch.autograd.gradcheck(run, tuple(given.values()))
    if name != "rglru":  # its slope is cut off where the definition's is not
        assert torch.autograd.gradgradcheck(run, tuple(given.values()))


def test_a_long_memory_is_kept() -> None:
    """A gate that forgets 1e-5 a step reaches its limit, which a float32 state would stop short of."""
    T = 400_000
    inputs = torch.tensor([11.5, 1.0]).expand(1, T, 2).contiguous()  # sigmoid(-11.5) = 1e-5
    _, last = channelwise("hgrn/silu", inputs, parameters=torch.zeros(1, 1))
    forgets = torch.sigmoid(torch.tensor(-11.5, dtype=torch.float64))
    expected = torch.nn.functional.silu(torch.tensor(1.0)) * (1 - (1 - forgets) ** T)
    assert abs(float(last) / float(expected) - 1) < 1e-5
