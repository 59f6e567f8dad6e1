"""What a run was, for a person who finds its model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from minrnn.models import parse_pattern

from ..training import load_run
from ..training._files import write_text
from ..training._folder import RunFolder
from ..training._metrics import read_metrics

CARD = """\
---
library_name: minrnn
pipeline_tag: text-generation
tags:
{tags}
---

# {name}

A language model made with minrnn. It reads each token once, and keeps a state of {state}.

| | |
|---|---|
{table}

```python
import minrnn.hf  # pip install 'minrnn[hf]'
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("{name}"), AutoTokenizer.from_pretrained("{name}")
prompt = tokenizer("\\nOnce", return_tensors="pt")  # a text begins after a newline
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=200, do_sample=True)[0]))
```

For the commands of minrnn: `minrnn.hf.to_run(model, tokenizer, "runs/{name}")`, then `minrnn generate runs/{name}`.
"""


def write_card(run: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Write a model card, `README.md`, beside a model that `save_pretrained` wrote. One that is there is replaced.

    All figures are those that the run noted; what it did not note is left out.

    Args:
        run: the run folder that the model comes from.
        folder: where the model is.

    Raises:
        UserError: there is no such run, or the card cannot be written.

    Example: `write_card("runs/shakespeare", "shakespeare")`
    """
    found = load_run(run)
    config, model, tokens = found.config, found.model, found.tokenizer
    lines = read_metrics(RunFolder(found.folder).metrics)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    table = {
        "parameters": f"{parameters:,}",
        "blocks": f"`{config.pattern}`, width {config.width}",
        "tokens": f"{tokens.kind}, {tokens.vocabulary_size:,} different ones",
        "text": _name(config.data),
        **_steps(lines, config.batch * config.context),
        **_held_out(lines),
    }
    mixers = {name for name, _ in parse_pattern(config.pattern)}
    write_text(
        Path(folder) / "README.md",
        CARD.format(
            name=Path(folder).resolve().name,
            tags="\n".join(f"- {tag}" for tag in ["minrnn", "recurrent-neural-network", *sorted(mixers)]),
            state="constant size" if model.constant_state else "a size that grows with the text",
            table="\n".join(f"| {what} | {figure} |" for what, figure in table.items()),
        ),
    )


def _name(data: str) -> str:
    """Of a text, without the folders of the machine that it was read on."""
    return data if data.startswith("hf:") else Path(data).name


def _steps(lines: list[dict[str, Any]], tokens: int) -> dict[str, str]:
    made = [line["step"] for line in lines if "loss" in line]
    return {"updates": f"{made[-1]:,} of {tokens:,} tokens each"} if made else {}


def _held_out(lines: list[dict[str, Any]]) -> dict[str, str]:
    """Of the weights that the run kept: its last measurement, or the best of those on the way."""
    last = [line for line in lines if "best_nats_per_token" in line]
    if last:
        nats, bits, step = (last[-1][f"best_{name}"] for name in ("nats_per_token", "bits_per_character", "step"))
    elif evaluated := [line for line in lines if "held_out" in line]:
        best = min(evaluated, key=lambda line: line["held_out"])
        nats, bits, step = best["held_out"], best["bits_per_character"], best["step"]
    else:
        return {}
    return {
        "held out": f"{nats:.4f} nats per token, {bits:.4f} bits per character",
        "measured at": f"update {step:,}, on the last tenth of the text",
    }
