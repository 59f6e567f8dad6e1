"""docs/mixers.md names every mixer and option; patterns build, code runs, and states have the sizes that it tells."""

import re
from pathlib import Path

import pytest
import torch

from minrnn.mixers import build, names, options
from minrnn.models import Stack

PAGE = (Path(__file__).parents[2] / "docs" / "mixers.md").read_text()
ROWS = {
    row[0].strip("` "): row[1:]
    for line in PAGE.split("## The mixers")[1].split("## Options")[0].splitlines()
    if line.startswith("| `")
    for row in [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("| "))]]
}
OPTIONS = {
    name: line
    for line in PAGE.split("## Options")[1].splitlines()
    if line.startswith("| `")
    for name in re.findall(r"`(\w+)`", line.split("|")[1])
}


def test_every_mixer_has_a_row() -> None:
    assert set(ROWS) == set(OPTIONS) == set(names())
    assert "`s4d` is not S4" in PAGE


@pytest.mark.parametrize("name", names())
def test_every_option_is_told(name: str) -> None:
    text = OPTIONS["mingru"] + OPTIONS[name] if name == "minlstm" else OPTIONS[name]
    for option in options(name):
        assert f"`{option}`" in text, option


@pytest.mark.parametrize("name", names())
def test_states_have_the_size_told(name: str) -> None:
    D, T = 16, 5
    mixer = build(name, width=D)
    _, state = mixer(torch.randn(1, T, D))
    H = getattr(mixer, "hidden_size", D)
    letters = {"D": D, "T": T, "H": H, "E": H, "P": getattr(mixer, "inner", 0), "heads": getattr(mixer, "heads", 1)}
    letters |= {"N": getattr(mixer, "state", 0), "conv": 4, "filter": options(name).get("filter")}
    numbers = sum(tensor.numel() for tensor in state if tensor.is_floating_point())
    assert eval(ROWS[name][1].strip("`"), letters) == numbers


@pytest.mark.parametrize("pattern", re.search(r"```\nmingru.*?```", PAGE, re.S).group().strip("`\n").splitlines())  # type: ignore[union-attr]
def test_patterns_build(pattern: str) -> None:
    stack = Stack(64, pattern)
    assert stack(torch.randn(1, 3, 64))[0].shape == (1, 3, 64)


def test_the_code_runs() -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(block, {})
