"""Attention against one softmax over a mask, with each kind of positions; its cache, window and misuse."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from minrnn.mixers import AttentionMixer, build
from minrnn.mixers._attention import rotated


def by_hand(mixer: AttentionMixer, x: Tensor) -> Tensor:
    """One T x T matrix of weights for each head."""
    (B, T, D), heads = x.shape, mixer.heads
    d = D // heads
    q, k, v = (part.view(B, T, heads, d) for part in mixer.projection(x).chunk(3, dim=-1))
    t = torch.arange(T)
    if mixer.positions == "rotary":
        speeds = 10_000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        turns = torch.polar(torch.ones(T, d // 2, dtype=torch.float64), t[:, None] * speeds)[:, None]
        q, k = (
            torch.cat([turned.real, turned.imag], dim=-1)
            for turned in (torch.complex(*part.chunk(2, dim=-1)) * turns for part in (q, k))
        )
    scores = torch.einsum("bthd,bjhd->bhtj", q, k) / math.sqrt(d)
    distance = t[:, None] - t
    if mixer.positions == "alibi":
        scores = scores - torch.tensor([2.0 ** (-8 * (n + 1) / heads) for n in range(heads)])[:, None, None] * distance
    hidden = (distance < 0) | (distance >= (mixer.window or T + 1))
    weights = scores.masked_fill(hidden, -torch.inf).softmax(dim=-1)
    return mixer.down(torch.einsum("bhtj,bjhd->bthd", weights, v).reshape(B, T, D))


@pytest.mark.parametrize("positions", ["rotary", "alibi", None])
@pytest.mark.parametrize("window", [None, 1, 3, 70])
@pytest.mark.parametrize("T", [1, 9, 150])
def test_is_softmax_attention(positions: str | None, window: int | None, T: int) -> None:
    torch.manual_seed(0)
    mixer: Any = build("attention", width=12, heads=3, positions=positions, window=window).double()
    x = torch.randn(2, T, 12, dtype=torch.float64)
    torch.testing.assert_close(mixer(x)[0], by_hand(mixer, x))


def test_only_distances_turn_the_scores() -> None:
    q, k = torch.randn(2, 1, 5, 1, 8, dtype=torch.float64)

    def scores(start: int) -> Tensor:
        at = torch.arange(start, start + 5)
        return torch.einsum("bthd,bjhd->btj", rotated(q, at), rotated(k, at))

    torch.testing.assert_close(scores(0), scores(100_000))


def test_a_window_bounds_the_cache() -> None:
    mixer = build("attention", width=8, window=4)
    assert mixer.constant_state and not build("attention", width=8).constant_state
    x = torch.randn(1, 30, 8)
    _, state = mixer(x)
    assert state.keys.shape[1] == 3
    late = mixer(x[:, -1:], mixer(x[:, :-1])[1])[0]
    torch.testing.assert_close(late, mixer(x[:, -4:])[0][:, -1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads is 3; expected a divisor of the width 8"),
        ({"heads": 8}, "heads are 1 wide; rotary|heads are 1 wide; expected an even width"),
        ({"positions": "learned"}, "positions is 'learned'; expected one of 'rotary', 'alibi', None"),
        ({"window": 0}, "window is 0; expected 1 step or more, or none"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("attention", width=8, **options)
