"""Kernels called from threads, forked and spawned processes; the number of threads changes no bit."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from minrnn.fused import causal_conv, dropout_add, gelu_dropout, rms_norm
from minrnn.kernels import _threads
from minrnn.kernels._threads import INLINE_BELOW, parallel
from minrnn.kernels.walk import BLOCK, block_size
from minrnn.recurrence import channelwise, mingru, walk
from minrnn.recurrence._definitions import RECURRENCES

# Python 3.12 warns of every fork of a process with threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="fork is safe on Linux only")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """So that work is shared out whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["torch's OpenMP", "Python"])
def team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of threads; where torch has no OpenMP, the second kind twice."""
    if request.param == "Python":
        monkeypatch.setattr(_threads, "_team", _threads._python_threads())


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings an OpenMP with this interface on Linux only")
def test_kernels_run_on_the_threads_of_torch() -> None:
    assert _threads._openmp() is not None


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("elements", [1, INLINE_BELOW])
def test_every_unit_is_run_once(threads: int, elements: int) -> None:
    torch.set_num_threads(threads)
    for units in (0, 1, 2, 5, 40):
        runs = np.zeros(units, int)

        def run(first: int, last: int, runs: np.ndarray = runs) -> None:
            runs[first:last] += 1

        parallel(run, units, elements)
        assert (runs == 1).all()


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_units_are_shared_out_by_their_costs(threads: int) -> None:
    torch.set_num_threads(threads)
    for costs in ([1], [0, 0, 5], [9, 1, 1, 1], [1] * 40, [100, *[1] * 39], list(range(40, 0, -1))):
        ranges: list[tuple[int, int]] = []
        parallel(lambda *bounds, ranges=ranges: ranges.append(bounds), len(costs), INLINE_BELOW, np.array(costs))
        covered = sorted(unit for first, last in ranges for unit in range(first, last))
        assert covered == list(range(len(costs)))
        assert max(sum(costs[first:last]) for first, last in ranges) <= sum(costs) / threads + max(costs)


@pytest.mark.usefixtures("team")
def test_an_error_in_any_thread_is_raised() -> None:
    def fail(first: int, last: int, failing: int) -> None:
        if first <= failing < last:
            raise KeyError(failing)

    for failing in (0, 9):
        with pytest.raises(KeyError):
            parallel(partial(fail, failing=failing), 10, INLINE_BELOW)


@pytest.mark.usefixtures("team")
def test_ctrl_c_in_any_thread_is_raised() -> None:
    def interrupted(first: int, last: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parallel(interrupted, 10, INLINE_BELOW)


def test_work_that_was_cut_short_is_never_taken_for_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """C code that calls back swallows an exception that strikes outside of the work."""
    monkeypatch.setattr(_threads, "_team", lambda work, threads: None)
    with pytest.raises(KeyboardInterrupt):
        parallel(lambda first, last: None, 10, INLINE_BELOW)


def test_blocks_are_whole_vectors_and_as_many_as_can_be_shared() -> None:
    for B in (0, 1, 3, 16, 64):
        for H in (1, 16, 17, 64, 333):
            block = block_size(B, H)
            assert block % BLOCK == 0 and B * -(-H // block) >= min(16, B * -(-H // BLOCK)) // 2


def outputs_and_gradients(f: Callable[..., Tensor | tuple[Tensor, Tensor]], *inputs: Tensor) -> list[Tensor]:
    torch.manual_seed(0)  # for dropout
    inputs = tuple(x.detach().clone().requires_grad_() for x in inputs)
    y = f(*inputs)
    y = y if isinstance(y, tuple) else (y,)
    return [*y, *torch.autograd.grad(y, inputs, [torch.sin(t.detach() * 100) for t in y])]


def function(name: str) -> tuple[Callable[..., Tensor | tuple[Tensor, Tensor]], list[Tensor]]:
    """The function, and inputs large enough for threads: odd sizes, more rows than a unit holds."""
    torch.manual_seed(0)
    x = torch.randn(3, 331, 67)
    weight, bias = torch.randn(67, 4), torch.randn(67)
    fused = {
        "rms_norm": (rms_norm, [x, bias]),
        "causal_conv": (lambda *inputs: causal_conv(*inputs)[0], [x, weight, bias]),
        "gelu_dropout": (lambda x: gelu_dropout(x, 0.2), [x]),
        "dropout_add": (lambda residual, x: dropout_add(residual, x, 0.2), [x.cos(), x]),
    }
    if name in fused:
        return fused[name]
    r = RECURRENCES[name]
    if r.coefficients is None:
        others = {"extra": x} if r.extras else {}
        if r.parameters:
            others["parameters"] = torch.rand(r.parameters, 67)
        run = lambda x, *given: channelwise(name, x, **dict(zip(others, given, strict=True)))  # noqa: E731
        return run, [torch.randn(3, 331, r.inputs * 67), *others.values()]
    scale = 0.9 if name == "linear" else 1.0
    return partial(walk, name), [(torch.randn(3, 331, r.inputs * 67) * scale).clamp(-1 / scale**9, 1 / scale**9)]


FUSED = ["rms_norm", "causal_conv", "gelu_dropout", "dropout_add"]


@pytest.mark.parametrize("name", [*RECURRENCES, *FUSED])
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    f, inputs = function(name)
    torch.set_num_threads(1)
    expected = outputs_and_gradients(f, *inputs)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        for given, wanted in zip(outputs_and_gradients(f, *inputs), expected, strict=True):
            assert torch.equal(given, wanted)


@pytest.mark.parametrize("name", ["mingru/identity", "minlstm/tanh", "rms_norm", "causal_conv"])
def test_eight_python_threads_at_once(name: str) -> None:
    f, inputs = function(name)
    expected = outputs_and_gradients(f, *inputs)

    def work(_: int) -> bool:
        return all(torch.equal(a, b) for a, b in zip(outputs_and_gradients(f, *inputs), expected, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


# --- processes --------------------------------------------------------------------------------------------------------


def large() -> Tensor:
    return torch.linspace(-1, 1, 2 * 300 * 2 * 64).view(2, 300, 2 * 64)


class Work(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return walk("mingru/identity", large())[0]


@needs_fork
def test_a_forked_data_loader_worker() -> None:
    expected = walk("mingru/identity", large())[0]  # parallel work in the parent
    loader = DataLoader(Work(), batch_size=None, num_workers=2, timeout=60, multiprocessing_context="fork")
    for h in loader:
        assert torch.equal(h, expected)


def wait_for(pid: int, seconds: float = 60) -> int:
    """The exit code of a child; it is killed if it hangs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


@needs_fork
def test_a_forked_child_shares_out_work_of_its_own() -> None:
    x = large().requires_grad_()
    upstream = (torch.ones(2, 300, 64), torch.ones(2, 64))
    expected = torch.autograd.grad(walk("mingru/identity", x), x, upstream)[0]
    pid = os.fork()
    if pid == 0:
        try:
            given = torch.autograd.grad(walk("mingru/identity", x), x, upstream)[0]
            os._exit(0 if given.numpy().tobytes() == expected.numpy().tobytes() else 3)
        finally:
            os._exit(4)
    assert wait_for(pid) == 0


@needs_fork
def test_forks_while_another_thread_is_in_a_kernel() -> None:
    x, stop = large(), False

    def keep_busy() -> None:
        while not stop:
            walk("mingru/identity", x)

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(keep_busy)
        try:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    try:
                        walk("mingru/identity", x)
                        os._exit(0)
                    finally:
                        os._exit(4)
                assert wait_for(pid) == 0
        finally:
            stop = True
        busy.result()


def test_a_spawned_process() -> None:
    gate, candidate = large().chunk(2, dim=-1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        h, h_last = pool.apply_async(mingru, (gate.contiguous(), candidate.contiguous())).get(120)
    expected = mingru(gate, candidate)
    assert torch.equal(h, expected[0]) and torch.equal(h_last, expected[1])


@pytest.mark.parametrize("order", ["torch numba minrnn", "minrnn torch numba", "numba minrnn torch"])
def test_imports_in_any_order(order: str) -> None:
    """Numba's threads and torch's, each with an OpenMP of its own perhaps, and ours on torch's."""
    imports = "\n".join(f"import {name}" for name in order.split())
    code = f"""
{imports}
import numpy as np
from minrnn import MinGRU

@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(len(x)):
        s += x[i]
    return s

torch.set_num_threads(2)
layer, x = MinGRU(64, 64), torch.randn(300, 4, 64)
for _ in range(3):
    out, _ = layer(x)
    out.sum().backward()
    assert total(np.ones(100_000)) == 100_000
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "fine", done.stderr


def test_a_call_while_the_interpreter_ends() -> None:
    code = """
import atexit, torch
from minrnn.recurrence import walk
torch.set_num_threads(2)
x = torch.zeros(2, 300, 2 * 64)
walk("mingru/identity", x)
atexit.register(lambda: print(tuple(walk("mingru/identity", x)[0].shape)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert (done.stdout.strip(), done.stderr) == ("(2, 300, 64)", "")
