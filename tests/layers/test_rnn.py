"""Any mixer behind nn.GRU's convention: lengths, packed, resets and directions against each sequence alone."""

import re
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from minrnn import RNN
from minrnn.mixers import names

B, D, H, T = 4, 3, 8, 9
LENGTHS = torch.tensor([5, 9, 0, 5])

every_mixer = pytest.mark.parametrize("mixer", names())
directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])


def make(mixer: str, bidirectional: bool = False, num_layers: int = 2, **more: Any) -> RNN:
    torch.manual_seed(0)
    return RNN(mixer, D, H, num_layers, batch_first=True, bidirectional=bidirectional, **more).double()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def select(state: Any, b: int) -> Any:
    return type(state)(*(field[:, b : b + 1] for field in state))


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(tuple(actual), tuple(expected), rtol=1e-9, atol=1e-9)


@every_mixer
@directions
def test_lengths_are_each_sequence_alone(mixer: str, bidirectional: bool) -> None:
    layer = make(mixer, bidirectional)
    x = random(B, T, D).requires_grad_()
    out, state = layer(x, lengths=LENGTHS)
    dout = torch.randn_like(out)
    (dx,) = torch.autograd.grad(out, x, dout)
    for b, length in enumerate(LENGTHS.tolist()):
        alone, alone_state = layer(x[b : b + 1, :length])
        close([out[b : b + 1, :length]], [alone])
        assert not out[b, length:].any() and not dx[b, length:].any()
        if constant(layer):  # others pad theirs in front
            close(select(state, b), alone_state)
        if length:
            close([dx[b]], [torch.autograd.grad(alone, x, dout[b : b + 1, :length])[0][b]])


def constant(layer: RNN) -> bool:
    return bool(layer.mixers[0].constant_state)


@every_mixer
@directions
def test_packed_is_padded(mixer: str, bidirectional: bool) -> None:
    layer = make(mixer, bidirectional)
    x = random(B, T, D)
    there = LENGTHS[LENGTHS > 0]
    packed = pack_sequence([x[b, : LENGTHS[b]] for b in range(B) if LENGTHS[b]], enforce_sorted=False)
    out, state = layer(packed)
    expected, expected_state = layer(x[LENGTHS > 0], lengths=there)
    close([pad_packed_sequence(out, batch_first=True)[0]], [expected])
    close(state, expected_state)


@every_mixer
@directions
def test_resets_are_separate_sequences(mixer: str, bidirectional: bool) -> None:
    layer = make(mixer, bidirectional)
    x, starts = random(1, T, D), [0, 3, 4, T]
    reset = torch.zeros(1, T, dtype=torch.bool)
    reset[:, starts[:-1]] = True
    out, _ = layer(x, reset=reset)
    close([out], [torch.cat([layer(x[:, first:last])[0] for first, last in pairwise(starts)], dim=1)])


@every_mixer
def test_chunks_and_steps(mixer: str) -> None:
    layer = make(mixer)
    x = random(B, T, D)
    expected, expected_state = layer(x)
    pieces, state = [], None
    for first, last in pairwise([0, 4, 5, T]):
        out, state = layer(x[:, first:last], state)
        pieces.append(out)
    close([torch.cat(pieces, dim=1)], [expected])
    close(state, expected_state)


@every_mixer
def test_layouts(mixer: str) -> None:
    layer, x = make(mixer), random(B, T, D)
    expected, expected_state = layer(x)
    one, one_state = layer(x[1])
    close([one], [expected[1]])
    close(one_state, [field[:, 1] for field in expected_state])
    again, _ = layer(x[1, :4], one_state)
    assert again.shape == (4, H)
    layer.batch_first = False
    close([layer(x.transpose(0, 1))[0].transpose(0, 1)], [expected])


def test_options_reach_the_mixer_and_depth_too() -> None:
    layer = RNN("qrnn", D, H, 2, bias=False, pooling="fo", filter=3)
    assert not any(name.endswith("bias") for name, _ in layer.named_parameters())
    assert [mixer.layer for mixer in RNN("hgrn", D, H, 3).mixers] == [0, 1, 2]
    assert "'qrnn', 3, 8, num_layers=2, bias=False" in repr(layer)


def test_misuse() -> None:
    layer, x = make("gilr"), random(B, T, D)
    _, state = layer(x)
    for hx, error, message in [
        (state.h, TypeError, "hx is a Tensor; expected a RecurrentState, as an earlier call returned"),
        (
            type(state)(state.h[:1]),
            ValueError,
            "hx.h has shape (1, 4, 8); expected (num_layers * directions, B, ...), beginning with (2, 4)",
        ),
        (type(state)(state.h.to("meta")), ValueError, "hx.h is on meta; expected the device of input, cpu"),
        (type(state)(state.h[..., :5]), ValueError, "state.h has shape (4, 5); expected (B, H) = (4, 8)"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            layer(x, hx)
    with pytest.raises(ValueError, match="there is no mixer 'grru'"):
        RNN("grru", D, H)
    with pytest.raises(ValueError, match="has no option 'poling'"):
        RNN("qrnn", D, H, poling="fo")


def test_both_directions_of_no_step_with_a_reset() -> None:
    layer = RNN("mingru", 4, 4, batch_first=True, bidirectional=True)
    layer.flatten_parameters()  # models call it
    out, _ = layer(torch.randn(2, 0, 4), reset=torch.zeros(2, 0, dtype=torch.bool))
    assert out.shape == (2, 0, 8)
