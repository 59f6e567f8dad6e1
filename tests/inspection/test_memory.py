"""Half-lives, saturated gates and sizes of states, where they are known."""

import math

import pytest
import torch

from minrnn.inspection import watching
from minrnn.mixers import build, names
from minrnn.models import Block, Stack


@pytest.mark.parametrize(("logit", "forgets", "keeps"), [(0.0, 0, 0), (4.0, 1, 0), (-4.0, 0, 1)])
def test_a_fixed_gate(logit: float, forgets: float, keeps: float) -> None:
    block = Block(build("mingru", width=8), conv=0, mlp=0)
    projection = block.mixer.cell.projection
    with torch.no_grad():
        projection.weight.zero_()
        projection.bias.copy_(torch.cat([torch.full((8,), logit), torch.ones(8)]))  # z, and a candidate of 1
    with watching(block) as layers:
        block(torch.randn(3, 40, 8))
    (layer,) = layers
    z = 1 / (1 + math.exp(-logit))
    torch.testing.assert_close(layer.half_lives(), torch.full((8,), math.log(2) / -math.log1p(-z)), rtol=1e-4, atol=0)
    assert (layer.name, layer.forgets, layer.keeps) == ("1 mingru", forgets, keeps)
    torch.testing.assert_close(layer.sizes, 1 - (1 - z) ** torch.arange(1.0, 41), rtol=1e-4, atol=1e-6)


def test_what_is_left_of_a_change_after_many_steps() -> None:
    torch.manual_seed(0)
    stack = Stack(6, "minlstm:forget_bias=2", conv=0, mlp=0)
    x = torch.randn(1, 30, 6)
    with watching(stack) as layers:
        stack(x)
    mixer, norm = stack.blocks[0].mixer, stack.blocks[0].mixer_norm
    state = mixer.initial_state(1)
    h = torch.zeros_like(state.h).requires_grad_()
    _, last = mixer(norm(x), state._replace(h=h))
    (left,) = torch.autograd.grad(last.h.sum(), h)
    torch.testing.assert_close(0.5 ** (30 / layers[0].half_lives()), left[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", names())
def test_every_mixer(name: str) -> None:
    torch.manual_seed(0)
    stack = Stack(16, f"{name}*2")
    x = torch.randn(2, 9, 16)
    expected, _ = stack(x)
    with torch.no_grad(), watching(stack) as layers:
        y, _ = stack(x)
    torch.testing.assert_close(y, expected)
    assert len(layers) >= (0 if name in ("attention", "rwkv4") else 2)  # an average and a cache: nothing decays
    for layer in layers:
        assert (layer.half_lives() > 0).all() and len(layer.sizes) == 9 and layer.forgets + layer.keeps <= 1
    with torch.no_grad():
        stack(x)
    assert len(layers) == len({(layer.name, layer.state) for layer in layers})  # nothing is noted after the block
