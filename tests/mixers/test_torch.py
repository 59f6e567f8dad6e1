"""GRU and LSTM are torch's own, on every path."""

from typing import Any

import pytest
import torch
from torch import nn

from minrnn.mixers import LSTMMixer, build
from minrnn.recurrence import backend


@pytest.mark.parametrize("name", ["gru", "lstm"])
@pytest.mark.parametrize("path", ["cpu", "definition"])
def test_equals_the_module_of_torch(name: str, path: str) -> None:
    torch.manual_seed(0)
    mixer = build(name, width=6, expansion=1.5).double()
    module = {"gru": nn.GRU, "lstm": nn.LSTM}[name](6, 9, batch_first=True).double()
    weights = {"ih": mixer.input, "hh": mixer.recurrent}
    module.load_state_dict(
        {f"weight_{key}_l0": part.weight for key, part in weights.items()}
        | {f"bias_{key}_l0": part.bias for key, part in weights.items()}
    )
    x = torch.randn(3, 20, 6, dtype=torch.float64)
    with backend(path):
        y, _ = mixer(x)
    torch.testing.assert_close(y, mixer.down(module(x)[0]))


def test_forget_bias_of_the_lstm_is_at_the_forget_gate() -> None:
    torch.manual_seed(0)
    plain = LSTMMixer(8, forget_bias=0.0)
    torch.manual_seed(0)
    raised = LSTMMixer(8, forget_bias=3.0)
    expected = torch.zeros(4, 8)
    expected[1] = 3.0  # of [i | f | g | o]
    torch.testing.assert_close((raised.input.bias - plain.input.bias).detach().view(4, 8), expected)


@pytest.mark.parametrize("name", ["gru", "lstm"])
@pytest.mark.parametrize("outright", [True, False])
def test_float32_where_the_processor_has_no_recurrent_layers_in_bfloat16(
    name: str, outright: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minrnn.mixers._torch._refuses_bfloat16", lambda device: True)
    mixer = build(name, width=6)
    seen = []

    def recorded(x: torch.Tensor, *arguments: Any) -> Any:
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        return getattr(torch, name)(x, *arguments)

    monkeypatch.setattr(mixer, "torch_function", recorded)
    x = torch.randn(3, 20, 6)
    expected, _ = mixer(x)
    if outright:
        mixer, x = mixer.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=not outright):
        y, state = mixer(x)
        y.float().sum().backward()
    assert seen == [(torch.float32, False)] * 2
    assert y.dtype == torch.bfloat16
    assert all(tensor.dtype == torch.float32 for tensor in state)
    assert (y.float() - expected).abs().max() <= 0.06 * expected.abs().max()
