"""minrnn evaluate"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from minrnn.errors import UserError
from minrnn.training._folder import is_of_series

from ._parse import parse


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure how well a trained model predicts a text: every token, the state carried through, in float32.

    Example:  minrnn evaluate runs/shakespeare --data shakespeare --split val --json

    For a run on time series: accuracy and confusion matrix, errors, or errors of forecasts and how often their
    quantiles hold.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that minrnn train wrote."""
    data: str = ""
    """What to measure on, as for minrnn train; by default what the run was trained on."""
    split: Literal["val", "train", "all"] = "val"
    """val is what was held out (of a text the last 10 %), train the rest. All of a file of series given by --data."""
    json: bool = False
    """Print one line of JSON."""
    picture: str = ""
    """Of a run on time series: file (PNG) for the confusion matrix, the answers or a forecast."""
    baselines: bool = True
    """Of a run on time series: show what simpler methods reach that learn from the same part of the data (nearest
    neighbour and MiniRocket, or ridge regression)."""


def main(arguments: Sequence[str]) -> int:
    """Print the figures on stdout."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    if is_of_series(options.run):
        from ._series import evaluate as evaluate_series

        return evaluate_series(
            options.run, options.data, options.split, options.json, options.picture, options.baselines
        )
    if options.picture:
        raise UserError("--picture is for runs on time series; the curve of a run on text is in its loss.png")

    from minrnn.data import load_text
    from minrnn.training import evaluate, load_run
    from minrnn.training._corpus import digest, lasting, predicted_characters
    from minrnn.training._folder import RunFolder, Settings
    from minrnn.training._progress import display

    run = load_run(options.run)
    text = load_text(options.data or run.config.data, tokens=run.config.tokens)
    part = {"val": text.held_out, "train": text.train, "all": text.text}[options.split]
    ids = run.tokenizer.encode(part)
    learned_from = Settings.load(RunFolder(run.folder)).text_sha256  # "" for a run that does not say
    if learned_from and options.split != "all" and lasting(options.data) in ("", run.config.data):
        train = ids if options.split == "train" else run.tokenizer.encode(text.train)
        held_out = ids if options.split == "val" else run.tokenizer.encode(text.held_out)
        if digest(train, held_out) != learned_from:
            raise UserError(
                f"{run.config.data} has changed since {options.run} was trained on it, so that what was held out is "
                "not known; put the original back, or measure on all of it (--split all)"
            )
    show = display()
    try:
        result = evaluate(
            run.model,
            ids,
            characters=predicted_characters(run.tokenizer, part, ids),
            context=run.config.context,
            progress=lambda done, of: show.busy(f"evaluating {done / of:.0%}"),
        )
    finally:
        show.close()
    if options.json:
        print(json.dumps(dataclasses.asdict(result)))
    else:
        figures = f"{result.nats_per_token:.4f} nats per token, {result.bits_per_character:.4f} bits per character"
        print(f"{figures}, {result.tokens:,} tokens")
    return 0
