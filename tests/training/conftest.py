from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minrnn.training import TrainConfig


@pytest.fixture(autouse=True)
def one_thread(threads: None) -> None:
    """These models are so small that a second thread only waits, and waits long where other programs run."""
    torch.set_num_threads(1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text of 2,000 characters with something to learn in it."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{number} sheep jumped over the fence; " for number in range(200))[:2000])
    return path


@pytest.fixture
def small(text: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """The config of a run of well under a second. Dropout is on, so its random numbers have to come back as well."""

    def build(out: str = "run", **changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "data": str(text),
            "out": str(tmp_path / out),
            "pattern": "mingru*1",
            "width": 16,
            "context": 16,
            "batch": 4,
            "steps": 12,
            "warmup": 2,
            "evaluate_every": 4,
            "checkpoint_every": 3,
            "precision": "float32",
            "dropout": 0.1,
        }
        return TrainConfig(**settings | changes)

    return build
