"""`build`, `names` and `options`."""

import re
from typing import Any

import pytest
import torch

from minrnn.mixers import MinGRUMixer, MinLSTMMixer, build, names, options


def test_names_are_what_build_takes() -> None:
    assert names()[:2] == ["mingru", "minlstm"]
    for name in names():
        assert build(name, width=8).width == 8


def test_options_reach_the_mixer() -> None:
    mixer = build("minlstm", width=6, layer=1, num_layers=3, expansion=1.5, activation="tanh", normalize=False)
    assert isinstance(mixer, MinLSTMMixer)
    assert mixer.cell.hidden_size == 9
    assert mixer.cell.recurrence == "minlstm_unnormalized/tanh"
    assert mixer.initial_state(2).h.shape == (2, 9)


def test_options_and_their_defaults() -> None:
    assert options("gilr") == {"expansion": 1.0, "bias": True}
    assert options("mingru") == options("gilr") | {
        "activation": "identity",
        "forget_bias": 0.0,
        "gate_mlp": 0.0,
        "logspace": False,
    }
    assert options("minlstm") == options("mingru") | {"normalize": True}


def test_without_bias() -> None:
    mixer = build("mingru", width=6, bias=False)
    assert all(parameter.dim() == 2 for parameter in mixer.parameters())


def test_forget_bias_is_added_to_the_forget_gates_alone() -> None:
    torch.manual_seed(0)
    plain = MinLSTMMixer(5)
    torch.manual_seed(0)
    raised = MinLSTMMixer(5, forget_bias=3.0)
    difference = raised.cell.projection.bias - plain.cell.projection.bias
    assert torch.equal(difference.round(), torch.tensor([3.0] * 5 + [0.0] * 10))


def test_forget_bias_of_mingru_is_taken_from_its_gate() -> None:
    torch.manual_seed(0)
    plain = MinGRUMixer(5)
    torch.manual_seed(0)
    raised = MinGRUMixer(5, forget_bias=3.0)
    difference = raised.cell.projection.bias - plain.cell.projection.bias
    assert torch.equal(difference.round(), torch.tensor([-3.0] * 5 + [0.0] * 5))


def test_weight_decay_spares_gates_and_biases() -> None:
    mixer = MinGRUMixer(5)
    spared = {name for name, p in mixer.named_parameters() if getattr(p, "no_weight_decay", False)}
    assert spared == {"cell.projection.weight", "cell.projection.bias", "down.bias"}


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("mingur", {}, "there is no mixer 'mingur' (did you mean 'mingru'?); there are mingru, minlstm, "),
        ("x", {}, "there is no mixer 'x'; there are mingru, minlstm, "),
        ("mingru", {"expansoin": 2}, "mixer 'mingru' has no option 'expansoin' (did you mean 'expansion'?); it has"),
        (
            "mingru",
            {"normalize": True},
            "mixer 'mingru' has no option 'normalize'; it has expansion, activation, forget_bias, bias, ",
        ),
        ("mingru", {"expansion": "wide"}, "option expansion of mixer 'mingru' is 'wide'; expected float"),
        ("mingru", {"expansion": True}, "option expansion of mixer 'mingru' is True; expected float"),
        ("mingru", {"bias": 1}, "option bias of mixer 'mingru' is 1; expected bool"),
        ("mingru", {"activation": 3}, "option activation of mixer 'mingru' is 3; expected str"),
        ("mingru", {"expansion": 0}, "expansion is 0; expected more than 0"),
        ("mingru", {"expansion": float("nan")}, "expansion is nan; expected more than 0"),
        ("mingru", {"expansion": float("inf")}, "expansion is inf; expected more than 0"),
        ("mingru", {"activation": "relu"}, "activation is 'relu'; expected one of 'identity', 'g', 'tanh'"),
        ("mingru", {"logspace": True}, "logspace is True with activation 'identity'; expected activation=\"g\""),
        ("qrnn", {"pooling": "of"}, "pooling is 'of'; expected one of 'f', 'fo', 'ifo'"),
        ("qrnn", {"filter": 0}, "filter is 0; expected 1 step or more"),
        ("qrnn", {"zoneout": 1.0}, "zoneout is 1.0; expected a probability, 0 <= zoneout < 1"),
        ("sru", {"version": 3}, "version is 3; expected 1 or 2"),
        ("sru", {"activation": "relu"}, "activation is 'relu'; expected one of 'identity', 'tanh'"),
        ("rglru", {"heads": 4}, "heads is 4; expected a divisor of the hidden width H = 6"),
        ("rglru", {"heads": 2.5}, "option heads of mixer 'rglru' is 2.5; expected int or none"),
        ("rglru", {"conv": 0}, "conv is 0; expected 1 step or more"),
        ("hgrn", {"layer": 2, "num_layers": 2}, "layer is 2; expected 0 <= layer < num_layers = 2"),
        ("rwkv4", {"layer": -1}, "layer is -1; expected 0 <= layer < num_layers = 1"),
        ("minlstm", {"forget_bias": 1.0, "bias": False}, "forget_bias is 1.0, but bias is False"),
    ],
)
def test_misuse_is_named(name: str, chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build(name, width=6, **chosen)
