"""What a layer's constructor arguments do, beside the computation itself."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from minrnn import RNN, MinGRU, MinLSTM


def make(D: int = 5, H: int = 7, num_layers: int = 1, dropout: float = 0.0) -> MinGRU:
    torch.manual_seed(0)
    return MinGRU(D, H, num_layers, dropout=dropout, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_dropout_stands_between_layers() -> None:
    layer = make(num_layers=2, dropout=0.5)
    x = torch.randn(9, 3, 5, dtype=torch.float64)
    torch.manual_seed(1)
    out, h_n = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x)[0], out)
    assert not torch.equal(layer(x)[0], out)
    assert (out != 0).all(), "nothing is dropped after the last layer"
    one = make()
    one.load_state_dict({name: value for name, value in layer.state_dict().items() if "_l0" in name})
    close(h_n[:1], one(x)[1])
    close(layer.eval()(x)[0], make(num_layers=2)(x)[0])
    blocked = make(num_layers=2, dropout=1.0)
    bias = blocked.bias_ih_l1
    close(blocked(x)[0][0], (torch.sigmoid(bias[:7]) * bias[7:]).expand(3, 7))


def test_dropout_of_one_layer_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match=r"dropout=0.5 does nothing with num_layers=1") as warned:
        MinGRU(5, 7, dropout=0.5)
        RNN("mingru", 5, 5, dropout=0.5)
    assert {warning.filename for warning in warned} == {__file__}  # the caller's line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MinGRU(5, 7, num_layers=2, dropout=0.5)


def test_initial_weights_follow_the_seed_and_the_input_size() -> None:
    first, second = make(D=400, H=20), make(D=400, H=20)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.weight_ih_l0.abs().max() <= 400**-0.5
    assert first.weight_ih_l0.std().item() == pytest.approx((3 * 400) ** -0.5, rel=0.05)


def test_device_and_dtype_reach_the_weights() -> None:
    layer = MinLSTM(5, 7, 2, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.bfloat16)}


def test_printed_like_gru() -> None:
    layer = MinGRU(5, 7, num_layers=2, batch_first=True)
    assert layer.extra_repr() == nn.GRU(5, 7, num_layers=2, batch_first=True).extra_repr()
