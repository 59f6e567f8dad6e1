"""minrnn bench model"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minrnn.models import LanguageModel, LanguageModelConfig
from minrnn.timing import environment, interleaved_medians
from minrnn.training._allocator import keep_freed_memory
from minrnn.training._files import write_json
from minrnn.training._progress import display

from ._parse import parse


@dataclass(frozen=True)
class BenchModelOptions:
    """Time a training step of a language model beside the same step with its matrix products alone, in float32 and
    bfloat16, and generation one token at a time, at the start and after many tokens.

    Example:  minrnn bench model --json model.json
    """

    pattern: str = "mingru*6"
    """The blocks of the model."""
    width: int = 384
    """Model width D."""
    batch: int = 16
    """Sequences B in a step."""
    context: int = 256
    """Tokens T in a sequence."""
    dropout: float = 0.2
    """Share of activations dropped."""
    vocabulary: int = 65
    """Number of different tokens V."""
    tokens: int = 100_000
    """Tokens to generate before the speed is measured again."""
    repeats: int = 7
    """Interleaved repeats, of which the median counts."""
    json: str = ""
    """File to write the figures to."""


def main(arguments: Sequence[str]) -> int:
    """Print the figures."""
    options = parse(BenchModelOptions, "bench model", arguments)
    keep_freed_memory()  # as `minrnn train` does
    torch.manual_seed(0)
    config = LanguageModelConfig(options.vocabulary, options.width, options.pattern, dropout=options.dropout)
    model = LanguageModel(config)
    record: dict[str, Any] = environment() | {"parameters": sum(p.numel() for p in model.parameters())}
    show = display()
    try:
        record |= _steps(model, options, show.busy)
        record["tokens_per_second"] = {
            f"{precision}, {when}": speed
            for precision in ("float32", "bfloat16")
            for when, speed in _generation(model.eval().to(getattr(torch, precision)), options, show.busy).items()
        }
    finally:
        show.close()
    for name in ("step_milliseconds", "ratios", "tokens_per_second"):
        for key, value in record[name].items():
            print(f"{name.replace('_', ' ')}, {key}: {value:.3g}")
    if options.json:
        write_json(Path(options.json), record)
    return 0


class MatrixProducts(nn.Module):
    """The same parameters and matrix products as a language model, and nothing between them."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model
        self.linears = [module for module in model.modules() if isinstance(module, nn.Linear)]

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        x = self.model.embedding(tokens)
        for linear in self.linears:
            x = linear(x[..., : linear.in_features])
        return x, None


def _steps(model: LanguageModel, options: BenchModelOptions, progress: Callable[[str], None]) -> dict[str, Any]:
    tokens = torch.randint(options.vocabulary, (options.batch, options.context + 1))

    def step(module: nn.Module, dtype: torch.dtype) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits, _ = module(tokens[:, :-1])
                loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return run

    model.train()
    products = MatrixProducts(model)
    runs = {
        "model float32": step(model, torch.float32),
        "matrix products float32": step(products, torch.float32),
        "model bfloat16": step(model, torch.bfloat16),
        "matrix products bfloat16": step(products, torch.bfloat16),
    }
    times = interleaved_medians(runs, options.repeats, progress)
    ratios = {
        "model / matrix products, float32": times["model float32"] / times["matrix products float32"],
        "model / matrix products, bfloat16": times["model bfloat16"] / times["matrix products bfloat16"],
        "bfloat16 / float32": times["model bfloat16"] / times["model float32"],
    }
    return {"step_milliseconds": times, "ratios": ratios}


@torch.inference_mode()
def _generation(model: LanguageModel, options: BenchModelOptions, progress: Callable[[str], None]) -> dict[str, float]:
    """Greedy, batch 1: the speed of 500 tokens at the start, and of 500 after `options.tokens`."""
    token, state = torch.zeros(1, 1, dtype=torch.int64), None
    speeds, done = {}, 0
    for name, target in (("at the start", 20), (f"after {options.tokens:,} tokens", options.tokens)):
        while done < target:
            logits, state = model(token, state)
            token = logits[:, -1:].argmax(dim=-1)
            done += 1
            if done % 100 == 0:
                progress(f"generating, token {done:,} of {options.tokens:,}")
        began = time.perf_counter()
        for _ in range(500):
            logits, state = model(token, state)
            token = logits[:, -1:].argmax(dim=-1)
        speeds[name] = 500 / (time.perf_counter() - began)
        done += 500
        print(f"{name}: {speeds[name]:.0f} tokens a second", file=sys.stderr)
    return speeds
