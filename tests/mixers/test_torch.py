"""GRU and LSTM are torch's own, on every path."""

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
