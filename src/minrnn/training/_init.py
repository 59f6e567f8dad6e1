"""Beginning with the weights of another run, to fine-tune it. Nothing here needs torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minrnn.errors import UserError

from ._config import TrainConfig
from ._files import file_digest
from ._folder import RunFolder, Settings

SHAPE = ("tokens", "pattern", "width", "expansion", "conv", "mlp")
"""The settings that decide which weights a model has."""


def begun_with(config: TrainConfig, folder: str) -> Settings:
    """`config` with the shape of the run in `folder`, whose weights it begins with.

    Raises UserError where `config` asks for another shape, and for a folder without a trained run.
    """
    check_apart(folder, config.out)
    run = RunFolder(Path(folder))
    begun = Settings.load(run).config
    if not run.best.is_file():
        raise UserError(f"--init {folder} has no model.safetensors yet; train it first")
    usual = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    shape = as_begun({name: getattr(begun, name) for name in SHAPE}, vars(config), usual, folder)
    return Settings(
        dataclasses.replace(config, **shape), init=os.path.abspath(folder), init_sha256=file_digest(run.best)
    )


def check_apart(folder: str, out: str) -> None:
    """Raise UserError where the run to begin with would be overwritten."""
    if Path(folder).resolve() == Path(out).resolve():
        raise UserError(f"--out {out} is the run of --init, which has to stay; give another folder")


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
