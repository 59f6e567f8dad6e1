"""What a config accepts, and that it comes back from JSON as it was."""

import json
from typing import Any

import pytest

from minrnn.errors import UserError
from minrnn.training import TrainConfig


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"data": "python-docs", "out": "run", "steps": 10} | changes)


def test_comes_back_from_json() -> None:
    before = config(betas=(0.8, 0.95), minutes=1.5, precision="bfloat16")
    assert TrainConfig.from_json(json.loads(json.dumps(before.to_json())), "run") == before


def test_a_run_folder_may_be_moved() -> None:
    assert TrainConfig.from_json(config(out="here").to_json(), "there") == config(out="there")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0),
        ("width", 16.5),
        ("width", True),
        ("steps", -1),
        ("context", "256"),
        ("dropout", 1.0),
        ("dropout", float("nan")),
        ("ema", -0.1),
        ("betas", (0.9,)),
        ("betas", (0.9, 1.0)),
        ("learning_rate", 0),
        ("final_rate", 1.5),
        ("precision", "float16"),
        ("device", "tpu"),
        ("seed", -1),
        ("data", ""),
        ("out", ""),
    ],
)
def test_refuses_what_cannot_be(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"--{field.replace('_', '-')}"):
        config(**{field: value})


def test_needs_a_length() -> None:
    with pytest.raises(UserError, match="--steps N or --minutes M"):
        config(steps=0)


def test_pieces_must_be_equal() -> None:
    with pytest.raises(UserError, match="--accumulate 3"):
        config(batch=16, accumulate=3)


@pytest.mark.parametrize(
    ("change", "problem"), [({"colour": 1}, "unknown setting 'colour'"), ({"width": None}, "width")]
)
def test_json_is_checked(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        TrainConfig.from_json(config().to_json() | change, "run")


def test_json_must_be_complete() -> None:
    record = config().to_json()
    del record["width"]
    with pytest.raises(UserError, match="setting 'width' is missing"):
        TrainConfig.from_json(record, "run")
