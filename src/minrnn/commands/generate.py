"""minrnn generate"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ._parse import parse


@dataclass(frozen=True)
class GenerateOptions:
    """Write text with a trained model, in the terminal as it comes.

    Example:  minrnn generate runs/shakespeare --prompt "ROMEO:" --tokens 500 --temperature 0.8
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that minrnn train wrote."""
    prompt: str = ""
    """Text to continue."""
    tokens: int = 500
    """Tokens to write."""
    temperature: float = 1.0
    """Below 1 safer, above 1 bolder; 0 takes the likeliest token each time."""
    top_k: int = 0
    """Choose among the so many likeliest tokens; 0 among all."""
    top_p: float = 1.0
    """Choose among the fewest likeliest tokens that have this probability together; 1 among all."""
    seed: int = 0
    """Same seed, same text."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the weights. auto: bfloat16, which is faster, where the processor multiplies it, else float32."""
    batch: int = 1
    """Samples to write; the first is shown as it comes, the others after it."""
    save_state: str = ""
    """File (.safetensors) to keep the state after the prompt in, from which other texts can go on."""
    state: str = ""
    """File that --save-state wrote: go on from there, without reading that prompt again."""


def main(arguments: Sequence[str]) -> int:
    """Print the prompt and its continuation on stdout."""
    options = parse(GenerateOptions, "generate", arguments)

    from minrnn.training import generate, load_run, load_state, read, save_state

    run = load_run(options.run, precision=options.precision)
    after = load_state(options.state, run) if options.state else None
    prompt = options.prompt
    if options.save_state:
        after = read(run.model, run.tokenizer, prompt, after).end
        save_state(options.save_state, after, run)
        prompt = ""
    pieces = generate(
        run.model,
        run.tokenizer,
        prompt,
        options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        batch=options.batch,
        after=after,
    )
    samples = [[options.prompt] for _ in range(options.batch)]
    sys.stdout.write(options.prompt)
    for piece in pieces:
        sys.stdout.write(piece[0])
        sys.stdout.flush()
        for sample, text in zip(samples, piece, strict=True):
            sample.append(text)
    print()
    for number, sample in enumerate(samples[1:], 2):
        print(f"\n--- sample {number} ---\n{''.join(sample)}")
    return 0
