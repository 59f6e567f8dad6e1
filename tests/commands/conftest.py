from itertools import chain
from pathlib import Path

import pytest

from minrnn.commands import main

OPTIONS = {
    "--pattern": "mingru*1",
    "--width": "16",
    "--context": "16",
    "--batch": "4",
    "--warmup": "2",
    "--precision": "float32",
    "--threads": "1",
    "--evaluate-every": "8",
    "--checkpoint-every": "4",
}


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"{number} sheep jumped over the fence; " for number in range(200))[:2000])
    return path


@pytest.fixture(scope="session")
def options(text: Path) -> list[str]:
    """Those of a run of well under a second, but for its length and folder."""
    return ["--data", str(text), *chain.from_iterable(OPTIONS.items())]


@pytest.fixture(scope="session")
def run(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main(["train", *options, "--steps", "16", "--out", str(folder)]) == 0
    return folder
