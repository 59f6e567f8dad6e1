"""The Triton kernels against the definition, in Triton's interpreter and on a GPU if there is one; compiled for others.

TRITON_INTERPRET must be set before triton is imported, and another test may have imported it already. So each `test_`
here starts pytest on this file in a process of its own, where the functions with another prefix are the tests.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minrnn.recurrence import backend, linear_recurrence, mingru, minlstm, walk
from minrnn.recurrence._definitions import AFFINE, RECURRENCES, definition
from minrnn.recurrence._layout import Spans, existing, pack, packed_spans

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
# The kernels' backward reads h as the forward rounded it; the interpreter cuts bfloat16 off where a GPU rounds.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}


def run_here(prefix: str, interpret: bool, cache: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": str(int(interpret)), "TRITON_CACHE_DIR": str(cache)}
    options = ["-q", "-o", f"python_functions={prefix}_*", "-o", "addopts=", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@needs_triton
def test_in_the_interpreter(tmp_path: Path) -> None:
    run_here("check", interpret=True, cache=tmp_path)


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_on_the_gpu(tmp_path: Path) -> None:
    run_here("check", interpret=False, cache=tmp_path)


@needs_triton
def test_compilation_without_a_gpu(tmp_path: Path) -> None:
    run_here("compile", interpret=False, cache=tmp_path)


# --- the kernels' forward and backward --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """Memory that nobody wrote is NaN."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def inside_nan(x: Tensor, time_major: bool) -> Tensor:
    """x (B, T, W) as a view into a larger buffer of NaN whose outermost axis is B or T."""
    x = x.transpose(0, 1) if time_major else x
    M, N, W = x.shape
    view = x.new_full((M + 1, N + 2, W + 3), torch.nan)[1:, 1:-1, 2:-1]
    view.copy_(x)
    return view.transpose(0, 1) if time_major else view


def expect_the_definition(
    name: str,
    x: Tensor,
    *,
    h0: bool = True,
    reset: bool = True,
    reverse: bool = False,
    time_major: bool = False,
    lengths: Tensor | None = None,
) -> None:
    """Both outputs and every gradient, from upstream gradients of both outputs, against the definition in float64."""
    from minrnn.recurrence import _triton

    B, T, H = *x.shape[:2], x.shape[2] // RECURRENCES[name].inputs
    state_dtype = torch.promote_types(x.dtype, torch.float32)
    initial = torch.randn(B, H, device=DEVICE, dtype=state_dtype) if h0 else None
    resets = torch.rand(T, B, device=DEVICE).T < 0.3 if reset else None
    dh = torch.randn(B, T, H, device=DEVICE).to(x.dtype)
    dh_last = torch.randn(B, H, device=DEVICE, dtype=state_dtype)

    inputs = inside_nan(x, time_major)
    spans = Spans(lengths)
    h, h_last = _triton.forward(name, inputs, initial, resets, spans, reverse)
    dx, dh0 = _triton.backward(name, inputs, initial, resets, spans, h, inside_nan(dh, time_major), dh_last, reverse)

    x64 = x.double().requires_grad_()
    initial64 = (dh_last * 0 if initial is None else initial).double().requires_grad_()
    there = None if lengths is None else existing(lengths, T)
    expected = definition(RECURRENCES[name], x64, initial64, resets, reverse, there)
    loss = (expected[0] * dh).sum() + (expected[1] * dh_last).sum()
    gradients = torch.autograd.grad(loss, (x64, initial64), materialize_grads=True)
    for given, wanted in zip((h, h_last, dx, dh0), (*expected, *gradients), strict=True):
        torch.testing.assert_close(given.double(), wanted, rtol=TOLERANCE[x.dtype], atol=TOLERANCE[x.dtype])
    assert h.dtype == dx.dtype == x.dtype
    assert h_last.dtype == dh0.dtype == state_dtype
    if B > 1 and T > 1:
        assert (h.stride(0) < h.stride(1)) == (dx.stride(0) < dx.stride(1)) == time_major


def random_inputs(name: str, B: int, T: int, H: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(B, T, RECURRENCES[name].inputs * H, device=DEVICE).to(dtype)


IN_TRITON = [name for name in AFFINE if name.startswith(("linear", "min"))]
each_recurrence = pytest.mark.parametrize("name", IN_TRITON)
LAYOUTS: dict[str, dict[str, Any]] = {"batch-major": {}, "time-major reversed": {"time_major": True, "reverse": True}}


@each_recurrence
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def check_every_dtype(name: str, dtype: torch.dtype, layout: dict[str, Any]) -> None:
    expect_the_definition(name, random_inputs(name, 2, 5, 5, dtype), **layout)


@pytest.mark.parametrize("name", ["linear", "mingru/g", "minlstm/tanh"])
@pytest.mark.parametrize("shape", [(3, 0, 4), (3, 1, 4), (0, 3, 4), (2, 3, 1), (1, 3, 131), (2, 17, 33)], ids=str)
@pytest.mark.parametrize(("h0", "reset", "reverse"), [(False, False, True), (True, True, False)], ids=["bare", "full"])
def check_every_shape(name: str, shape: tuple[int, int, int], h0: bool, reset: bool, reverse: bool) -> None:
    expect_the_definition(name, random_inputs(name, *shape), h0=h0, reset=reset, reverse=reverse)


@pytest.mark.parametrize("name", ["linear", "mingru/g", "minlstm/tanh"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def check_lengths(name: str, layout: dict[str, Any]) -> None:
    expect_the_definition(name, random_inputs(name, 4, 6, 5), lengths=torch.tensor([6, 0, 1, 4]), **layout)


@pytest.mark.parametrize("reverse", [False, True])
def check_packed(reverse: bool) -> None:
    """A packed call gives what a padded one with lengths does."""
    spans = packed_spans(torch.tensor([3, 3, 2, 1]))
    padded, h0 = Spans(spans.lengths), torch.randn(3, 5, device=DEVICE)
    x = random_inputs("minlstm/g", 3, 4, 5)
    with backend("triton"):
        x.requires_grad_()
        h, h_last = walk("minlstm/g", pack(x, spans), h0, spans=spans, reverse=reverse)
        expected, expected_last = walk("minlstm/g", x, h0, spans=padded, reverse=reverse)
        torch.testing.assert_close((h, h_last), (pack(expected, spans), expected_last))
        given = torch.autograd.grad(h.sin().sum() + h_last.sum(), x)
        torch.testing.assert_close(given, torch.autograd.grad(expected.sin().sum() + expected_last.sum(), x))


@pytest.mark.parametrize("name", [name for name in IN_TRITON if "tanh" in name or "/g" in name])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of tanh's polynomial, where it is not used
def check_extreme_logits(name: str, dtype: torch.dtype) -> None:
    x = random_inputs(name, 4, 9, 8, dtype)
    extremes = torch.tensor([-1e4, -800.0, -89.0, 0.0, 1e-4, 89.0, 800.0, 1e4], device=DEVICE, dtype=dtype)
    gates = x.shape[-1] - 8
    x[..., :gates] = extremes[torch.randint(8, (4, 9, gates), device=DEVICE)]
    expect_the_definition(name, x)
    x = random_inputs(name, 1, 8, 1, dtype)
    x[0, :, -1] = extremes
    expect_the_definition(name, x, reset=False)


def check_tanh_keeps_relative_precision() -> None:
    from minrnn.recurrence import _triton

    candidate = torch.logspace(-6, 1, 100, device=DEVICE)
    gate = torch.full_like(candidate, 50.0)  # z = 1
    h, _ = _triton.forward("mingru/tanh", torch.cat([gate, candidate])[None, None], None, None, Spans(), False)
    torch.testing.assert_close(h[0, 0], candidate.tanh(), rtol=5e-7, atol=0)


@each_recurrence
def check_nan_spreads_until_a_reset(name: str) -> None:
    for k in range(RECURRENCES[name].inputs):
        x = random_inputs(name, 1, 4, 2)
        x[0, 1, 2 * k] = torch.nan
        reset = torch.tensor([[False, False, False, True]], device=DEVICE)
        with backend("triton"):
            h, h_last = walk(name, x.requires_grad_(), reset=reset)
            (dx,) = torch.autograd.grad(h[:, 2:].sum(), x)
        assert h.isnan()[0].tolist() == [[False, False], [True, False], [True, False], [False, False]]
        assert not h_last.isnan().any()
        assert dx.isnan()[0, :, 0].any()
        assert not dx.isnan()[0, 3].any() and not dx.isnan()[..., 1::2].any()


# --- the public functions ---------------------------------------------------------------------------------------------

CALLS = {
    "linear_recurrence": lambda a, b, _, h0, reset: linear_recurrence(a, b, h0, reset=reset),
    "reversed": lambda a, b, _, h0, reset: linear_recurrence(a, b, h0, reset=reset, reverse=True),
    "mingru": lambda a, b, _, h0, reset: mingru(a, b, h0, activation="g", reset=reset),
    "minlstm": lambda a, b, c, h0, reset: minlstm(a, b, c, h0, activation="tanh", reset=reset),
    "unnormalized": lambda a, b, c, h0, reset: minlstm(a, b, c, h0, normalize=False, reset=reset),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def check_public_functions(call: Any) -> None:
    a, b, c = torch.randn(3, 1, 3, 2, device=DEVICE, dtype=torch.float64, requires_grad=True).unbind()
    h0 = torch.randn(1, 2, device=DEVICE, dtype=torch.float64, requires_grad=True)
    reset = torch.tensor([[False, True, False]], device=DEVICE)
    arguments = (a, b, c, h0, reset)
    with backend("definition"):
        expected = call(*arguments)
    with backend("triton"):
        torch.testing.assert_close(call(*arguments), expected)
        assert torch.autograd.gradcheck(call, arguments)


# --- compilation for GPUs that need not be here -----------------------------------------------------------------------


@each_recurrence
@pytest.mark.parametrize("dtype", ["fp32", "fp64", "bf16"])
@pytest.mark.parametrize("sm", [80, 90])
@pytest.mark.parametrize("kernel_name", ["_walk_forward", "_walk_backward"])
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def compile_to_machine_code(name: str, dtype: str, sm: int, kernel_name: str) -> None:
    import triton
    from triton.backends.compiler import GPUTarget

    from minrnn.recurrence import _triton

    kernel = getattr(_triton, kernel_name)
    step, activation = name.split("/") if "/" in name else (name, "identity")
    state = "*fp64" if dtype == "fp64" else "*fp32"
    constants: dict[str, Any] = {"K": RECURRENCES[name].inputs, "STEP": step, "ACTIVATION": activation, "BLOCK": 128}
    constants["REVERSE"] = activation == "g"
    if activation == "tanh":  # as where none of them is given
        constants |= dict.fromkeys(("reset", "lengths", "starts"))
    types = dict.fromkeys(("x", "h", "dh", "dx"), f"*{dtype}") | dict.fromkeys(("state", "initial", "grad"), state)
    types |= {"reset": "*i1", "lengths": "*i64", "starts": "*i64"} | dict.fromkeys(constants, "constexpr")
    source = triton.compiler.ASTSource(kernel, {n: types.get(n, "i64") for n in kernel.arg_names}, constants)
    code = triton.compile(source, target=GPUTarget("cuda", sm, 32), options={"num_warps": 4}).asm
    assert f".target sm_{sm}" in code["ptx"]
    assert code["cubin"]
