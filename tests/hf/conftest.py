from collections.abc import Callable
from pathlib import Path

import pytest

from minrnn.training import TrainConfig, train

TEXT = "".join(f"{number} sheep jumped over the fence,\n\twhile {number * 7} foxes slept…\n\n" for number in range(90))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something asks the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "sheep.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def run(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A finished run of a kind of tokens, not to be changed."""
    made: dict[str, Path] = {}

    def of(tokens: str = "characters") -> Path:
        if tokens not in made:
            made[tokens] = tmp_path_factory.mktemp("runs") / tokens.replace(":", "-")
            config = TrainConfig(
                data=str(text),
                out=str(made[tokens]),
                tokens=tokens,
                pattern="mingru minlstm",
                width=24,
                context=16,
                batch=4,
                steps=24,
                evaluate_every=8,
                precision="float32",
                threads=1,
            )
            train(config, quiet=True)
        return made[tokens]

    return of
