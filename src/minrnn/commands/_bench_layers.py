"""minrnn bench layers"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from minrnn.errors import UserError
from minrnn.timing import environment, in_new_process, interleaved_medians, peak_extra_bytes
from minrnn.training._files import write_json, write_picture
from minrnn.training._progress import display

from ._contestants import FLOORS, Contestant, contestants
from ._parse import parse

# A contestant whose error against its definition in float64 exceeds this, relative to the largest output, is not timed.
TOLERANCE = {"float32": 2e-2, "bfloat16": 1e-1}


@dataclass(frozen=True)
class BenchLayersOptions:
    """Time one layer, forward and backward, side by side: MinGRU and MinLSTM by every backend, nn.GRU, nn.LSTM, a
    GRUCell
    loop, and the floor, which is the matrix products alone. Each is checked against its definition first.

    Example:  minrnn bench layers --json layers.json --picture layers.png
    """

    sizes: tuple[str, ...] = ("64x512x64", "64x512x256", "1x4096x64", "8x4096x256")
    """Batch x length x width (example: --sizes 64x512x64 8x4096x256)."""
    lengths: tuple[int, ...] = (64, 256, 1024, 4096)
    """Lengths to sweep at 16,384 tokens a batch and width 64, for the picture; none with --lengths alone."""
    repeats: int = 7
    """Interleaved repeats, of which the median counts."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of inputs and weights."""
    threads: int = 0
    """Processor threads; 0 leaves the choice to torch."""
    memory: bool = True
    """Measure peak memory as well, each in a process of its own (Linux)."""
    peers: bool = False
    """Time mingru-pytorch as well, where it is installed."""
    json: str = ""
    """File to write the figures to."""
    picture: str = ""
    """PNG file to draw the sweep to."""


def main(arguments: Sequence[str]) -> int:
    """Print a table for each size."""
    options = parse(BenchLayersOptions, "bench layers", arguments)
    sizes = [parse_size(text) for text in options.sizes]
    sweep = [(max(16_384 // T, 1), T, 64) for T in options.lengths]
    if options.repeats < 1:
        raise UserError(f"--repeats is {options.repeats}; it takes 1 or more")
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    record: dict[str, Any] = environment() | {"dtype": options.dtype, "repeats": options.repeats}
    record |= {"sizes": [], "sweep": []}
    for part, size in [("sizes", size) for size in sizes] + [("sweep", size) for size in sweep]:
        record[part].append(measure(size, dtype, options, options.memory and part == "sizes"))
        if options.json:
            write_json(Path(options.json), record)
    if options.picture and sweep:
        draw(record["sweep"], Path(options.picture))
    return 0


def parse_size(text: str) -> tuple[int, int, int]:
    """ "64x512x256" -> (64, 512, 256)"""
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"--sizes has {text!r}; it takes BATCHxLENGTHxWIDTH, such as 64x512x256")
    B, T, H = (int(part) for part in parts)
    return B, T, H


def measure(
    size: tuple[int, int, int], dtype: torch.dtype, options: BenchLayersOptions, memory: bool
) -> dict[str, Any]:
    """All contestants at one size: errors, medians and ratios, printed and returned."""
    B, T, H = size
    show = display()
    try:
        torch.manual_seed(0)
        x = torch.randn(B, T, H, dtype=dtype, requires_grad=True)
        rows = contestants(H, dtype, options.peers)
        errors = {}
        for row in rows:
            show.busy(f"{B}x{T}x{H}: checking {row.name}")
            errors[row.name] = check(row, x, TOLERANCE[options.dtype])
        upstreams = {row.name: torch.randn_like(row.call(x)) for row in rows}
        runs = {row.name: (lambda row=row: row.forward_backward(x, upstreams[row.name])) for row in rows}
        times = interleaved_medians(runs, options.repeats, lambda text: show.busy(f"{B}x{T}x{H}: {text}"))
        peaks: dict[str, int | None] = {}
        if memory:
            for row in rows:
                show.busy(f"{B}x{T}x{H}: memory of {row.name}")
                arguments = (row.name, str(B), str(T), str(H), options.dtype, str(int(options.peers)))
                peaks[row.name] = in_new_process("minrnn.commands._bench_layers", *arguments)
    finally:
        show.close()
    result = [
        {
            "name": name,
            "milliseconds": round(milliseconds, 3),
            "over_floor": round(milliseconds / times[_floor(name)], 3),
            "error": errors[name],
            "peak_extra_megabytes": None if (peak := peaks.get(name)) is None else round(peak / 1e6, 1),
        }
        for name, milliseconds in times.items()
    ]
    _print_table(size, result)
    return {"batch": B, "length": T, "width": H, "rows": result}


def _floor(name: str) -> str:
    return FLOORS["MinLSTM" if name.startswith(("MinLSTM", "3 ")) else "MinGRU"]


def check(row: Contestant, x: torch.Tensor, tolerance: float) -> float | None:
    """Largest error of output and input gradient, relative to the largest value; None without a definition."""
    if row.reference is None:
        return None
    double = x.detach().double().requires_grad_()
    ours, expected = row.call(x), row.reference(double)
    upstream = torch.randn_like(ours)
    (dx,) = torch.autograd.grad(ours, x, upstream)
    (expected_dx,) = torch.autograd.grad(expected, double, upstream.double())
    pairs = ((ours, expected), (dx, expected_dx))
    error = max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)
    if not error <= tolerance:
        raise UserError(
            f"{row.name} differs from its definition by {error:.1e}, more than {tolerance:g}; it is not timed"
        )
    return error


def _print_table(size: tuple[int, int, int], rows: list[dict[str, Any]]) -> None:
    B, T, H = size
    ours = {row["name"]: row["milliseconds"] for row in rows}["MinGRU (cpu)"]
    print(f"\nbatch {B}, length {T}, width {H}: forward + backward")
    print(f"{'':22}{'ms':>10}{'/ floor':>9}{'/ MinGRU':>10}{'peak MB':>10}{'error':>10}")
    for row in rows:
        peak = "" if row["peak_extra_megabytes"] is None else f"{row['peak_extra_megabytes']:.0f}"
        error = "" if row["error"] is None else f"{row['error']:.0e}"
        ratio = row["milliseconds"] / ours
        print(f"{row['name']:22}{row['milliseconds']:10.2f}{row['over_floor']:9.2f}{ratio:10.2f}{peak:>10}{error:>10}")
    sys.stdout.flush()


def draw(sweep: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds by length, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    lengths = [size["length"] for size in sweep]
    for index, row in enumerate(sweep[0]["rows"]):
        ours = row["name"].endswith("(cpu)")
        style: dict[str, Any] = {"linewidth": 2.2, "marker": "o"} if ours else {"linewidth": 1.1, "marker": "."}
        style["linestyle"] = ":" if "projections" in row["name"] else "-"
        axes.plot(lengths, [size["rows"][index]["milliseconds"] for size in sweep], label=row["name"], **style)
    axes.set(
        xscale="log", yscale="log", xlabel="length (16,384 tokens a batch, width 64)", ylabel="ms, forward + backward"
    )
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    write_picture(path, figure, dpi=120)


def _memory_of(name: str, B: int, T: int, H: int, dtype: torch.dtype, peers: bool) -> int | None:
    """Peak memory of one contestant beyond input and upstream gradient, after a small call that loads what it needs."""
    row = next(row for row in contestants(H, dtype, peers) if row.name == name)
    small = torch.randn(2, 3, H, dtype=dtype, requires_grad=True)
    row.forward_backward(small, torch.randn_like(row.call(small)))
    x = torch.randn(B, T, H, dtype=dtype, requires_grad=True)
    width = row.call(small).shape[-1]
    upstream = torch.randn(B, T, width, dtype=dtype)
    return peak_extra_bytes(lambda: row.forward_backward(x, upstream))


if __name__ == "__main__":
    name, B, T, H, dtype_name, peers = sys.argv[1:]
    print(json.dumps(_memory_of(name, int(B), int(T), int(H), getattr(torch, dtype_name), peers == "1")))
