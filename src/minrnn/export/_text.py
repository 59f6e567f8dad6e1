from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..models import LanguageModel
from ..training import Run as TrainedRun
from ..training import generate
from ..training._reading import beginning
from ._places import beside
from ._ports import Graph, Port, State
from ._source import Arrays, Run
from ._stepped import check_mixers, stepped

CHUNK = 512  # tokens that a graph reads at once when it is measured
MOST = 20_000  # held-out tokens that are looked at


class _Model(nn.Module):
    """tokens (B, T), states -> logits (B, T, V), states; of single steps (B, V)."""

    def __init__(self, model: LanguageModel, state: State, single: bool) -> None:
        super().__init__()
        self.model, self.state, self.single = model, state, single

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        logits, after = self.model(tokens, self.state.tree(state))
        return (logits[:, 0] if self.single else logits), *self.state.tensors(after)


class Text:
    """A language model as a `Source`."""

    task = "language"

    def __init__(self, run: TrainedRun) -> None:
        check_mixers(run.model)
        self.run = run

    def graphs(self, *, exported: bool) -> dict[str, Graph]:
        V, state = self.run.tokenizer.vocabulary_size, State(self.run.model.initial_state(1))
        model = self.run.model
        return {
            "step": Graph(
                "step",
                _Model(model, state, single=True),
                (Port("tokens", ("B", 1), torch.int64),),
                (Port("logits", ("B", V), torch.float32),),
                state,
            ),
            "sequence": Graph(
                "sequence",
                _Model(stepped(model) if exported else model, state, single=False),
                (Port("tokens", ("B", "T"), torch.int64),),
                (Port("logits", ("B", "T", V), torch.float32),),
                state,
            ),
        }

    def record(self) -> dict[str, Any]:
        tokenizer = self.run.tokenizer
        return {
            "vocabulary": {"file": "tokenizer.json", "kind": tokenizer.kind, "size": tokenizer.vocabulary_size},
            "beginning": beginning(tokenizer).tolist(),
        }

    def files(self) -> dict[str, Path]:
        return {"run.py": beside("text.py"), "tokens.py": beside("tokens.py")}

    def vocabulary(self) -> dict[str, Any]:
        return self.run.tokenizer.to_json()

    def random(self, rng: np.random.Generator, B: int, T: int) -> Arrays:
        return {"tokens": rng.integers(self.run.tokenizer.vocabulary_size, size=(B, T))}

    def step_through(self, step: Run, inputs: Arrays) -> Arrays:
        state: Arrays = {}
        logits = []
        for t in range(inputs["tokens"].shape[1]):
            found = step({"tokens": inputs["tokens"][:, t : t + 1]} | state)
            logits.append(found.pop("logits"))
            state = carried(found)
        return {"logits": np.stack(logits, axis=1)} | found

    def score(self, sequence: Run, held_out: np.ndarray) -> tuple[str, float]:
        tokens = held_out[:MOST].astype(np.int64)
        state: Arrays = {}
        total = 0.0
        for start in range(0, len(tokens) - 1, CHUNK):
            piece = tokens[start : start + CHUNK + 1]
            found = sequence({"tokens": piece[None, :-1]} | state)
            logits = torch.from_numpy(found.pop("logits")[0])  # (T, V)
            total += nn.functional.cross_entropy(logits, torch.from_numpy(piece[1:]), reduction="sum").item()
            state = carried(found)
        return f"nats per token, over {len(tokens) - 1:,} tokens", total / (len(tokens) - 1)

    def invented(self) -> tuple[np.ndarray, str]:
        text = "".join(piece[0] for piece in generate(self.run.model, self.run.tokenizer, tokens=2000))
        return self.run.tokenizer.encode(text), "text that the model wrote"


def carried(found: Arrays) -> Arrays:
    """The states that a call gave, by the names under which the next one takes them."""
    return {name.replace("next.", "state.", 1): array for name, array in found.items()}
