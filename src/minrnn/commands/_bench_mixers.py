"""minrnn bench mixers"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minrnn.errors import UserError
from minrnn.fused import BlockLinear
from minrnn.mixers import Mixer, build, names
from minrnn.models import parse_pattern
from minrnn.recurrence import backend
from minrnn.timing import environment, interleaved_medians
from minrnn.training._allocator import keep_freed_memory
from minrnn.training._files import write_json, write_picture
from minrnn.training._progress import display

from ._bench_layers import parse_size
from ._parse import parse

VARIANTS = ("qrnn:pooling=f", "qrnn:pooling=ifo", "sru:version=1", "hgrn:complex=false", "rwkv4:channel_mix=false")
TOLERANCE = 2e-2  # of a float32 mixer against its definition in float64, relative to the largest value
CHECKED = (2, 130)  # B, T of that comparison
WARM_UP = 3  # rounds at least, and seconds: then the allocator has all blocks that it needs and page faults end
PEER_REPEATS = 2  # of peers, which take seconds to minutes
PREFIX = 1024  # steps before the single steps that are timed


@dataclass(frozen=True)
class BenchMixersOptions:
    """Time every mixer, forward and backward, beside its own projections alone; then against the length at batch 1,
    and one step at a time. Each is checked against its definition first.

    Example:  minrnn bench mixers --json mixers.json --picture mixers.png
    """

    mixers: tuple[str, ...] = ()
    """Mixers as in patterns (example: --mixers mingru "qrnn:pooling=f"); all, and variants, if none are named."""
    size: str = "16x1024x256"
    """Batch x length x width of the comparison with projections."""
    lengths: tuple[int, ...] = (256, 1024, 4096, 16_384, 65_536)
    """Lengths to sweep at batch 1; none with --lengths alone."""
    seconds: float = 15.0
    """A mixer is not timed at a length where one run would take longer, as it grew before."""
    repeats: int = 7
    """Interleaved repeats, of which the median counts."""
    threads: int = 0
    """Processor threads; 0 leaves the choice to torch."""
    peers: bool = False
    """Time the Mamba blocks of mambapy and transformers as well, where they are installed."""
    json: str = ""
    """File to write the figures to."""
    picture: str = ""
    """PNG file to draw the figures to."""


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    options = parse(BenchMixersOptions, "bench mixers", arguments)
    B, T, D = parse_size(options.size)
    if options.repeats < 1:
        raise UserError(f"--repeats is {options.repeats}; it takes 1 or more")
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `minrnn train` does
    modules = build_all(options.mixers or (*names(), *VARIANTS), D)
    record: dict[str, Any] = environment() | {"batch": B, "length": T, "width": D, "repeats": options.repeats}
    show = display()
    try:
        errors = {}
        for name, mixer in modules.items():
            show.busy(f"checking {name}")
            errors[name] = check(name, mixer)
        others: dict[str, nn.Module] = {"nn.LSTM": nn.LSTM(D, D, batch_first=True)}
        record["projections"] = over_projections(modules, others, (B, T, D), options.repeats, show.busy)
        for row in record["projections"]:
            row["error"] = errors.get(row["name"])
        _save(record, options)
        record["lengths"] = against_length(modules, D, options, show.busy)
        _save(record, options)
        record["steps"] = step_by_step(modules, D, options.repeats, show.busy)
        _save(record, options)
        if options.peers:
            record["peers"] = beside_peers((B, T, D), show.busy)
            _save(record, options)
    finally:
        show.close()
    print_table(record)
    if options.picture:
        draw(record, Path(options.picture))
    return 0


def _save(record: dict[str, Any], options: BenchMixersOptions) -> None:
    if options.json:
        write_json(Path(options.json), record)


def build_all(specifications: Sequence[str], D: int) -> dict[str, Mixer]:
    """The mixers of width D, in float32, under the names that they were asked for by; all as the second of 6 layers."""
    modules = {}
    for text in specifications:
        try:
            ((name, chosen),) = parse_pattern(text)
            torch.manual_seed(0)
            modules[text] = build(name, width=D, layer=1, num_layers=6, **chosen)
        except ValueError as error:
            raise UserError(f"--mixers has {text!r}: {error}") from None
    return modules


def check(name: str, mixer: Mixer) -> float:
    """Largest error of output and input gradient against the definition in float64, relative to the largest value."""
    x = torch.randn(*CHECKED, mixer.width, requires_grad=True)
    double = x.detach().double().requires_grad_()
    y, _ = mixer(x)
    upstream = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, upstream)
    mixer.double()
    with backend("definition"):
        expected, _ = mixer(double)
    (expected_dx,) = torch.autograd.grad(expected, double, upstream.double())
    mixer.float()
    pairs = ((y, expected), (dx, expected_dx))
    error = max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)
    if not error <= TOLERANCE:
        raise UserError(f"{name} differs from its definition by {error:.1e}, more than {TOLERANCE:g}; it is not timed")
    return error


def forward_backward(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """A training step's work: the output, and the gradients of x and of all parameters that it uses."""

    def output() -> Tensor:
        y = module(x)
        first: Tensor = y[0] if isinstance(y, tuple) else y
        return first

    wanted = [x, *module.parameters()]
    upstream = torch.randn_like(output())

    def run() -> None:
        torch.autograd.grad(output(), wanted, upstream, allow_unused=True)

    return run


def projections(mixer: Mixer, B: int, T: int) -> Callable[[], None]:
    """The linear maps of a mixer, forward and backward, one after the other on inputs of their own."""
    runs = []
    for module in mixer.modules():
        if isinstance(module, nn.Linear | BlockLinear):
            width = module.in_features if isinstance(module, nn.Linear) else module.width
            runs.append(forward_backward(module, torch.randn(B, T, width, requires_grad=True)))

    def run() -> None:
        for one in runs:
            one()

    return run


def warm_up(runs: dict[str, Callable[[], None]]) -> None:
    end = time.monotonic() + WARM_UP
    rounds = 0
    while rounds < WARM_UP or time.monotonic() < end:
        for run in runs.values():
            run()
        rounds += 1


def over_projections(
    modules: dict[str, Mixer],
    others: dict[str, nn.Module],
    size: tuple[int, int, int],
    repeats: int,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Rows of name, milliseconds, those of the projections alone and the ratio; other modules have milliseconds alone.

    A mixer and its projections are timed as neighbours, and mixer by mixer: their memory comes and goes together.
    """
    rows = []
    x = torch.randn(*size, requires_grad=True)
    for name, module in (modules | others).items():
        runs = {name: forward_backward(module, x)}
        if isinstance(module, Mixer):
            runs["projections"] = projections(module, *size[:2])
        progress(f"{name}: warming up")
        warm_up(runs)
        times = interleaved_medians(runs, repeats, lambda text, name=name: progress(f"{name}: {text}"))  # type: ignore[misc]
        row = {"name": name, "milliseconds": round(times[name], 2)}
        if isinstance(module, Mixer):
            row["projections"] = round(times["projections"], 2)
            row["ratio"] = round(times[name] / times["projections"], 3)
        rows.append(row)
        del runs
        gc.collect()
    return rows


def beside_peers(size: tuple[int, int, int], progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Forward and backward of `mamba` beside those of the peers."""
    x = torch.randn(*size, requires_grad=True)
    mamba = forward_backward(build("mamba", width=size[2]), x)
    rows = []
    for name, module in _peers(size[2]).items():
        times = interleaved_medians({"mamba": mamba, name: forward_backward(module, x)}, PEER_REPEATS, progress)
        row = {"name": name, "milliseconds": round(times[name], 1), "mamba": round(times["mamba"], 1)}
        rows.append(row | {"over_mamba": round(times[name] / times["mamba"], 2)})
    return rows


def _peers(D: int) -> dict[str, nn.Module]:
    """Mamba blocks that others wrote, in the setting of ours, as far as they are installed."""

    def mambapy() -> nn.Module:
        module = importlib.import_module("mambapy.mamba")
        return module.MambaBlock(module.MambaConfig(d_model=D, n_layers=1))  # type: ignore[no-any-return]

    def transformers() -> nn.Module:
        config = importlib.import_module("transformers").MambaConfig(hidden_size=D, state_size=16)
        module = importlib.import_module("transformers.models.mamba.modeling_mamba")
        return module.MambaMixer(config, layer_idx=0)  # type: ignore[no-any-return]

    peers = {}
    for make in (mambapy, transformers):
        try:
            peers[f"Mamba of {make.__name__}"] = make()
        except ImportError:
            print(f"{make.__name__} is not installed and not timed", file=sys.stderr)
    return peers


def against_length(
    modules: dict[str, Mixer], D: int, options: BenchMixersOptions, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Milliseconds of forward and backward by length at batch 1, and the exponent that fits them; mixer by mixer, as
    their memory comes and goes together.
    """
    lengths = sorted(options.lengths)
    rows = []
    for name, mixer in modules.items():
        times: dict[int, float] = {}
        for n, T in enumerate(lengths):
            if expected(times, lengths[:n], T) > options.seconds:
                continue
            runs = {name: forward_backward(mixer, torch.randn(1, T, D, requires_grad=True))}
            progress(f"{name}: warming up for length {T:,}")
            warm_up(runs)
            medians = interleaved_medians(runs, options.repeats, lambda text, T=T: progress(f"length {T:,}: {text}"))  # type: ignore[misc]
            times[T] = medians[name]
            del runs
            gc.collect()
        milliseconds = {str(T): round(t, 3) for T, t in times.items()}
        rows.append({"name": name, "milliseconds": milliseconds, "exponent": exponent(times)})
    return rows


def expected(times: dict[int, float], lengths: Sequence[int], T: int) -> float:
    """Seconds that a run of length T will take, if time grows as it did last; infinite where it was left out before."""
    *_, before, last = (0, 0, *lengths)
    if not last:
        return 0.0
    growth = times[last] / times[before] if before and last in times else T / last
    return times.get(last, np.inf) * growth / 1e3


def exponent(times: dict[int, float]) -> float | None:
    """The slope of log time over log length, by least squares; None for fewer than two lengths."""
    if len(times) < 2:
        return None
    slope, _ = np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)
    return round(float(slope), 3)


@torch.inference_mode()
def step_by_step(
    modules: dict[str, Mixer], D: int, repeats: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Microseconds of one step of one sequence after `PREFIX` steps, and the bytes of its state then."""
    runs, sizes = {}, {}
    step = torch.randn(1, 1, D)
    for name, mixer in modules.items():
        mixer.eval()
        _, state = mixer(torch.randn(1, PREFIX, D))
        sizes[name] = sum(tensor.numel() * tensor.element_size() for tensor in state)
        runs[name] = lambda mixer=mixer, state=state: mixer(step, state)
    times = interleaved_medians(runs, repeats, lambda text: progress(f"single steps: {text}"))
    for mixer in modules.values():
        mixer.train()
    return [{"name": name, "microseconds": round(1e3 * t, 1), "state_bytes": sizes[name]} for name, t in times.items()]


def print_table(record: dict[str, Any]) -> None:
    """One line for each mixer."""
    lengths = {row["name"]: row for row in record["lengths"]}
    steps = {row["name"]: row for row in record["steps"]}
    swept = _lengths(record)
    print(
        f"\nForward + backward at batch {record['batch']}, length {record['length']:,}, width {record['width']}, and "
        "over the projections alone; milliseconds at batch 1 by length; single steps"
    )
    head = [f"{'ms':>8}", f"{'/ proj.':>8}", *(f"{f'T {T:,}':>10}" for T in swept), f"{'exponent':>9}"]
    print(f"{'':28}{''.join(head)}{'us/step':>9}{'state kB':>10}{'error':>9}")
    for row in record["projections"]:
        line = f"{row['name']:28}{row['milliseconds']:8.1f}"
        if "ratio" in row:
            times, step = lengths[row["name"]]["milliseconds"], steps[row["name"]]
            line += f"{row['ratio']:8.2f}"
            line += "".join(f"{times[str(T)]:10.1f}" if str(T) in times else f"{'':10}" for T in swept)
            slope = lengths[row["name"]]["exponent"]
            line += f"{'' if slope is None else f'{slope:.2f}':>9}"
            line += f"{step['microseconds']:9.0f}{step['state_bytes'] / 1e3:10.1f}{row['error']:9.0e}"
        print(line)
    for row in record.get("peers", []):
        print(f"{row['name']:28}{row['milliseconds']:8.1f}, {row['over_mamba']:.1f} times mamba beside it")
    sys.stdout.flush()


def _lengths(record: dict[str, Any]) -> list[int]:
    return sorted({int(T) for row in record["lengths"] for T in row["milliseconds"]})


def draw(record: dict[str, Any], path: Path) -> None:
    """Ratios over the projections as bars, and milliseconds by length, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    bars, curves = figure.subplots(1, 2, width_ratios=(2, 3))
    rows = sorted((row for row in record["projections"] if "ratio" in row), key=lambda row: row["ratio"])
    labels = [row["name"] for row in rows]
    bars.barh(labels, [row["ratio"] for row in rows], color="tab:blue")
    for place, row in enumerate(rows):
        bars.text(row["ratio"], place, f" {row['ratio']:.2f}", va="center", fontsize=8)
    bars.invert_yaxis()
    bars.axvline(1, color="black", linewidth=0.8)
    bars.set(
        xlim=(0, 1.15 * max(row["ratio"] for row in rows)),
        title=f"forward + backward over the projections alone\n"
        f"batch {record['batch']}, length {record['length']:,}, width {record['width']}",
    )
    bars.tick_params(axis="y", labelsize=8)
    styles = ("-", "--", ":")
    for place, row in enumerate(record["lengths"]):
        times = {int(T): t for T, t in row["milliseconds"].items()}
        curves.plot(
            list(times),
            list(times.values()),
            styles[place // 10 % 3],
            color=f"C{place % 10}",
            marker=".",
            label=row["name"],
        )
    swept = _lengths(record)
    curves.set(xscale="log", yscale="log", xlabel="length", ylabel="ms", title="forward + backward at batch 1")
    if swept:
        curves.set_xticks(swept, [f"{T:,}" for T in swept])
    curves.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    write_picture(path, figure, dpi=110)
