"""minrnn score"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from minrnn.errors import UserError

from ._lines import read_lines
from ._parse import parse


@dataclass(frozen=True)
class ScoreOptions:
    """Say how likely each line of a text is to a trained model, and what it makes of it.

    Example:  minrnn score runs/shakespeare --text "To be, or not to be"

    Example:  minrnn score runs/shakespeare --data lines.txt --json --embeddings lines.npz

    Each line is read by itself, as if it stood at the beginning of a text. A row has the log-probability in nats, the
    bits per character, and the line.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that minrnn train wrote."""
    text: str = ""
    """Text to score, lines and all, as one piece."""
    data: str = ""
    """File whose lines are scored one by one; - is standard input. Empty lines are left out."""
    state: str = ""
    """Read each line after what was read before this state was saved (minrnn generate --save-state)."""
    json: bool = False
    """Print a line of JSON for each, with the log-probability of each token."""
    embeddings: str = ""
    """File (.npz) for a vector of width D for each line: the mean of what the model's last layer says of its tokens."""


def main(arguments: Sequence[str]) -> int:
    """Print a row for each line on stdout."""
    options = parse(ScoreOptions, "score", arguments)
    if bool(options.text) == bool(options.data):
        raise UserError("give --text or --data, one of them")
    if options.embeddings and Path(options.embeddings).suffix != ".npz":
        raise UserError(f"--embeddings is {options.embeddings}; expected a .npz file")

    import numpy as np

    from minrnn.training import load_run, load_state, read
    from minrnn.training._files import replacing

    run = load_run(options.run)
    after = load_state(options.state, run) if options.state else None
    vectors = []
    for place, text in [("", options.text)] if options.text else _lines(options.data):
        try:
            found = read(run.model, run.tokenizer, text, after)
        except UserError as error:
            raise UserError(f"{place}{error}") from None
        bits = -found.log_probability / math.log(2) / len(text)
        if options.embeddings:
            vectors.append(found.embedding)
        record: dict[str, Any] = {"log_probability": found.log_probability, "bits_per_character": bits, "text": text}
        if options.json:
            record["tokens"] = [run.tokenizer.decode([token]) for token in found.tokens.tolist()]
            record["log_probabilities"] = found.log_probabilities.round(6).tolist()
            print(json.dumps(record))
        else:
            print(f"{found.log_probability:.3f}\t{bits:.4f}\t{text}", flush=True)
    if options.embeddings:
        if not vectors:
            raise UserError(f"{options.data} has no line to score")
        with replacing(Path(options.embeddings)) as temporary, temporary.open("wb") as file:
            np.savez(file, embeddings=np.stack(vectors))
    return 0


def _lines(source: str) -> Iterator[tuple[str, str]]:
    """As they come, and where they stand."""
    for number, line in enumerate(read_lines(source), 1):
        if line.strip():
            yield f"line {number} of {source}: ", line.removesuffix("\n")
