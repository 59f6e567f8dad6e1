"""Bad arguments: the message names the argument, what was given and what is expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from minrnn.recurrence import backend, linear_recurrence, mingru, minlstm

x = torch.zeros(2, 5, 3)
h0 = torch.zeros(2, 3)
reset = torch.zeros(2, 5, dtype=torch.bool)

Bad = tuple[Callable[[], Any], type[Exception], list[str]]
BAD: dict[str, Bad] = {
    "gate without a batch": (lambda: mingru(x[0], x[0]), ValueError, ["gate", "(5, 3)", "(B, T, H)"]),
    "gate with an axis too many": (lambda: mingru(x[None], x), ValueError, ["gate", "(1, 2, 5, 3)", "(B, T, H)"]),
    "candidate of another shape": (lambda: mingru(x, x[:, :4]), ValueError, ["candidate", "(2, 4, 3)", "(2, 5, 3)"]),
    "candidate that would broadcast": (lambda: mingru(x, x[:1]), ValueError, ["candidate", "(1, 5, 3)", "(2, 5, 3)"]),
    "input of another shape": (lambda: minlstm(x, x[..., :2], x), ValueError, ["input", "(2, 5, 2)", "(2, 5, 3)"]),
    "b of another shape": (lambda: linear_recurrence(x, x[:1]), ValueError, ["b has", "(1, 5, 3)", "(2, 5, 3)"]),
    "integers": (lambda: mingru(x.long(), x.long()), TypeError, ["gate", "torch.int64", "float"]),
    "complex numbers": (lambda: mingru(x.cfloat(), x.cfloat()), TypeError, ["gate", "torch.complex64", "float"]),
    "float8": (lambda: mingru(x.to(torch.float8_e5m2), x), TypeError, ["gate", "float8_e5m2", "bfloat16"]),
    "two dtypes": (lambda: mingru(x, x.double()), TypeError, ["candidate", "torch.float64", "torch.float32"]),
    "two devices": (lambda: minlstm(x, x, x.to("meta")), ValueError, ["candidate", "meta", "cpu"]),
    "a list for a tensor": (lambda: mingru([[[0.0]]], x), TypeError, ["gate", "list", "Tensor"]),  # type: ignore[arg-type]
    "h0 with a time axis": (lambda: mingru(x, x, x[:, :1]), ValueError, ["h0", "(2, 1, 3)", "(B, H) = (2, 3)"]),
    "h0 of another batch": (lambda: minlstm(x, x, x, h0[:1]), ValueError, ["h0", "(1, 3)", "(2, 3)"]),
    "h0 of integers": (lambda: mingru(x, x, h0.long()), TypeError, ["h0", "torch.int64", "float"]),
    "h0 elsewhere": (lambda: mingru(x, x, h0.to("meta")), ValueError, ["h0", "meta", "cpu"]),
    "h0 that is a number": (lambda: mingru(x, x, 0.0), TypeError, ["h0", "float", "Tensor"]),  # type: ignore[arg-type]
    "reset of another shape": (lambda: mingru(x, x, reset=reset[:, :4]), ValueError, ["reset", "(2, 4)", "(2, 5)"]),
    "reset of numbers": (lambda: mingru(x, x, reset=reset.float()), TypeError, ["reset", "float32", "torch.bool"]),
    "reset elsewhere": (lambda: mingru(x, x, reset=reset.to("meta")), ValueError, ["reset", "meta", "cpu"]),
    "unknown activation": (lambda: mingru(x, x, activation="relu"), ValueError, ["activation", "'relu'", "'tanh'"]),
    "no activation": (
        lambda: minlstm(x, x, x, activation=None),  # type: ignore[arg-type]
        ValueError,
        ["activation", "None", "'identity'"],
    ),
    "unknown backend": (lambda: backend("cuda").__enter__(), ValueError, ["backend", "'cuda'", "'triton'", "'torch'"]),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_arguments(bad: Bad) -> None:
    call, error, words = bad
    with pytest.raises(error) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def forced(name: str, call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with backend(name):
            return call()

    return run


ONE = torch.ones(1, 4, 2)
LOGSPACE: dict[str, tuple[Callable[[], Any], str]] = {
    "signed candidates": (lambda: mingru(ONE, -ONE), "negative"),
    "signed candidates of minlstm": (lambda: minlstm(ONE, ONE, -ONE), "negative"),
    "negative tanh": (lambda: mingru(ONE, -ONE, activation="tanh"), "negative"),
    "signed b": (lambda: linear_recurrence(ONE, -ONE), "negative"),
    "signed a": (lambda: linear_recurrence(-ONE, ONE), "negative"),
    "negative h0": (lambda: mingru(ONE, ONE, -ONE[:, 0], activation="g"), "h0"),
}


@pytest.mark.parametrize("refused", LOGSPACE.values(), ids=LOGSPACE)
def test_logspace_refuses_what_has_no_logarithm(refused: tuple[Callable[[], Any], str]) -> None:
    call, word = refused
    with pytest.raises(ValueError, match=word):
        forced("logspace", call)()


def test_logspace_gradients_of_candidates_and_states_at_zero() -> None:
    """Zero is where an untrained layer starts."""
    inputs = [torch.zeros(1, 4, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)]

    def gradients() -> tuple[torch.Tensor, ...]:
        h, h_last = mingru(ONE, *inputs, activation="g")
        return torch.autograd.grad(h.sum() + h_last.sum(), inputs)

    torch.testing.assert_close(forced("logspace", gradients)(), gradients())


def test_backends_that_are_missing_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for name, package in (("triton", "triton"), ("cpu", "numba")):
        with monkeypatch.context() as patch:
            patch.setattr("minrnn.recurrence._backend._ABSENT", {package})
            with pytest.raises(RuntimeError, match=rf"{name}.*{package} is not installed.*pip install"):
                backend(name).__enter__()
    with pytest.raises(RuntimeError, match="triton"):
        backend("triton").__enter__()


def test_a_forced_backend_refuses_tensors_elsewhere() -> None:
    with pytest.raises(RuntimeError, match=re.escape("'cpu' cannot run tensors on meta")):
        forced("cpu", lambda: mingru(x.to("meta"), x.to("meta")))()


def test_backends_nest_and_end_with_their_block() -> None:
    from minrnn.recurrence._backend import choose

    cpu = torch.device("cpu")
    with backend("torch"):
        with pytest.raises(KeyError), backend("definition"):
            assert choose(cpu) == "definition"
            raise KeyError
        assert choose(cpu) == "torch"
    assert choose(cpu) == "cpu"


def test_meta_tensors_give_shapes() -> None:
    h, h_last = mingru(x.to("meta"), x.to("meta"))
    assert h.shape == (2, 5, 3) and h_last.shape == (2, 3) and h.device.type == "meta"
