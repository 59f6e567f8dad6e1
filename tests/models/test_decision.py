"""The policy: exact step by step, and it does what it is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minrnn.mixers import names
from minrnn.models import DecisionModel

S, A = 3, 2


def make(pattern: str = "mingru*2") -> DecisionModel:
    torch.manual_seed(0)
    return DecisionModel(S, A, width=64 if pattern == "attention" else 8, pattern=pattern, dropout=0.0).double()


def episodes(B: int, T: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns to go, observations, actions before."""
    return torch.randn(B, T).double(), torch.randn(B, T, S).double(), torch.randn(B, T, A).double()


@pytest.mark.parametrize("pattern", names())
def test_over_any_mixer_single_steps_are_the_whole(pattern: str) -> None:
    policy, window = make(pattern), episodes(2, 7)
    whole, _ = policy(*window)
    assert whole.shape == (2, 7, A)
    state, steps = None, []
    for t in range(7):
        action, state = policy(*(part[:, t : t + 1] for part in window), state)
        steps.append(action)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-9)


def test_a_reset_begins_an_episode() -> None:
    policy, first, second = make(), episodes(1, 4), episodes(1, 5)
    reset = torch.zeros(1, 9, dtype=torch.bool)
    reset[0, 4] = True
    both, _ = policy(*(torch.cat(parts, 1) for parts in zip(first, second, strict=True)), reset=reset)
    torch.testing.assert_close(both[:, 4:], policy(*second)[0], rtol=0, atol=1e-10)


def test_what_is_asked_for_decides_what_is_done() -> None:
    policy = make().float()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    for _ in range(150):
        to_go, seen, before = (part.float() for part in episodes(32, 6))
        asked = to_go.sign()  # those who ask for much go forward, the others back
        actions, _ = policy(to_go, seen, before)
        loss = (actions - asked[..., None]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _, seen, before = (part.float() for part in episodes(8, 6))
    for wanted in (1.0, -1.0):
        actions, _ = policy(torch.full((8, 6), wanted), seen, before)
        assert (actions * wanted > 0.5).all()


def test_only_attention_makes_the_state_grow() -> None:
    assert make("mingru minlstm").constant_state and not make("attention").constant_state


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 5, 1), (2, 5, S), (2, 5, A)), r"returns_to_go has shape \(2, 5, 1\); expected \(B, T\)"),
        (((2, 5), (2, 5, 4), (2, 5, A)), r"observations has shape \(2, 5, 4\); expected \(B, T, S\) = \(2, 5, 3\)"),
        (((2, 5), (2, 5, S), (2, 4, A)), r"previous_actions has shape \(2, 4, 2\); expected \(B, T, A\) = \(2, 5, 2\)"),
    ],
)
def test_shapes_are_checked(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(*(torch.zeros(shape).double() for shape in shapes))


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="action_size is 0; expected 1 or more"):
        DecisionModel(S, 0)
