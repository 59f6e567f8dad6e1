"""The language model: exact under any chunking, deterministic, savable, and able to learn."""

import json
import re
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minrnn.models import LanguageModel, LanguageModelConfig

V = 11


def make(**changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vocabulary_size": V, "width": 6, "pattern": "mingru minlstm"}
    return LanguageModel(LanguageModelConfig(**settings | changes))


def tokens(*shape: int) -> Tensor:
    return torch.randint(V, shape)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("conv", [0, 4])
@pytest.mark.parametrize("lengths", [[1] * 12, [5, 0, 7], [12], [0, 2, 1, 9]])
def test_chunks_and_single_steps_are_the_whole(conv: int, lengths: list[int]) -> None:
    model = make(conv=conv).double()
    text = tokens(3, 12)
    whole, _ = model(text)
    state, pieces = model.initial_state(3), []
    for chunk in text.split(lengths, dim=1):
        logits, state = model(chunk, state)
        pieces.append(logits)
    close(torch.cat(pieces, 1), whole)
    assert whole.shape == (3, 12, V)


def test_resets_part_documents() -> None:
    model = make().double()
    first, second = tokens(1, 5), tokens(1, 7)
    reset = torch.zeros(1, 12, dtype=torch.bool)
    reset[0, 5] = True
    joined, _ = model(torch.cat([first, second], dim=1), reset=reset)
    close(joined, torch.cat([model(first)[0], model(second)[0]], dim=1))


def test_the_seed_decides_the_weights() -> None:
    assert all(torch.equal(a, b) for a, b in zip(make().parameters(), make().parameters(), strict=True))


def test_weights_save_and_load() -> None:
    model, other = make(), LanguageModel(make().config)
    other.load_state_dict(model.state_dict())
    text = tokens(2, 9)
    assert torch.equal(other(text)[0], model(text)[0])


@pytest.mark.parametrize("depth", [1, 8])
def test_depth_does_not_decide_the_scale_of_the_residual_stream(depth: int) -> None:
    model = make(width=64, pattern=f"mingru*{depth}", conv=0)
    y, _ = model.stack(torch.randn(8, 50, 64))
    assert 1 < y.std().item() < 1.6


def test_first_loss_is_that_of_a_guess() -> None:
    model, text = make(width=64), tokens(8, 50)
    loss = F.cross_entropy(model(text)[0].flatten(0, 1), text.roll(-1, 1).flatten())
    assert loss.item() == pytest.approx(torch.tensor(float(V)).log().item(), abs=0.1)


@pytest.mark.parametrize("pattern", ["mingru*2", "minlstm*2"])
def test_it_learns(pattern: str) -> None:
    """A text in which every token follows from the two before it."""
    model = make(width=32, pattern=pattern, vocabulary_size=5)
    text = torch.tensor([0, 1, 2, 0, 3, 1, 4, 2, 1] * 12).expand(4, -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss = F.cross_entropy(model(text[:, :-1])[0].flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.15


def test_weight_decay_spares_gates_norms_biases_and_embeddings() -> None:
    decayed = {name for name, p in make().named_parameters() if not getattr(p, "no_weight_decay", False)}
    parts = ("mixer.down.weight", "mlp.up.weight", "mlp.down.weight")
    assert decayed == {"head.weight", *(f"stack.blocks.{i}.{part}" for i in (0, 1) for part in parts)}


def test_the_forget_bias_survives_the_initialisation() -> None:
    model = make(pattern="minlstm:forget_bias=4")
    assert (model.stack.blocks[0].mixer.cell.projection.bias[:6] > 3).all()


def test_autocast_gives_finite_gradients() -> None:
    model, text = make(dropout=0.2), tokens(2, 20)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = model(text)
    F.cross_entropy(logits.float().flatten(0, 1), text.flatten()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_compiles_without_graph_breaks() -> None:
    model, text = make().double(), tokens(2, 9)
    close(torch.compile(model, backend="aot_eager", fullgraph=True)(text)[0], model(text)[0])


def test_config_is_frozen_and_json_able() -> None:
    config = make(expansion=1.5).config
    assert LanguageModelConfig(**json.loads(json.dumps(asdict(config)))) == config
    with pytest.raises(FrozenInstanceError):
        config.width = 7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size is 0; expected 1 or more"),
        ({"width": 0}, "width is 0; expected 1 or more"),
        ({"conv": -1}, "conv is -1; expected 0 or more"),
        ({"mlp": -0.5}, "mlp is -0.5; expected 0 or more"),
        ({"mlp": float("nan")}, "mlp is nan; expected 0 or more"),
        ({"mlp": float("inf")}, "mlp is inf; expected 0 or more"),
        ({"expansion": 0.0}, "expansion is 0.0; expected more than 0"),
        ({"expansion": float("inf")}, "expansion is inf; expected more than 0"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 or more and less than 1"),
        ({"dropout": float("nan")}, "dropout is nan; expected 0 or more and less than 1"),
        ({"pattern": "(mingru"}, "pattern '(mingru', character 1: this ( is not closed"),
    ],
)
def test_config_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LanguageModelConfig(**{"vocabulary_size": V} | changes)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (torch.zeros(9, dtype=torch.int64), ValueError, "tokens has shape (9,); expected (B, T)"),
        (torch.zeros(2, 9), TypeError, "tokens has dtype torch.float32; expected torch.int64: call .long() on it"),
        (torch.zeros(2, 9, dtype=torch.uint8), TypeError, "tokens has dtype torch.uint8; expected torch.int64"),
        (torch.tensor([[0, V]]), ValueError, f"tokens run from 0 to {V}; expected 0 <= token < V = {V}"),
        (torch.tensor([[0, -1]]), ValueError, f"tokens run from -1 to 0; expected 0 <= token < V = {V}"),
    ],
)
def test_tokens_are_checked(text: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()(text)


def test_reset_is_checked() -> None:
    with pytest.raises(ValueError, match=re.escape("reset has shape (2, 8); expected (B, T) = (2, 9)")):
        make()(tokens(2, 9), reset=torch.zeros(2, 8, dtype=torch.bool))
