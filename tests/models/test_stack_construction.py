"""Options of a stack, and misuse of it: the message names the argument, what was given and what is expected."""

import re

import pytest
import torch

from minrnn.models import BlockState, Stack

D = 6


def test_expansion_is_the_mixers_default() -> None:
    stack = Stack(D, "mingru mingru:expansion=3", expansion=2.0)
    assert [block.mixer.cell.hidden_size for block in stack.blocks] == [12, 18]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("mingru gru2", "there is no mixer 'gru2'"),
        ("mingru:expanse=2", "mixer 'mingru' has no option 'expanse' (did you mean 'expansion'?)"),
        ("mingru:expansion=none", "option expansion of mixer 'mingru' is None; expected float"),
        ("mingru:activation=relu", "activation is 'relu'; expected one of"),
    ],
)
def test_unknown_mixers_and_options(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Stack(D, pattern)


def test_misuse_is_named() -> None:
    stack, x = Stack(D, "mingru*2"), torch.zeros(2, 9, D)
    for given_x, state, reset, message in [
        (torch.zeros(2, 9, 7), None, None, "x has shape (2, 9, 7); expected (B, T, D) with D = width = 6"),
        (x, None, torch.zeros(2, 8, dtype=torch.bool), "reset has shape (2, 8); expected (B, T) = (2, 9)"),
        (x, Stack(D, "mingru").initial_state(2), None, "state is that of 1 blocks; expected 2"),
        (x, stack.initial_state(3), None, "window has shape (3, 3, 6); expected (B, W-1, D) = (2, 3, 6)"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            stack(given_x, state, reset)
    with pytest.raises(TypeError, match=r"reset has dtype torch.int64; expected torch.bool"):
        stack(x, None, torch.zeros(2, 9, dtype=torch.int64))
    assert isinstance(stack.initial_state(2)[0], BlockState)
