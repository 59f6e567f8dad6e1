"""Generation takes single steps and says the same as whole calls."""

import numpy as np
import pytest
import torch

from minrnn.data import ByteTokenizer, CharacterTokenizer
from minrnn.errors import UserError
from minrnn.models import LanguageModel, LanguageModelConfig
from minrnn.training import generate
from minrnn.training._generate import choose

TOKENIZER = CharacterTokenizer("abcdefgh\n")


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(TOKENIZER.vocabulary_size, width=16, pattern="mingru*2", dropout=0.5))
    with torch.no_grad():
        model.head.weight.mul_(50)  # far from even, so that samples could tell
    return model


def sample(model: LanguageModel, prompt: str = "abc", tokens: int = 30, batch: int = 1, **options: float) -> list[str]:
    pieces = list(generate(model, TOKENIZER, prompt, tokens, batch=batch, **options))  # type: ignore[arg-type]
    return ["".join(piece[row] for piece in pieces) for row in range(batch)]


def test_greedy_is_the_likeliest_of_whole_calls(model: LanguageModel) -> None:
    text = "abc"
    for _ in range(12):
        with torch.inference_mode():
            logits, _ = model.eval()(torch.from_numpy(TOKENIZER.encode(text).astype(np.int64))[None])
        text += TOKENIZER.decode([int(logits[0, -1].argmax())])
    assert sample(model, tokens=12, temperature=0.0) == [text[3:]]


def test_same_seed_same_text(model: LanguageModel) -> None:
    assert sample(model, seed=1) == sample(model, seed=1)
    assert sample(model, seed=1) != sample(model, seed=2)


def test_samples_of_a_batch_differ(model: LanguageModel) -> None:
    samples = sample(model, batch=3)
    assert len(set(samples)) == 3
    assert all(len(text) == 30 for text in samples)


@pytest.mark.parametrize(
    "options", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}, {"temperature": 1e-40}, {"temperature": 1e-60}]
)
def test_the_narrowest_choice_is_greedy(model: LanguageModel, options: dict[str, float]) -> None:
    assert sample(model, **options) == sample(model, temperature=0.0)


def test_top_k_and_top_p_keep_what_they_say() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log().expand(4000, -1)
    generator = torch.Generator().manual_seed(0)
    assert choose(logits, 1.0, 3, 1.0, generator).unique().tolist() == [0, 1, 2]
    assert choose(logits, 1.0, 0, 0.69, generator).unique().tolist() == [0, 1]
    shares = choose(logits, 1.0, 9, 1.0, generator).flatten().bincount() / 4000
    assert shares.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.03)


def test_an_empty_prompt_begins_somewhere(model: LanguageModel) -> None:
    assert len(sample(model, prompt="", tokens=5)[0]) == 5


def test_a_long_prompt_is_read_in_pieces(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sample(model, prompt="abcdefgh" * 5, temperature=0.0)
    monkeypatch.setattr("minrnn.training._generate.PROMPT_CHUNK", 7)
    assert sample(model, prompt="abcdefgh" * 5, temperature=0.0) == whole


def test_characters_of_several_bytes_come_out_whole() -> None:
    model = LanguageModel(LanguageModelConfig(256, width=8, pattern="mingru"))
    tokenizer = ByteTokenizer()
    pieces = [piece[0] for piece in generate(model, tokenizer, "é", 200, seed=3)]
    assert len(pieces) == 201  # the last one flushes
    assert sum(map(len, pieces)) <= 200


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", -1.0), ("temperature", float("nan")), ("top_k", -1), ("top_p", 0.0), ("top_p", 1.1), ("seed", -1)],
)
def test_options_out_of_range(model: LanguageModel, option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} is"):
        generate(model, TOKENIZER, "abc", 5, **{option: value})  # type: ignore[arg-type]


def test_unknown_characters_in_the_prompt_are_named_at_once(model: LanguageModel) -> None:
    with pytest.raises(UserError, match="Ω"):
        generate(model, TOKENIZER, "abcΩ", 5)
