"""minrnn bench calls"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from minrnn.errors import UserError
from minrnn.layers import MinGRU
from minrnn.timing import environment, in_new_process, interleaved_medians, peak_extra_bytes
from minrnn.training._files import write_json
from minrnn.training._progress import display

from ._parse import parse

STEPS = 200  # single steps in one repeat


@dataclass(frozen=True)
class BenchCallsOptions:
    """Time the ways to call MinGRU beside each other: packed beside padded, two directions beside one, single steps
    beside nn.GRU's, and a long sequence with and without its projections in memory. Each is checked first.

    Example:  minrnn bench calls --json calls.json
    """

    batch: int = 64
    """Sequences B."""
    length: int = 512
    """Steps T of the longest; packed sequences have 1 to T, each as likely."""
    width: int = 256
    """Width D = H."""
    long: int = 1_048_576
    """Steps of the one long sequence; 0 leaves it out. It takes 5 kB of memory a step at width 256, plain."""
    repeats: int = 7
    """Interleaved repeats, of which the median counts."""
    json: str = ""
    """File to write the figures to."""


def main(arguments: Sequence[str]) -> int:
    """Print the ratios."""
    options = parse(BenchCallsOptions, "bench calls", arguments)
    if min(options.batch, options.length, options.width, options.repeats) < 1:
        raise UserError("--batch, --length, --width and --repeats take 1 or more")
    record: dict[str, Any] = environment() | {"repeats": options.repeats}
    show = display()
    try:
        torch.manual_seed(0)
        record["packed"] = _packed(options, show.busy)
        record["bidirectional"] = _bidirectional(options, show.busy)
        record["single step"] = _single_step(options, show.busy)
        if options.long:
            show.busy(f"one sequence of {options.long:,} steps")
            words = (str(options.long), str(options.width), str(min(options.repeats, 3)))
            record["long"] = in_new_process("minrnn.commands._bench_calls", *words)
    finally:
        show.close()
    for part in ("packed", "bidirectional", "single step", "long"):
        for name, value in record.get(part, {}).items():
            print(f"{part}, {name}: {value:.3g}")
    if options.json:
        write_json(Path(options.json), record)
    return 0


def _gradients(layer: nn.Module, x: Any, leaf: Tensor, upstream: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    def run() -> tuple[Tensor, ...]:
        out, _ = layer(x)
        out = out.data if isinstance(out, PackedSequence) else out
        return torch.autograd.grad(out, [leaf, *layer.parameters()], upstream)

    return run


def _agree(given: Tensor, wanted: Tensor, what: str) -> None:
    error = float((given - wanted).detach().abs().max() / wanted.detach().abs().max())
    if not error < 1e-3:
        raise UserError(f"{what} differ by {error:.1e}; nothing is timed")


def _packed(options: BenchCallsOptions, progress: Callable[[str], None]) -> dict[str, float]:
    """Forward + backward, milliseconds for a million real tokens."""
    B, T, H = options.batch, options.length, options.width
    layer = MinGRU(H, H, batch_first=True)
    x, lengths = torch.randn(B, T, H), torch.randint(1, T + 1, (B,))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    data = packed.data.detach().requires_grad_()
    packed = PackedSequence(data, *packed[1:])
    _agree(layer(packed)[1], layer(x, lengths=lengths)[1], "packed and padded states")
    x.requires_grad_()
    runs = {
        "padded": _gradients(layer, x, x, torch.randn(B, T, H)),
        "packed": _gradients(layer, packed, data, torch.randn(len(data), H)),
    }
    times = interleaved_medians(runs, options.repeats, progress)
    each = {"padded": 1e6 * times["padded"] / (B * T), "packed": 1e6 * times["packed"] / len(data)}
    return each | {"packed / padded, per real token": each["packed"] / each["padded"]}


def _bidirectional(options: BenchCallsOptions, progress: Callable[[str], None]) -> dict[str, float]:
    """Forward + backward, milliseconds."""
    B, T, H = options.batch, options.length, options.width
    one, two = MinGRU(H, H, batch_first=True), MinGRU(H, H, batch_first=True, bidirectional=True)
    one.load_state_dict({name: w for name, w in two.state_dict().items() if not name.endswith("_reverse")})
    x = torch.randn(B, T, H)
    _agree(two(x)[0][..., :H], one(x)[0], "the forward directions")
    x.requires_grad_()
    runs = {
        "one direction": _gradients(one, x, x, torch.randn(B, T, H)),
        "two directions": _gradients(two, x, x, torch.randn(B, T, 2 * H)),
    }
    times = interleaved_medians(runs, options.repeats, progress)
    return times | {"two / one": times["two directions"] / times["one direction"]}


def _single_step(options: BenchCallsOptions, progress: Callable[[str], None]) -> dict[str, float]:
    """Forward of one step, batch 1, width 64, microseconds."""
    layers = {"MinGRU": MinGRU(64, 64), "nn.GRU": nn.GRU(64, 64)}
    x, h_0 = torch.randn(1, 1, 64), torch.randn(1, 1, 64)
    whole = torch.randn(9, 1, 64)
    out, h = [], None
    for step in whole.unbind():
        y, h = layers["MinGRU"](step[None], h)
        out.append(y)
    _agree(torch.cat(out), layers["MinGRU"](whole)[0], "single steps and the whole")
    modes = {"with autograd": torch.enable_grad, "inference mode": torch.inference_mode}

    def stepping(layer: nn.Module, mode: Any) -> Callable[[], None]:
        def run() -> None:
            with mode():
                for _ in range(STEPS):
                    layer(x, h_0)

        return run

    runs = {f"{name}, {mode}": stepping(layers[name], modes[mode]) for name in layers for mode in modes}
    times = {name: 1e3 * ms / STEPS for name, ms in interleaved_medians(runs, options.repeats, progress).items()}
    return times | {f"MinGRU / nn.GRU, {mode}": times[f"MinGRU, {mode}"] / times[f"nn.GRU, {mode}"] for mode in modes}


def _long(T: int, H: int, repeats: int) -> dict[str, float]:
    """Forward + backward of one sequence: seconds, and megabytes beyond input, output and their gradients."""
    layers = {"plain": MinGRU(H, H), "recomputed": MinGRU(H, H, recompute=True)}
    layers["recomputed"].load_state_dict(layers["plain"].state_dict())
    x = torch.randn(T, 1, H, requires_grad=True)
    upstream = torch.randn(T, 1, H)
    runs = {name: _gradients(layer, x, x, upstream) for name, layer in layers.items()}
    plain, recomputed = runs["plain"](), runs["recomputed"]()
    for given, wanted in zip(recomputed, plain, strict=True):
        _agree(given, wanted, "gradients with and without recomputing")
    del plain, recomputed, given, wanted
    known = 2 * x.numel() * x.element_size()  # output and gradient of the input, which the call makes
    figures = {
        f"{name}, extra megabytes": (peak - known) / 1e6
        for name, run in runs.items()
        if (peak := peak_extra_bytes(run)) is not None
    }
    times = interleaved_medians(runs, repeats, lambda text: None)
    figures |= {f"{name}, seconds": ms / 1e3 for name, ms in times.items()}
    return figures | {"recomputed / plain, time": times["recomputed"] / times["plain"]}


if __name__ == "__main__":
    print(json.dumps(_long(*(int(word) for word in sys.argv[1:]))))
