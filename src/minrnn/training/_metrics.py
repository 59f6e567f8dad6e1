"""What happened in a run: a JSON line per step and per evaluation, the loss curve, and TensorBoard where asked for."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from minrnn.errors import UserError

from ._files import write_picture, write_text, writing


class Metrics:
    """Appends to `metrics.jsonl`, after cutting it back to the `lines` that the checkpoint of `step` knows of."""

    def __init__(self, path: Path, lines: int, step: int, tensorboard: bool = False) -> None:
        self._path = path
        self._board = _board(path.parent, step) if tensorboard else None
        kept = read_metrics(path)[:lines]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.lines = len(kept)
        self.seconds = max((line.get("seconds", 0.0) for line in kept), default=0.0)  # that earlier sittings took
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, **line: Any) -> None:
        """Add one line; it names its `step`."""
        with writing(self._path):
            self._file.write(json.dumps(line) + "\n")
        self.lines += 1
        if self._board is not None:
            for name, value in line.items():
                if name != "step" and isinstance(value, float):
                    self._board.add_scalar(name, value, line["step"])

    def sync(self) -> None:
        """Put all lines on disk, before a checkpoint says that they are there."""
        with writing(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with writing(self._path):
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` up to the first that is not whole, which a killed process may have left."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                break
            if not (isinstance(line, dict) and isinstance(line.get("step"), int)):
                break
            lines.append(line)
    return lines


def check_board() -> None:
    """Raises UserError where TensorBoard files cannot be written."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs the tensorboard package: pip install tensorboard")


def _board(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def draw_curve(metrics: Path, picture: Path) -> None:
    """Draw the training and held-out loss of `metrics.jsonl` as a PNG."""
    from matplotlib.figure import Figure  # half a second to import

    lines = read_metrics(metrics)
    trained = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    held_out = [(line["step"], line["held_out"]) for line in lines if "held_out" in line]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    if trained:
        steps, losses = zip(*trained, strict=True)
        axes.plot(steps, losses, color="#9bb8d3", linewidth=0.6, label="training, each step")
        axes.plot(steps, _smooth(losses), color="#1f5a94", linewidth=1.4, label="training, running mean")
    if held_out:
        steps, losses = zip(*held_out, strict=True)
        axes.plot(steps, losses, "o-", color="#c8452c", markersize=4, label=f"held out (lowest {min(losses):.3f})")
    axes.set(xlabel="step", ylabel="nats per token", title=metrics.parent.resolve().name)
    axes.grid(alpha=0.3)
    if trained or held_out:
        axes.legend()
    write_picture(picture, figure, dpi=120)


def _smooth(values: tuple[float, ...], keep: float = 0.95) -> list[float]:
    smoothed, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + 1 - keep
        smoothed.append(mean / weight)
    return smoothed
