"""Weights and training state as safetensors: one file is one moment of the run, checked name by name when read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from minrnn.errors import UserError

from ._files import replacing

CONFIG = "config.json beside it"
MARK = "minrnn"  # the one metadata key; with two, safetensors writes them in any order, and equal runs would differ
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class State:
    """Where a run stands, beside its tensors."""

    step: int = 0  # updates made
    best: float | None = None  # lowest held-out nats per token
    best_step: int = 0
    stale: int = 0  # evaluations since the best one
    evaluated: int = -1  # step of the newest evaluation, so that a resumed run neither repeats nor skips one
    lines: int = 0  # of metrics.jsonl
    finished: bool = False


def save_weights(path: Path, model: nn.Module, **facts: Any) -> None:
    """Write the plain `state_dict` of `model`, with `facts` in the metadata."""
    save_tensors(path, model.state_dict(), facts)


def read_weights(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """The weights in a file that `save_weights` wrote. Raises UserError where they are not those of such a `model`."""
    return load_tensors(path, model.state_dict())[0]


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, state: State
) -> None:
    """Write all that a run needs to go on as one file."""
    tensors = _prefixed("model", model.state_dict())
    if average is not None:
        tensors |= _prefixed("average", average.state_dict())
    for name, parameter in model.named_parameters():
        tensors |= _prefixed(f"optimizer.{name}", optimizer.state[parameter])
    save_tensors(path, tensors, dataclasses.asdict(state))


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None) -> State:
    """The inverse of `save_checkpoint`. Raises UserError before anything is changed where the file does not fit."""
    expected = _prefixed("model", model.state_dict())
    if average is not None:
        expected |= _prefixed("average", average.state_dict())
    moments = {
        name: dict.fromkeys(MOMENTS, parameter) | {"step": torch.zeros(())}
        for name, parameter in model.named_parameters()
    }
    for name, entries in moments.items():
        expected |= _prefixed(f"optimizer.{name}", entries)
    tensors, facts = load_tensors(path, expected)
    state = _state(path, facts)
    model.load_state_dict({name: tensors[f"model.{name}"] for name in model.state_dict()})
    if average is not None:
        average.load_state_dict({name: tensors[f"average.{name}"] for name in average.state_dict()})
    for name, parameter in model.named_parameters():
        # Copies: the file's tensors may not have the alignment that vector code, and so the last bit, depends on.
        optimizer.state[parameter] = {
            key: tensors[f"optimizer.{name}.{key}"].to(parameter.device, copy=True) for key in moments[name]
        }
    return state


def read_state(path: Path) -> State:
    """Only the state of a checkpoint, without its tensors."""
    with _opened(path) as file:
        return _state(path, _facts(path, file, CONFIG))


def _state(path: Path, facts: dict[str, Any]) -> State:
    types = {field.name: type(field.default) for field in dataclasses.fields(State)} | {"best": float | None}
    if facts.keys() != types.keys() or not all(isinstance(facts[name], types[name]) for name in types):
        raise _unfit(path, CONFIG, "its metadata is not that of a checkpoint")
    return State(**facts)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write them in one move, with `facts` in the metadata."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():  # tied weights are written under each of their names
        tensor = tensor.detach().contiguous()
        separate[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    with replacing(path) as temporary:  # not save_file: killed in the middle, it leaves a file of a random name behind
        temporary.write_bytes(save(separate, metadata={MARK: json.dumps(facts)}))


def load_tensors(
    path: Path, expected: Mapping[str, Tensor], owner: str = CONFIG
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, which must have the names, shapes and types of `expected`, all finite; and its facts.

    A size of 0 in `expected` stands for any. Raises UserError where they do not fit their `owner`.
    """
    with _opened(path) as file:
        names = set(file.keys())
        if difference := names ^ expected.keys():
            name = min(difference)
            raise _unfit(path, owner, f"it {'holds' if name in names else 'lacks'} {name!r}")
        for name, tensor in expected.items():
            if not _fits(shape := file.get_slice(name).get_shape(), tensor):
                raise _unfit(path, owner, f"{name!r} has shape {tuple(shape)}, not {tuple(tensor.shape)}")
        tensors = {name: file.get_tensor(name) for name in expected}
        facts = _facts(path, file, owner)
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype:
            raise _unfit(path, owner, f"{name!r} is {tensor.dtype}, not {expected[name].dtype}")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise _unfit(path, owner, f"{name!r} has values that are not finite")
    return tensors, facts


def _fits(shape: list[int], expected: Tensor) -> bool:
    return len(shape) == expected.dim() and all(
        size in (0, found) for found, size in zip(shape, expected.shape, strict=True)
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise UserError(f"{path} is missing; put it back, or train the run again")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}); put the original back, or train the run again"
        ) from error


def _facts(path: Path, file: Any, owner: str) -> dict[str, Any]:
    try:
        facts = json.loads((file.metadata() or {})[MARK])
    except (KeyError, ValueError):
        facts = None
    if not isinstance(facts, dict):
        raise _unfit(path, owner, f"its metadata has no readable entry {MARK!r}")
    return facts


def _unfit(path: Path, owner: str, reason: str) -> UserError:
    return UserError(f"{path} does not fit {owner}: {reason}; put the original files back, or train the run again")
