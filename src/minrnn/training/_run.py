"""How a trained model comes back out of its run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from minrnn.data import Tokenizer, load_tokenizer
from minrnn.errors import UserError
from minrnn.models import LanguageModel, LanguageModelConfig

from ._checkpoint import read_weights
from ._config import TrainConfig
from ._files import file_digest
from ._folder import RunFolder, Settings
from ._precision import resolve_precision


def build_model(config: TrainConfig, vocabulary_size: int) -> LanguageModel:
    """The model that a config describes, freshly initialised from torch's random numbers."""
    try:
        return LanguageModel(
            LanguageModelConfig(
                vocabulary_size=vocabulary_size,
                width=config.width,
                pattern=config.pattern,
                expansion=config.expansion or None,
                conv=config.conv,
                mlp=config.mlp,
                dropout=config.dropout,
            )
        )
    except ValueError as error:  # a pattern or a size that no model has
        raise UserError(str(error)) from error
    except (RuntimeError, MemoryError, TypeError, OverflowError) as error:  # torch's, for sizes beyond memory and int64
        reason = str(error).splitlines()[0]
        raise UserError(f"no model of --width {config.width} and --pattern {config.pattern} here: {reason}") from error


def load_run_tokenizer(run: RunFolder, vocabulary_size: int) -> Tokenizer:
    """The run's tokenizer. Raises UserError where it is missing, damaged or not the one that the model was made for."""
    tokenizer = load_tokenizer(run.tokenizer)
    if tokenizer.vocabulary_size != vocabulary_size:
        raise UserError(
            f"{run.tokenizer} has {tokenizer.vocabulary_size} tokens, config.json says {vocabulary_size}; "
            "put the original files back"
        )
    return tokenizer


def read_best(run: RunFolder, config: TrainConfig, vocabulary_size: int) -> dict[str, Tensor]:
    """The best weights. Raises UserError where they are not those of the model that `config` describes."""
    with torch.device("meta"):  # a config.json of another size must not claim all memory before it is found out
        model = build_model(config, vocabulary_size)
    return read_weights(run.best, model)


@dataclass(frozen=True)
class Run:
    """A trained model with all that is needed to use it."""

    folder: Path
    config: TrainConfig
    model: LanguageModel
    tokenizer: Tokenizer
    digest: str = ""
    """Of the file of the weights when they were read, which another run may have replaced since."""


def load_run(
    folder: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    precision: Literal["auto", "float32", "bfloat16"] = "float32",
) -> Run:
    """Load the best weights of a run folder; the model is in evaluation mode.

    Arguments:
        precision: of the weights and of what flows between them. "bfloat16" halves what a step reads from memory, and
            with that its time; "auto" takes it where the processor multiplies bfloat16. The recurrent state is float32
            either way.

    Example: `run = load_run("runs/shakespeare"); logits, state = run.model(torch.tensor([[0, 1, 2]]))`

    Raises UserError that names the file and the mend where something is missing, damaged or does not fit the rest.
    """
    run = RunFolder(Path(folder))
    settings = Settings.load(run)
    if settings.vocabulary_size is None or not run.best.is_file():
        raise UserError(f"{run.path} has no model.safetensors yet: go on with minrnn train --resume {run.path}")
    tokenizer = load_run_tokenizer(run, settings.vocabulary_size)
    digest, weights = file_digest(run.best), read_best(run, settings.config, settings.vocabulary_size)
    model = build_model(settings.config, settings.vocabulary_size)
    model.load_state_dict(weights)
    dtype = getattr(torch, resolve_precision(precision, torch.device(device)))
    return Run(run.path, settings.config, model.to(device, dtype).eval(), tokenizer, digest)
