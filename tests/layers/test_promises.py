"""What torch's documentation promises of `nn.GRU`, in our own words, asked of our layers and of `nn.GRU` itself.

Both are walked through the same functions, so that a promise misread here fails for torch.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from minrnn import MinGRU, MinLSTM

D, H, B, T = 5, 7, 3, 9

every_layer = pytest.mark.parametrize("kind", [nn.GRU, MinGRU, MinLSTM])
every_shape = pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (1, True), (3, True)])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@every_layer
@every_shape
def test_shapes_of_batches_and_of_one_sequence(kind: Any, layers: int, bidirectional: bool) -> None:
    ways = 2 if bidirectional else 1
    for batch_first in (False, True):
        layer = kind(D, H, layers, batch_first=batch_first, bidirectional=bidirectional)
        out, h_n = layer(torch.randn((B, T, D) if batch_first else (T, B, D)))
        assert out.shape == ((B, T, ways * H) if batch_first else (T, B, ways * H))
        assert h_n.shape == (ways * layers, B, H)  # batch_first does not move the batch of the states
        out, h_n = layer(torch.randn(T, D))
        assert out.shape == (T, ways * H) and h_n.shape == (ways * layers, H)


@every_layer
@every_shape
def test_the_initial_state_is_zero_by_default(kind: Any, layers: int, bidirectional: bool) -> None:
    layer = kind(D, H, layers, bidirectional=bidirectional)
    x = torch.randn(T, B, D)
    close(layer(x), layer(x, torch.zeros(layers * (1 + bidirectional), B, H)))
    close(layer(x), layer(input=x, hx=None))


@every_layer
@every_shape
def test_out_holds_the_states_of_the_last_layer(kind: Any, layers: int, bidirectional: bool) -> None:
    """Forwards first; the last step of it, and the first step of the backward direction, are in h_n."""
    layer = kind(D, H, layers, bidirectional=bidirectional)
    out, h_n = layer(torch.randn(T, B, D))
    directions = out.view(T, B, 1 + bidirectional, H)
    by_layer = h_n.view(layers, 1 + bidirectional, B, H)
    close(directions[-1, :, 0], by_layer[-1, 0])
    if bidirectional:
        close(directions[0, :, 1], by_layer[-1, 1])


@every_layer
def test_a_second_layer_reads_the_outputs_of_the_first(kind: Any) -> None:
    both, first, second = kind(D, H, 2), kind(D, H), kind(H, H)
    weights = both.state_dict()
    first.load_state_dict({name: w for name, w in weights.items() if "_l0" in name})
    second.load_state_dict({name.replace("_l1", "_l0"): w for name, w in weights.items() if "_l1" in name})
    x = torch.randn(T, B, D)
    middle, h_first = first(x)
    out, h_second = second(middle)
    close(both(x), (out, torch.cat([h_first, h_second])))


@every_layer
def test_weights_by_name_and_shape(kind: Any) -> None:
    gates = {nn.GRU: 3, MinGRU: 2, MinLSTM: 3}[kind]
    layer = kind(D, H, 2, bidirectional=True)
    for suffix in ("", "_reverse"):
        assert getattr(layer, f"weight_ih_l0{suffix}").shape == (gates * H, D)
        assert getattr(layer, f"weight_ih_l1{suffix}").shape == (gates * H, 2 * H)
        assert getattr(layer, f"bias_ih_l0{suffix}").shape == (gates * H,)
    assert len(layer.all_weights) == 4
    assert sum(len(weights) for weights in layer.all_weights) == len(list(layer.parameters()))
    assert not [name for name, _ in kind(D, H, bias=False).named_parameters() if "bias" in name]
    layer.flatten_parameters()
    before = layer.weight_ih_l0.clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer.weight_ih_l0)


@every_layer
@every_shape
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences(kind: Any, layers: int, bidirectional: bool, enforce_sorted: bool) -> None:
    """Each sequence is as alone, its last state is that of its own last step, and states are in the caller's order."""
    layer = kind(D, H, layers, bidirectional=bidirectional)
    lengths = [9, 6, 2] if enforce_sorted else [2, 9, 6]
    x, h_0 = torch.randn(T, B, D), torch.randn(layers * (1 + bidirectional), B, H)
    packed, h_n = layer(pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted), h_0)
    assert isinstance(packed, PackedSequence)
    out, given_lengths = pad_packed_sequence(packed)
    assert given_lengths.tolist() == lengths
    for b, length in enumerate(lengths):
        alone, state = layer(x[:length, b], h_0[:, b].contiguous())
        close(out[:length, b], alone)
        close(h_n[:, b], state)


@every_layer
def test_dropout_falls_on_all_outputs_but_the_last_layers_and_in_training_alone(kind: Any) -> None:
    layer = kind(D, H, 2, dropout=0.5)
    x = torch.randn(T, B, D)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    close(layer(x)[1][0], layer(x)[1][0])
    layer.eval()
    close(layer(x), layer(x))


@every_layer
@pytest.mark.parametrize(
    ("shape", "h_0"), [((T, B, D + 1), None), ((T, B, D), (1, B + 1, H)), ((T, B, D), (2, B, H)), ((T,), None)], ids=str
)
def test_what_does_not_fit_is_an_error(kind: Any, shape: tuple[int, ...], h_0: tuple[int, ...] | None) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        kind(D, H)(torch.randn(shape), None if h_0 is None else torch.zeros(h_0))
    with pytest.raises((ValueError, TypeError)):
        kind(D, H)(torch.randn(T, B, D, dtype=torch.float64))


@every_layer
def test_gradients_reach_everything(kind: Any) -> None:
    layer = kind(D, H, 2, bidirectional=True)
    x, h_0 = torch.randn(T, B, D, requires_grad=True), torch.randn(4, B, H, requires_grad=True)
    out, h_n = layer(x, h_0)
    (out.square().sum() + h_n.square().sum()).backward()
    for leaf in (x, h_0, *layer.parameters()):
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any()
    (gradient,) = torch.autograd.grad(layer(x, h_0)[1].sum(), h_0)
    assert gradient.any()
