"""Evaluation is the likelihood of the whole text in one stream, however it is cut for speed."""

import math

import numpy as np
import pytest
import torch

from minrnn.errors import UserError
from minrnn.models import LanguageModel, LanguageModelConfig
from minrnn.training import evaluate


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(LanguageModelConfig(vocabulary_size=13, width=16, pattern="mingru minlstm", dropout=0.5))


def likelihood(model: LanguageModel, tokens: np.ndarray) -> float:
    """The definition: one call, then the mean of -log p."""
    model.eval()
    with torch.no_grad():
        logits, _ = model(torch.from_numpy(tokens)[None, :-1])
    chosen = logits[0].log_softmax(-1)[torch.arange(len(tokens) - 1), torch.from_numpy(tokens[1:])]
    return -chosen.mean().item()


@pytest.mark.parametrize("chunk", [1, 7, 50, 51, 4096])
def test_is_the_likelihood_however_it_is_cut(model: LanguageModel, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minrnn.training._evaluate.CHUNK", chunk)
    tokens = np.random.default_rng(0).integers(0, 13, 52)
    result = evaluate(model, tokens)
    assert result.tokens == 51
    assert result.nats_per_token == pytest.approx(likelihood(model, tokens), abs=1e-5)
    assert result.bits_per_character == pytest.approx(result.nats_per_token / math.log(2))


@pytest.mark.parametrize("context", [1, 2, 7, 8, 100])
def test_a_state_that_grows_is_read_in_windows(context: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minrnn.training._evaluate.CHUNK", 16)
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(vocabulary_size=13, width=16, pattern="mingru attention")).eval()
    tokens = np.random.default_rng(0).integers(0, 13, 52)
    losses, stride = [], max(context // 2, 1)
    for t in range(1, 52):  # the token at t, from the window that it is new in
        end = -(-t // stride) * stride
        begin = max(0, end - context)
        with torch.no_grad():
            logits, _ = model(torch.from_numpy(tokens[begin:t])[None])
        losses.append(-logits[0, -1].log_softmax(-1)[tokens[t]].item())
    assert not model.constant_state
    seen: list[int] = []
    result = evaluate(model, tokens, context=context, progress=lambda done, of: seen.append(done))
    assert result.nats_per_token == pytest.approx(np.mean(losses), abs=1e-5)
    assert seen[-1] == result.tokens == 51 and seen == sorted(seen)


def test_bits_are_per_character(model: LanguageModel) -> None:
    tokens = np.random.default_rng(0).integers(0, 13, 40)
    result = evaluate(model, tokens, characters=100)
    assert result.bits_per_character == pytest.approx(result.nats_per_token * 39 / 100 / math.log(2))


def test_the_mode_of_the_model_comes_back(model: LanguageModel) -> None:
    model.train()
    evaluate(model, np.zeros(5, np.int64))
    assert model.training


@pytest.mark.parametrize("length", [0, 1])
def test_needs_two_tokens(model: LanguageModel, length: int) -> None:
    with pytest.raises(UserError, match=f"{length} tokens"):
        evaluate(model, np.zeros(length, np.int64))
