"""From the settings of a run to a trainer that stands where the run does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from minrnn.errors import UserError

from ._checkpoint import State
from ._corpus import load_corpus
from ._distributed import Group
from ._files import file_digest, writing
from ._folder import RunFolder, Settings
from ._loop import Trainer
from ._metrics import check_board
from ._precision import resolve_device, resolve_precision
from ._progress import Display
from ._run import load_run, load_run_tokenizer, read_best


def prepare(run: RunFolder, settings: Settings, state: State | None, group: Group, show: Display) -> Trainer:
    """Read the text, build the model, and take up the checkpoint of `state`, or without one make the folder ready.

    Raises UserError where something does not work, before any file is changed.
    """
    config = settings.config
    group.check(config.batch, config.accumulate)
    if config.tensorboard:
        check_board()
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config, group.local_rank)
    config = dataclasses.replace(config, precision=resolve_precision(config.precision, device))
    show.say(f"reading {config.data}")
    tokenizer, weights = None, None
    if state is None and settings.init:
        weights_begun = RunFolder(Path(settings.init)).best
        if not weights_begun.is_file():
            raise UserError(
                f"{weights_begun} is gone, which {run.path} begins with; put the run back, or start a new one"
            )
        if file_digest(weights_begun) != settings.init_sha256:
            raise UserError(f"the run {settings.init} has changed since {run.path} began with it; start a new run")
        begun = load_run(settings.init)
        tokenizer, weights = begun.tokenizer, begun.model.state_dict()
    elif state is not None:
        size = settings.vocabulary_size or 0  # a run with a checkpoint has one; 0 fits no tokenizer
        tokenizer = load_run_tokenizer(run, size)
        if state.best is not None:
            read_best(run, config, size)  # they may be needed only at the end, hours from now
    corpus = group.lead(lambda: load_corpus(config, tokenizer))
    if settings.text_sha256 not in (None, corpus.sha256):
        raise UserError(f"the text {config.data} changed since {run.path} began; put it back, or start a new run")
    trainer = Trainer(run, dataclasses.replace(settings, config=config), corpus, group, device, show, weights)
    if state is not None:
        trainer.restore()
    else:
        group.lead(lambda: _begin(run, trainer))
    parameters = sum(parameter.numel() for parameter in trainer.learner.model.parameters())
    show.say(
        f"{parameters / 1e6:.2f} M parameters, {corpus.tokenizer.vocabulary_size} different tokens; "
        f"{len(corpus.train):,} tokens to learn from, {len(corpus.held_out):,} held out; "
        f"{device.type}, {config.precision}, {torch.get_num_threads()} threads"
        + (f", {group.size} processes" if group.size > 1 else "")
        + (f"; beginning with the weights of {settings.init}" if weights is not None else "")
        + (f"; going on after step {trainer.state.step}" if trainer.state.step else "")
    )
    return trainer


def _begin(run: RunFolder, trainer: Trainer) -> None:
    """Make the folder what a run is at step 0."""
    with writing(run.path):
        run.clear()
    trainer.save_settings()
    trainer.corpus.tokenizer.save(run.tokenizer)
