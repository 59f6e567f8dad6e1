"""The examples of docs/hugging-face.md run, one after the other, and what they say is so."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from minrnn.training import load_run, read

PAGE = (Path(__file__).parents[2] / "docs" / "hugging-face.md").read_text()


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(example, found)
    again = load_run("runs/again")
    assert torch.equal(again.model.state_dict()["head.weight"], load_run("runs/docs").model.state_dict()["head.weight"])
    expected = read(again.model, again.tokenizer, found["text"]).log_probability
    assert found["surprise"].item() == pytest.approx(-expected, rel=1e-5)
    assert found["texts"][0].startswith("\nThe") and found["texts"][1].startswith("\nA list of")
    assert found["answer"].startswith("\nThe") and len(found["answer"]) == 24
    assert found["beams"].shape == (1, 24)
    assert not torch.equal(found["one"], found["other"])
    assert {file.name for file in Path("docs-model").iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert load_run("runs/tuned").tokenizer.to_json() == again.tokenizer.to_json()
