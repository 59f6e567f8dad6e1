"""Everything that decides a run, in one typed record: the command line is made from it and `config.json` holds it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from minrnn.errors import UserError


@dataclass(frozen=True)
class TrainConfig:
    """Train a language model and write a run folder (weights, tokenizer, config, metrics, loss curve).

    Example:  minrnn train --data shakespeare --out runs/shakespeare --minutes 15

    Go on with a stopped run:  minrnn train --resume runs/shakespeare

    Two processes:  torchrun --nproc-per-node 2 -m minrnn train --data shakespeare --out runs/two --steps 1000

    Time series:  minrnn train --task classify --help  (or regress, or forecast)
    """

    data: str
    """Text to learn: python-docs, python-library, shakespeare, a text file, a folder of them, or hf:NAME. The last 10 %
    is held out."""
    out: str
    """Run folder to create."""
    tokens: str = "characters"
    """What a token is: characters, bytes, or bpe:SIZE, trained on the spot (example: bpe:4096)."""

    pattern: str = "mingru*6"
    """The blocks of the model from bottom to top (example: "mingru*3 minlstm*3")."""
    width: int = 384
    """Model width D."""
    expansion: float = 0.0
    """Hidden width of the recurrences as a multiple of the model width (paper: 1 to 4); 0 leaves each mixer its own."""
    conv: int = 4
    """Steps that the causal convolution before each recurrence sees; 0 leaves it out."""
    mlp: float = 4.0
    """Hidden width of the MLP in each block as a multiple of the model width; 0 leaves it out."""
    dropout: float = 0.2
    """Share of activations dropped in training. Little text wants more, a lot of text 0."""

    context: int = 256
    """Tokens T in a training window. The trained model reads any length."""
    batch: int = 64
    """Windows B in one update, over all processes together."""
    accumulate: int = 1
    """Pieces that a batch is worked through in, one after the other: less memory, the same gradients."""
    steps: int = 0
    """Updates to make. Give this or --minutes."""
    minutes: float = 0.0
    """Time to train: the first steps are measured, then their number is fixed and saved. Give this or --steps."""

    learning_rate: float = 3e-3
    """Highest learning rate of AdamW."""
    warmup: int = 100
    """Steps over which the learning rate rises from 0, at most a quarter of all steps."""
    final_rate: float = 0.05
    """Learning rate of the last step as a share of the highest; a cosine leads there."""
    weight_decay: float = 0.1
    """Weight decay of the matrices. Gates, norms, biases and embeddings have none."""
    betas: tuple[float, float] = (0.9, 0.99)
    """How slowly AdamW forgets gradients and their squares."""
    clip: float = 1.0
    """Gradients are scaled down to this norm; 0 turns it off."""
    ema: float = 0.0
    """Decay of a moving average of the weights (example: 0.999), which is then evaluated and kept; 0 turns it off."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Matrix products in training. auto: bfloat16 where the processor multiplies it, else float32."""
    device: str = "auto"
    """auto (cuda where there is one, else cpu), cpu, or cuda."""
    threads: int = 0
    """Processor threads of each process; 0 leaves the choice to torch."""
    seed: int = 0
    """Same seed, same run."""

    evaluate_every: int = 250
    """Steps between evaluations of the whole held-out part; the last step always has one."""
    checkpoint_every: int = 250
    """Steps between checkpoints; what is lost at most when the power goes."""
    patience: int = 0
    """Stop after this many evaluations in a row without a better one; 0 turns it off."""
    tensorboard: bool = False
    """Write TensorBoard event files to the run folder as well (pip install tensorboard)."""

    def __post_init__(self) -> None:
        for field, kind in get_type_hints(type(self)).items():
            if not _matches(getattr(self, field), kind):
                raise UserError(f"{_option(field)} is {getattr(self, field)!r}; it takes {_describe(kind)}")
        for field in ("width", "context", "batch", "accumulate", "evaluate_every", "checkpoint_every"):
            self._require(field, getattr(self, field) >= 1, "1 or more")
        for field in (
            "conv",
            "mlp",
            "warmup",
            "weight_decay",
            "clip",
            "threads",
            "seed",
            "patience",
            "steps",
            "minutes",
            "expansion",
        ):
            self._require(field, getattr(self, field) >= 0, "0 or more")
        self._require("learning_rate", self.learning_rate > 0, "more than 0")
        for field in ("dropout", "ema"):
            self._require(field, 0 <= getattr(self, field) < 1, "0 or more and less than 1")
        self._require("threads", self.threads <= 1024, "1024 at most")
        self._require("final_rate", 0 <= self.final_rate <= 1, "between 0 and 1")
        self._require("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers, each 0 or more and less than 1")
        self._require("data", self.data != "", "a name, a file or a folder")
        self._require("out", self.out != "", "a folder")
        self._require("device", self.device in ("auto", "cpu", "cuda"), "auto, cpu or cuda")
        if not self.steps and not self.minutes:
            raise UserError("say how long to train: --steps N or --minutes M")
        if self.batch % self.accumulate:
            raise UserError(
                f"--batch {self.batch} cannot be worked through in --accumulate {self.accumulate} equal pieces"
            )

    def _require(self, field: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UserError(f"{_option(field)} is {getattr(self, field)}; it takes {allowed}")

    def to_json(self) -> dict[str, Any]:
        """All fields but `out`: a run folder may be moved."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "out"}

    @classmethod
    def from_json(cls, record: dict[str, Any], out: str) -> TrainConfig:
        """The inverse of `to_json`. Raises UserError for unknown, missing or impossible fields."""
        names = {field.name for field in dataclasses.fields(cls)} - {"out"}
        if unknown := sorted(record.keys() - names):
            raise UserError(f"unknown setting {unknown[0]!r}")
        if missing := sorted(names - record.keys()):
            raise UserError(f"setting {missing[0]!r} is missing")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
        }
        return cls(**values, out=out)


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _matches(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return (
            isinstance(value, tuple)
            and len(value) == len(get_args(kind))
            and all(_matches(item, choice) for item, choice in zip(value, get_args(kind), strict=True))
        )
    return isinstance(value, kind)


def _describe(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return " and ".join(_describe(choice) for choice in get_args(kind))
    return words[kind]
