"""Every misuse of a layer names the argument, what was given and what is expected."""

import re
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from minrnn import MinGRU, MinLSTM


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size is 0; expected 1 or more"),
        ({"hidden_size": -3}, ValueError, "hidden_size is -3; expected 1 or more"),
        ({"num_layers": 0}, ValueError, "num_layers is 0; expected 1 or more"),
        ({"hidden_size": 7.0}, TypeError, "hidden_size is 7.0; expected an int"),
        ({"num_layers": True}, TypeError, "num_layers is True; expected an int"),
        ({"bias": 0.1}, TypeError, "bias is 0.1; expected a bool"),
        ({"batch_first": 1}, TypeError, "batch_first is 1; expected a bool"),
        ({"dropout": 1.5}, ValueError, "dropout is 1.5; expected a share between 0 and 1"),
        ({"dropout": True}, ValueError, "dropout is True; expected a share between 0 and 1"),
        ({"activation": "relu"}, ValueError, "activation is 'relu'; expected one of 'identity', 'g', 'tanh'"),
    ],
)
@pytest.mark.parametrize("kind", [MinGRU, MinLSTM])
def test_construction(kind: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        kind(**{"input_size": 5, "hidden_size": 7} | arguments)


def test_forget_bias_needs_a_bias() -> None:
    with pytest.raises(ValueError, match=r"forget_bias is 2.0, but bias is False; expected bias=True or forget_bias=0"):
        MinLSTM(5, 7, bias=False, forget_bias=2.0)


@pytest.mark.parametrize(
    ("x", "h_0", "error", "message"),
    [
        (
            (9, 3, 6),
            None,
            ValueError,
            "(9, 3, 6); expected (T, B, D) or (T, D) with D = input_size = 5",
        ),
        ((5,), None, ValueError, "input has shape (5,); expected (T, B, D) or (T, D)"),
        ((1, 9, 3, 5), None, ValueError, "input has shape (1, 9, 3, 5); expected (T, B, D) or (T, D)"),
        (
            (9, 3, 5),
            (1, 3, 7),
            ValueError,
            "h_0 has shape (1, 3, 7); expected (num_layers * directions, B, H) = (2, 3, 7)",
        ),
        (
            (9, 3, 5),
            (2, 9, 7),
            ValueError,
            "h_0 has shape (2, 9, 7); expected (num_layers * directions, B, H) = (2, 3, 7)",
        ),
        ((9, 5), (2, 1, 7), ValueError, "h_0 has shape (2, 1, 7); expected (num_layers * directions, H) = (2, 7)"),
    ],
)
def test_shapes(x: Any, h_0: Any, error: type[Exception], message: str) -> None:
    layer = MinGRU(5, 7, num_layers=2)
    with pytest.raises(error, match=re.escape(message)):
        layer(torch.zeros(x), None if h_0 is None else torch.zeros(h_0))


def test_batch_first_is_part_of_the_message() -> None:
    with pytest.raises(ValueError, match=re.escape("expected (B, T, D) or (T, D)")):
        MinGRU(5, 7, batch_first=True)(torch.zeros(3, 9, 6))


def test_dtypes() -> None:
    layer = MinGRU(5, 7)
    with pytest.raises(TypeError, match=r"input has dtype torch.float64; expected that of the weights, torch.float32"):
        layer(torch.zeros(9, 3, 5, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"h_0 has dtype torch.int64; expected a floating dtype"):
        layer(torch.zeros(9, 3, 5), torch.zeros(1, 3, 7, dtype=torch.int64))
    for dtype in (torch.int64, torch.float64):
        with (
            torch.autocast("cpu", torch.bfloat16),
            pytest.raises(TypeError, match=f"input has dtype {dtype}; expected"),
        ):
            layer(torch.zeros(9, 3, 5, dtype=dtype))


def test_devices() -> None:
    layer = MinGRU(5, 7)
    with pytest.raises(ValueError, match=r"input is on meta; expected the device of the weights, cpu"):
        layer(torch.zeros(9, 3, 5, device="meta"))
    with pytest.raises(ValueError, match=r"h_0 is on meta; expected the device of input, cpu"):
        layer(torch.zeros(9, 3, 5), torch.zeros(1, 3, 7, device="meta"))


def test_lengths() -> None:
    layer, x = MinGRU(5, 7), torch.zeros(9, 3, 5)
    for lengths, message in (
        ([9, 10, 0], "lengths run from 0 to 10; expected 0 to T = 9"),
        ([9, -1, 0], "lengths run from -1 to 9; expected 0 to T = 9"),
        ([9, 9], "lengths has shape (2,) and dtype torch.int64; expected (B,) = (3,), whole numbers"),
        ([9.0, 9.0, 1.0], "lengths has shape (3,) and dtype torch.float32; expected (B,) = (3,), whole numbers"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            layer(x, lengths=torch.tensor(lengths))
    with pytest.raises(ValueError, match=r"lengths is given with one sequence \(T, D\); expected a batch"):
        layer(x[:, 0], lengths=torch.tensor([9]))


def test_resets() -> None:
    layer, x = MinGRU(5, 7), torch.zeros(9, 3, 5)
    with pytest.raises(
        ValueError, match=re.escape("reset has shape (9, 3) and dtype torch.bool; expected (B, T) = (3, 9)")
    ):
        layer(x, reset=torch.zeros(9, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"dtype torch.float32; expected .* torch.bool"):
        layer(x, reset=torch.zeros(3, 9))


def test_packed_sequences() -> None:
    packed = pack_sequence([torch.zeros(4, 6), torch.zeros(2, 6)])
    with pytest.raises(ValueError, match=re.escape("input has shape (6, 6); expected packed (N, D)")):
        MinGRU(5, 7)(packed)
    packed = pack_sequence([torch.zeros(4, 5), torch.zeros(2, 5)])
    with pytest.raises(ValueError, match=re.escape("expected (num_layers * directions, B, H) = (1, 2, 7)")):
        MinGRU(5, 7)(packed, torch.zeros(1, 3, 7))
    for name, value in (("lengths", torch.tensor([4, 2])), ("reset", torch.zeros(2, 4, dtype=torch.bool))):
        with pytest.raises(ValueError, match=f"{name} is given with a PackedSequence"):
            MinGRU(5, 7)(packed, **{name: value})


def test_pairs() -> None:
    x, h_0 = torch.zeros(9, 3, 5), torch.zeros(1, 3, 7)
    with pytest.raises(TypeError, match=r"hx is a tuple; expected one tensor h_0, or pair=True for pairs"):
        MinLSTM(5, 7)(x, (h_0, h_0))
    with pytest.raises(TypeError, match=r"hx is a Tensor; expected a pair \(h_0, c_0\)"):
        MinLSTM(5, 7, pair=True)(x, h_0)


def test_proj_size_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"proj_size is 3; expected 0: .* no matrix reads the state"):
        MinLSTM(5, 7, proj_size=3)
