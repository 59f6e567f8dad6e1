"""From a run folder to transformers and back."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from minrnn.errors import UserError

from ..training import TrainConfig, load_run
from ..training._checkpoint import State, save_tensors
from ..training._folder import RunFolder, Settings
from ..training._reading import beginning
from ._config import MinRNNConfig
from ._model import MinRNNForCausalLM
from ._tokenizers import from_transformers, to_transformers


def from_run(folder: str | os.PathLike[str]) -> tuple[MinRNNForCausalLM, PreTrainedTokenizerFast]:
    """The best weights of a run folder and its tokenizer, for transformers; the model is in evaluation mode, float32.

    Both answer as those of `load_run` do, bit for bit. `save_pretrained` of each keeps them as transformers does.

    Raises:
        UserError: there is no such run, or a file of it is missing, damaged or foreign.

    Example: `model, tokenizer = from_run("runs/shakespeare"); model.save_pretrained("shakespeare")`
    """
    run = load_run(folder)
    fields = dataclasses.asdict(run.model.config)
    config = MinRNNConfig(
        vocab_size=fields.pop("vocabulary_size"),
        **fields,
        bos_token_id=int(beginning(run.tokenizer)[0]),
    )
    model = MinRNNForCausalLM(config)
    model.model.load_state_dict(run.model.state_dict())
    model.train(False)
    return model, to_transformers(run.tokenizer)


def to_run(
    model: MinRNNForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | os.PathLike[str],
    *,
    data: str = "unknown",
    context: int = 256,
    overwrite: bool = False,
) -> None:
    """Write a run folder, from which `load_run` and the commands of minrnn read the model and its tokenizer.

    The run is a finished one: it has no optimizer to go on with, and no figures of how it was trained.

    Args:
        model: in any precision; a run holds float32.
        tokenizer: one that `from_run` or `to_transformers` gave, also after `save_pretrained`.
        folder: new, or empty, or a run to replace with `overwrite`.
        data: what `minrnn evaluate` measures on where no `--data` is given, as for `minrnn train`.
        context: tokens that it lets a model see whose state grows, as attention's does.
        overwrite: replace the run that is there.

    Raises:
        UserError: the tokenizer is not one of minrnn, is not the model's, or the folder holds something else or cannot
            be written.

    Example: `to_run(model, tokenizer, "runs/tuned", data="shakespeare")`
    """
    kept = from_transformers(tokenizer)
    shape, V = model.model.config, kept.vocabulary_size
    if shape.vocabulary_size != V:
        raise UserError(
            f"the model has {shape.vocabulary_size} tokens and its tokenizer {V}; a run holds no others: "
            f"model.resize_token_embeddings({V})"
        )
    config = TrainConfig(
        data=data,
        out=str(folder),
        tokens=kept.kind,
        pattern=shape.pattern,
        width=shape.width,
        expansion=shape.expansion or 0.0,
        conv=shape.conv,
        mlp=shape.mlp,
        dropout=shape.dropout,
        context=context,
        steps=1,  # a config has to have some; what happened is in `State`
    )
    with RunFolder(Path(folder)).anew(overwrite) as run:
        kept.save(run.tokenizer)
        save_tensors(run.best, {name: one.float() for name, one in model.model.state_dict().items()}, {})
        save_tensors(run.last, {}, dataclasses.asdict(State(finished=True)))  # that there is nothing to go on with
        Settings(config, V, text_sha256="").save(run)
