"""torch.compile goes through in one graph and gives what eager mode gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from minrnn.recurrence import _backend, _walk, backend, mingru, minlstm, walk
from minrnn.recurrence._definitions import RECURRENCES

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(f: Callable[..., Any], by: str = "aot_eager", **options: Any) -> Callable[..., Any]:
    return torch.compile(f, backend=by, fullgraph=True, **options)  # type: ignore[no-any-return]


def loss(name: str, reset: Tensor | None = None, reverse: bool = False) -> Callable[..., Tensor]:
    def f(x: Tensor, h0: Tensor) -> Tensor:
        h, h_last = walk(name, x, h0, reset, reverse=reverse)
        return h.sin().sum() + h_last.cos().sum()

    return f


def case(name: str, B: int = 3, T: int = 7, H: int = 5, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x = torch.randn(B, T, RECURRENCES[name].inputs * H).to(dtype)
    return x.requires_grad_(), torch.randn(B, H, requires_grad=True)


@pytest.mark.parametrize("name", ["linear", "mingru/identity", "minlstm/g", "minlstm_unnormalized/tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_forward_and_backward_equal_eager(name: str, dtype: torch.dtype) -> None:
    x, h0 = case(name, dtype=dtype)
    for options in ({}, {"reset": torch.rand(3, 7) < 0.3}, {"reverse": True}):
        f = loss(name, **options)  # type: ignore[arg-type]
        given, wanted = compiled(f)(x, h0), f(x, h0)
        torch.testing.assert_close(given, wanted)
        torch.testing.assert_close(torch.autograd.grad(given, (x, h0)), torch.autograd.grad(wanted, (x, h0)))


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor() -> None:
    """In a process of its own: where the library's distutils was imported before, setuptools' stand-in, which Inductor
    imports, refuses to take its place.
    """
    options = ["-q", "-o", "python_functions=inductor_*", "-o", "addopts=", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, __file__], capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def inductor_equals_eager() -> None:
    """Inductor trusts the strides that the operators promise: gradients arrive transposed, inputs permuted."""

    def f(gate: Tensor, candidate: Tensor, h0: Tensor) -> Tensor:
        h, h_last = mingru(gate.cos().permute(2, 0, 1), candidate.permute(2, 0, 1), h0 * 2)
        return (h.transpose(0, 1) * torch.arange(1.0, 4)[:, None]).sum() + (h_last.t() * torch.arange(3.0)).sin().sum()

    arguments = [torch.randn(*shape, requires_grad=True) for shape in ((7, 5, 3), (7, 5, 3), (3, 5))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what inductor imports
        given = compiled(f, "inductor")(*arguments)
        gradients = torch.autograd.grad(given, arguments)
    wanted = f(*arguments)
    torch.testing.assert_close(given, wanted)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted, arguments))


def batch_major(*shape: int) -> Tensor:
    return torch.randn(shape)


def time_major(B: int, T: int, W: int) -> Tensor:
    return torch.randn(T, B, W).transpose(0, 1)


def strided(B: int, T: int, W: int) -> Tensor:
    return torch.randn(T, W, B).permute(2, 0, 1)


def expanded(B: int, T: int, W: int) -> Tensor:
    return torch.randn(1, 1, 1).expand(B, T, W)


LAYOUTS = [batch_major, time_major, strided, expanded]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("T", [0, 1, 4])
def test_the_operators_promise_what_they_return(layout: Callable[..., Tensor], T: int) -> None:
    x, h0 = layout(3, T, 10), torch.randn(5, 3, dtype=torch.float64).t()
    reset = torch.zeros(3, T, dtype=torch.bool)
    utils = ("test_schema", "test_faketensor")
    lengths = torch.tensor([T, 0, (T + 1) // 2])
    for arguments in ((None, None, None, None), (h0, reset, lengths, None)):
        torch.library.opcheck(_walk._walk_op, (x, *arguments, "mingru/g", False, "cpu"), test_utils=utils)
        gradients = (torch.randn(3, T, 5), layout(3, T, 5), torch.randn(5, 3).t())
        torch.library.opcheck(
            _walk._walk_backward_op, (x, *arguments, *gradients, "mingru/g", False, "cpu"), test_utils=utils
        )


def test_dynamic_lengths_take_at_most_four_graphs() -> None:
    counter = CompileCounter()
    f = torch.compile(loss("mingru/g"), backend=counter, fullgraph=True)
    for T in (7, 5, 8, 13, 21, 50, 1, 0, 100, 2):
        f(*case("mingru/g", T=T))
    assert counter.frame_count <= 4


def test_the_first_call_ever_may_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "_by_device", {})
    x, h0 = case("mingru/g")
    torch.testing.assert_close(compiled(loss("mingru/g"))(x, h0), loss("mingru/g")(x, h0))


@pytest.mark.parametrize("chosen", ["cpu", "torch", "definition"])
@pytest.mark.parametrize("where", ["outside", "inside"])
def test_a_forced_backend(chosen: str, where: str) -> None:
    f = loss("mingru/g")

    def forced(x: Tensor, h0: Tensor) -> Tensor:
        with backend(chosen):
            return f(x, h0)

    x, h0 = case("mingru/g")
    if where == "inside":
        given = compiled(forced)(x, h0)
    else:
        with backend(chosen):
            given = compiled(f)(x, h0)
    torch.testing.assert_close(given, f(x, h0))


def test_a_change_of_backend_is_noticed() -> None:
    graphs: list[torch.fx.GraphModule] = []

    def record(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    f = torch.compile(loss("mingru/g"), backend=record, fullgraph=True)
    x, h0 = case("mingru/g")
    f(x, h0)
    with backend("torch"):
        f(x, h0)
    f(x, h0)
    assert ["minrnn" in graph.code for graph in graphs] == [True, False]


def test_minlstm_under_autocast() -> None:
    layer = torch.nn.Linear(6, 15)

    def f(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            h, h_last = minlstm(*layer(x).chunk(3, dim=-1))
        return h.float().sum() + h_last.sum()

    x = torch.randn(2, 7, 6)
    torch.testing.assert_close(compiled(f)(x), f(x), rtol=1e-2, atol=1e-2)


TRANSFORMS: dict[str, Callable[[Callable[..., Tensor]], Callable[..., Any]]] = {
    "grad": lambda f: torch.func.grad(f, argnums=(0, 1)),
    "vmap": lambda f: lambda x, h0: torch.vmap(lambda x, h0: f(x[None], h0[None]))(x, h0),
    "vmap of grad": lambda f: lambda x, h0: torch.vmap(lambda x, h0: torch.func.grad(f)(x[None], h0[None]))(x, h0),
    "jvp": lambda f: lambda x, h0: torch.func.jvp(f, (x, h0), (torch.ones_like(x), torch.ones_like(h0))),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_inside_compile(transform: str) -> None:
    """Zeros for a derivative would be the worst answer, and are what an operator without forward mode gives."""
    x, h0 = (t.detach() for t in case("mingru/g"))
    f = TRANSFORMS[transform](loss("mingru/g"))
    torch.testing.assert_close(compiled(f)(x, h0), f(x, h0))


def test_forward_mode_around_compile() -> None:
    x, h0 = (t.detach() for t in case("mingru/g"))
    f, tangent = loss("mingru/g"), torch.ones(3, 7, 10)
    _, wanted = torch.func.jvp(lambda x: f(x, h0), (x,), (tangent,))
    with torch.autograd.forward_ad.dual_level():
        y = compiled(f, "eager")(torch.autograd.forward_ad.make_dual(x, tangent), h0)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(y).tangent, wanted)


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_a_dynamic_length(strict: bool) -> None:
    class Layer(torch.nn.Module):
        def forward(self, gate: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
            return mingru(gate, candidate)

    gate, candidate = torch.randn(2, 2, 7, 4)
    lengths = {1: torch.export.Dim("T", min=2, max=1000)}
    program = torch.export.export(
        Layer(), (gate, candidate), dynamic_shapes={"gate": lengths, "candidate": lengths}, strict=strict
    )
    longer = torch.randn(2, 2, 19, 4)
    torch.testing.assert_close(program.module()(*longer), mingru(*longer))
