"""The worked example of docs/adding-a-mixer.md keeps every promise of a mixer, and what the page quotes is the code."""

import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import minrnn
from minrnn.mixers import _REGISTRY, build, names
from minrnn.models import Stack

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-mixer.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SOURCES = Path(minrnn.__file__).parent


@pytest.fixture(autouse=True)
def leaky(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The mixer of the page, in a file of its own, and its line in the registry."""
    (tmp_path / "_leaky_of_the_page.py").write_text(BLOCKS[0])
    monkeypatch.syspath_prepend(tmp_path)
    import _leaky_of_the_page  # type: ignore[import-not-found]

    assert '"leaky": LeakyMixer,' in PAGE and '("leaky", {}),' in PAGE
    monkeypatch.setitem(_REGISTRY, "leaky", _leaky_of_the_page.LeakyMixer)


def promises() -> Iterator[Any]:
    """Each test of the suite for all mixers, with the values of what else it is parametrised by."""
    spec = importlib.util.spec_from_file_location("contract", ROOT / "tests" / "mixers" / "test_contract.py")
    assert spec is not None and spec.loader is not None
    contract = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(contract)
    for name, promise in vars(contract).items():
        if not name.startswith("test_") or "chosen" not in inspect.signature(promise).parameters:
            continue
        more = [mark.args for mark in promise.pytestmark if mark.args[0] != ("name", "chosen")]
        for axes, values in more or [((), [()])]:
            for value in values:
                given = {axes: value} if isinstance(axes, str) else dict(zip(axes, value, strict=True))
                yield pytest.param(promise, given, id=f"{name}-{given}")


@pytest.mark.parametrize(("promise", "given"), list(promises()))
def test_the_example_keeps_every_promise(promise: Any, given: dict[str, Any]) -> None:
    promise("leaky", {}, **given)


def test_the_example_works_wherever_mixers_do() -> None:
    assert "leaky" in names()
    assert Stack(8, "leaky*2 attention")(torch.randn(2, 5, 8))[0].shape == (2, 5, 8)
    out, state = minrnn.RNN("leaky", 4, 8, batch_first=True, bidirectional=True)(torch.randn(2, 5, 4))
    assert out.shape == (2, 5, 16) and state.h.shape == (2, 2, 8)
    with pytest.raises(ValueError, match="memory is 1; expected more than 1 step"):
        build("leaky", width=8, memory=1)


def test_what_the_page_quotes_is_the_code() -> None:
    definitions = (SOURCES / "recurrence" / "_definitions.py").read_text()
    steps = (SOURCES / "kernels" / "_steps.py").read_text()
    for block, source in zip(BLOCKS[1:], (definitions, steps), strict=True):
        assert block in source
    for entry, source in (("Recurrence(", definitions), ("Step(", steps)):
        (line,) = [line for line in PAGE.splitlines() if entry in line]
        assert line + "\n" in source
