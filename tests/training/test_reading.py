"""A given text: how likely it is, and states that are saved and gone on from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minrnn.data import CharacterTokenizer
from minrnn.errors import UserError
from minrnn.models import LanguageModel, LanguageModelConfig
from minrnn.training import Run, TrainConfig, generate, load_state, read, save_state
from minrnn.training._checkpoint import save_weights
from minrnn.training._files import file_digest

TEXT = "a sheep jumped over\nthe fence; "


def run_of(folder: Path, pattern: str, seed: int = 0, conv: int = 4) -> Run:
    """An untrained model of some size, as a run."""
    tokenizer = CharacterTokenizer(TEXT)
    torch.manual_seed(seed)
    config = LanguageModelConfig(vocabulary_size=tokenizer.vocabulary_size, width=16, pattern=pattern, conv=conv)
    model = LanguageModel(config).eval()
    with torch.no_grad():
        model.head.weight.mul_(30)  # so that what it expects differs from token to token
    folder.mkdir()
    save_weights(folder / "model.safetensors", model)
    digest = file_digest(folder / "model.safetensors")
    return Run(folder, TrainConfig(data="x", out=str(folder), steps=1), model, tokenizer, digest)


@pytest.fixture(params=[("mingru*2", 4), ("minlstm mamba", 0), ("mingru attention", 4)])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    pattern, conv = request.param
    return run_of(tmp_path / "run", pattern, conv=conv)


def test_log_probabilities_are_those_of_the_logits(run: Run) -> None:
    found = read(run.model, run.tokenizer, TEXT)
    ids = torch.from_numpy(run.tokenizer.encode("\n" + TEXT).astype(np.int64))
    with torch.inference_mode():
        logits = run.model(ids[None])[0][0]
        features = run.model.features(ids[None])[0][0]
    expected = logits.double().log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
    np.testing.assert_allclose(found.log_probabilities, expected, atol=1e-4)
    assert found.log_probability == pytest.approx(float(expected.sum()), abs=1e-3)
    assert found.perplexity == pytest.approx(float(torch.exp(-expected.mean())), rel=1e-3)
    np.testing.assert_allclose(found.embedding, features[1:].mean(0), atol=1e-4)


def test_a_text_in_two_readings_is_the_text_in_one(run: Run) -> None:
    whole = read(run.model, run.tokenizer, TEXT)
    first = read(run.model, run.tokenizer, TEXT[:11])
    second = read(run.model, run.tokenizer, TEXT[11:], first.end)
    both = np.concatenate([first.log_probabilities, second.log_probabilities])
    np.testing.assert_allclose(both, whole.log_probabilities, atol=1e-4)


def written(run: Run, prompt: str = "", **options: Any) -> list[str]:
    return ["".join(one) for one in zip(*generate(run.model, run.tokenizer, prompt, 20, **options), strict=True)]


def test_texts_branch_from_a_saved_state(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_state(path, read(run.model, run.tokenizer, "the sheep").end, run)
    for options in ({"seed": 3}, {"seed": 4, "batch": 3}, {"temperature": 0.0}):
        assert written(run, after=load_state(path, run), **options) == written(run, "the sheep", **options)
        assert written(run, " a", after=load_state(path, run), **options) == written(run, "the sheep a", **options)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    run = run_of(tmp_path / "run", "mingru*2")
    save_state(path, read(run.model, run.tokenizer, "the sheep").end, run)
    for other, words in (("mingru*2", "another run"), ("mingru*3", "does not fit the run"), ("minlstm*2", "run")):
        with pytest.raises(UserError, match=words):
            load_state(path, run_of(tmp_path / f"other {other}", other, seed=1))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        load_state(path, run)
    with pytest.raises(UserError, match="missing"):
        load_state(tmp_path / "none", run)
    with pytest.raises(UserError, match="text to read is empty"):
        read(run.model, run.tokenizer, "")
