"""Beginning with the weights of another run, to fine-tune it. Nothing here needs torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minrnn.errors import UserError

from ._config import TrainConfig
from ._folder import RunFolder, Settings

SHAPE = ("tokens", "pattern", "width", "expansion", "conv", "mlp")
"""The settings that decide which weights a model has."""


def with_shape_of(config: TrainConfig, folder: str) -> tuple[TrainConfig, str]:
    """`config` with the shape of the run in `folder`, and where that is for good. Raises UserError where `config` asks
    for another shape, and for a folder without a run.
    """
    begun = Settings.load(RunFolder(Path(folder))).config
    usual = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    shape = as_begun({name: getattr(begun, name) for name in SHAPE}, vars(config), usual, folder)
    return dataclasses.replace(config, **shape), os.path.abspath(folder)


def as_begun(begun: dict[str, Any], asked: Mapping[str, Any], usual: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The settings `begun` of a run whose weights are taken. Raises UserError where `asked` has others; what is as
    `usual` was not asked for.
    """
    for name, value in begun.items():
        if asked[name] not in (value, usual[name]):
            raise UserError(
                f"{name} should be {asked[name]}, but the weights of --init {folder} are of {name} {value}; "
                "leave it out"
            )
    return begun
