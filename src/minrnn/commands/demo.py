"""minrnn demo"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from minrnn.errors import UserError
from minrnn.training import TrainConfig, train
from minrnn.training._folder import RunFolder, Settings, is_run

from ._parse import parse
from .train import sit

# Tuned for two minutes on two processor cores that multiply float32 alone, at half the speed of newer ones: the number
# of updates decides there. What is faster makes more of them, and reaches less.
CONFIG = TrainConfig(
    data="python-docs",
    out="runs/demo",
    pattern="mingru*3",
    width=128,
    conv=4,
    mlp=4.0,
    dropout=0.04,
    context=128,
    batch=8,
    minutes=1.95,
    learning_rate=8e-3,
    warmup=40,
    final_rate=0.02,
    ema=0.99,
    evaluate_every=1000,
    checkpoint_every=400,
)
PROMPT = "The "


@dataclass(frozen=True)
class DemoOptions:
    """Train a character model for two minutes on text that every Python carries, and compare it with the best n-gram.

    Example:  minrnn demo --minutes 1
    """

    minutes: float = CONFIG.minutes
    """Time to train."""
    out: str = CONFIG.out
    """Run folder; what is in runs/demo is replaced, and elsewhere what an earlier demo left."""


def _is_demo(folder: str) -> bool:
    """Whether an earlier demo made the run there; one of another release may have had other settings."""
    if folder == CONFIG.out:
        return True
    try:
        found = Settings.load(RunFolder(Path(folder))).config
    except UserError:
        return False
    return (found.data, found.pattern, found.width) == (CONFIG.data, CONFIG.pattern, CONFIG.width)


def main(arguments: Sequence[str]) -> int:
    """Print the held-out figure, a sample and what to do next on stdout."""
    options = parse(DemoOptions, "demo", arguments)

    from minrnn.data import best_ngram, load_text
    from minrnn.training import generate, load_run

    config = replace(CONFIG, minutes=options.minutes, out=options.out)
    if is_run(Path(config.out)) and not _is_demo(config.out):
        raise UserError(f"--out {config.out} holds a run that is no demo; give another folder")
    result, code = sit(config.out, partial(train, config, overwrite=True))
    if result.held_out is None:
        return code
    print("counting n-grams of orders 1 to 6", file=sys.stderr, flush=True)
    text = load_text(config.data)
    order, bits = best_ngram(text.train, text.held_out)
    print(
        f"held-out {result.held_out.bits_per_character:.3f} bits per character; best n-gram {bits:.3f} (order {order})"
    )
    order, bits = best_ngram(text.train, text.held_out, smoothing="kneser-ney")
    print(f"the strongest smoothing known for n-grams, modified Kneser-Ney, has {bits:.3f} (order {order})")
    run = load_run(config.out, precision="auto")
    print(f"\nA sample:\n\n{PROMPT}", end="")
    for pieces in generate(run.model, run.tokenizer, PROMPT, 400, temperature=0.8):
        print(pieces[0], end="", flush=True)
    print(
        f"\n\nThe run folder is {config.out}, the loss curve {config.out}/loss.png. "
        f'More text: minrnn generate {config.out} --prompt "{PROMPT}" --tokens 500'
    )
    return 0
