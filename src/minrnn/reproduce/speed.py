from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from ._experiment import ByScale, Cell, Control, Experiment, Published, Results, Scale, Table, Verdict, Watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

LENGTHS: Mapping[Scale, Sequence[int]] = {
    "smoke": (64,),
    "cpu": (64, 256, 512, 1024, 4096, 16_384, 65_536),
    "paper": (64, 256, 512, 1024, 4096, 16_384, 65_536),
}
TOKENS = 65_536  # B x T at most
LONGEST = dict.fromkeys(("GRUCell loop", "LSTMCell loop", "definition", "attention"), 16_384)
"""Of those of which a longer call would take minutes."""
SAME = (("minGRU", "definition"), ("nn.GRU", "GRUCell loop"), ("nn.LSTM", "LSTMCell loop"))
"""Two forms of one equation, compared before they are timed."""
TOLERANCE = 1e-4
EQUAL = ", equal parameters"
NARROW = {f"nn.GRU{EQUAL}": 29, f"nn.LSTM{EQUAL}": 32}
"""Hidden sizes at which they have as many parameters as minGRU and minLSTM of 64."""
MODELS = (
    "minGRU",
    "minLSTM",
    "minGRU, log space",
    "nn.GRU",
    "nn.LSTM",
    *NARROW,
    "GRUCell loop",
    "LSTMCell loop",
    "Mamba",
    "attention",
    "definition",
)


class Speed(Experiment):
    name = "speed"
    claim = (
        "At length 512 a training step of minGRU is 175 times faster than that of GRU, and minLSTM 235 times than "
        "LSTM; at 4,096, 1,324 and 1,361 times. Both take 88 % more memory."
    )
    source = "arXiv 2410.01201, Figure 1: a T4 GPU, batch 64; the width is not given"
    published = (
        Published("length 512, ms: minGRU, minLSTM, Mamba", "2.97, 2.72, 2.71"),
        Published("length 4,096, ms: minGRU, minLSTM, Mamba", "3.41, 3.25, 3.15"),
        Published("length 512, times faster: minGRU than GRU, minLSTM than LSTM", "175, 235"),
        Published("length 4,096, times faster", "1,324, 1,361"),
        Published("memory, minGRU over GRU", "+88 %"),
        Published(
            "length 512, width 256, another GPU, against a loop: minGRU, minLSTM (MVA re-run)", "50, 39", "others"
        ),
    )
    differs = ByScale(
        smoke="length 64, one repeat: shows that it runs.",
        cpu=(
            "two cores instead of a T4; width 64; batch 64, or what makes 65,536 tokens of longer sequences; attention "
            "and the loops to length 16,384. Beside the loops of nn.GRUCell and nn.LSTMCell in Python, which the "
            "paper's baselines must be (about 1 ms a step), stand nn.GRU and nn.LSTM, which anyone would use, the same "
            "with as many parameters as minGRU and minLSTM, 29 and 32 wide, and minGRU as such a loop, 'definition'. "
            "'attention' is one layer of it without MLP, 'Mamba' its whole block, twice as wide inside. Memory that "
            "was freed is kept for the next call, as in all training here."
        ),
        paper="needs the GPU of the paper; on a processor, batch 64 at every length.",
    )
    minutes = ByScale(smoke=1, cpu=21, paper=600)
    rule = (
        "Not tested here: a processor cannot confirm what a T4 does. What is shown is the same comparison on this "
        "machine, fully timed: forward and backward, medians of interleaved repeats. Positive control: minGRU is "
        "faster than the loop of nn.GRUCell at every length that the loop is timed at. Negative control: the same "
        "recurrence by definition, a loop in Python, is slower than the kernel at all of them."
    )

    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        repeats = 1 if scale == "smoke" else 3
        return [
            Cell(
                "all",
                0,
                f"length {T}",
                {
                    "T": T,
                    "B": 64 if scale == "paper" else min(64, TOKENS // T),
                    "D": 64,
                    "models": list(MODELS),
                    "repeats": repeats,
                },
                alone=True,
            )
            for T in LENGTHS[scale]
        ]

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        import torch

        from minrnn.timing import in_new_process, interleaved_medians

        B, T, D = (cell.options[axis] for axis in "BTD")
        x = torch.randn(B, T, D, requires_grad=True)
        names = [name for name in cell.options["models"] if LONGEST.get(name, T) >= T]
        steps = {name: Step(name, x) for name in names}
        pairs = [(fast, slow) for fast, slow in SAME if slow in steps]
        errors = [(steps[fast].output() - steps[slow].output()).abs().max().item() for fast, slow in pairs]
        if max(errors, default=0.0) > TOLERANCE:
            raise RuntimeError(f"one of {pairs} differ by {max(errors):.1e}, more than {TOLERANCE:g}; nothing is timed")
        milliseconds = interleaved_medians(steps, cell.options["repeats"], partial(watch, 0.5))
        memory = {}
        for name in names:
            watch(0.9, f"memory of {name}")
            memory[name] = in_new_process(__name__, name, *map(str, (B, T, D)))
        return {
            "milliseconds": {name: float(f"{one:.4g}") for name, one in milliseconds.items()},
            "bytes": memory,
            "error": max(errors, default=None),
        }

    def judge(self, results: Results) -> Verdict:
        faster = [
            one.result["milliseconds"]["minGRU"] < one.result["milliseconds"]["GRUCell loop"]
            for one in results
            if "GRUCell loop" in one.result["milliseconds"]
        ]
        slow = [
            one.result["milliseconds"]["definition"] > one.result["milliseconds"]["minGRU"]
            for one in results
            if "definition" in one.result["milliseconds"]
        ]
        words = []
        for one in results:
            if one.cell.options["T"] in (64, 512, 4096):
                pairs = [
                    ("GRUCell loop", "minGRU"),
                    ("nn.GRU", "minGRU"),
                    ("LSTMCell loop", "minLSTM"),
                    ("nn.LSTM", "minLSTM"),
                    *zip(NARROW, ("minGRU", "minLSTM"), strict=True),
                ]
                shown = ", ".join(f"{fast} {_times(one.result, slow, fast)} as fast as {slow}" for slow, fast in pairs)
                memory = one.result["bytes"]
                if all(memory.get(name) for name in ("minGRU", "nn.GRU", "GRUCell loop")):
                    over = (memory["minGRU"] / memory[name] for name in ("nn.GRU", "GRUCell loop"))
                    shown += ", minGRU takes {:.2f} times the memory of nn.GRU and {:.2f} of the loop".format(*over)
                words.append(f"at {one.cell.options['T']:,}: {shown}")
        return Verdict(
            "not tested here",
            "; ".join(words),
            Control(
                "minGRU is faster than the loop of GRUCell at every length",
                f"{sum(faster)} of {len(faster)}",
                all(faster),
            ),
            Control("the definition is slower than the kernel", f"{sum(slow)} of {len(slow)}", all(slow)),
        )

    def table(self, results: Results) -> Table:
        rows = []
        for one in results:
            milliseconds, memory = one.result["milliseconds"], one.result["bytes"]
            row = [f"{one.cell.options['T']:,}", str(one.cell.options["B"])]
            row += [_figure(milliseconds[name]) if name in milliseconds else "—" for name in MODELS]
            rows.append([*row[:2], "ms", *row[2:]])
            if all(memory.get(name) for name in ("minGRU", "nn.GRU")):
                megabytes = (_figure(memory[name] / 1e6) if memory.get(name) else "—" for name in MODELS)
                rows.append(["", "", "MB", *megabytes])
        return Table(["length", "batch", "", *MODELS], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        from . import _picture

        left, right = figure.subplots(1, 2)
        for axes, what, label, unit in (
            (left, "milliseconds", "ms, forward + backward", 1.0),
            (right, "bytes", "MB above the start", 1e6),
        ):
            for index, name in enumerate(MODELS):
                points = [
                    (one.cell.options["T"], one.result[what][name] / unit)
                    for one in results
                    if one.result[what].get(name)
                ]
                if points:
                    axes.plot(*zip(*points, strict=True), "o-", label=name, color=_picture.COLOURS[index], markersize=4)
            axes.set(xscale="log", yscale="log", xlabel=f"length T, at most {TOKENS:,} tokens a batch", ylabel=label)
            axes.grid(alpha=0.3)
        right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


class Step:
    """Forward and backward of a model of width D on x (B, T, D), when called. Models of one equation have one seed, and
    with it the same weights.
    """

    def __init__(self, name: str, x: Tensor) -> None:
        import torch
        from torch import nn

        from minrnn import MinGRU, MinLSTM
        from minrnn.mixers import build

        B, T, D = x.shape
        H = NARROW.get(name, D)
        layers: dict[str, Callable[[], nn.Module]] = {
            "minGRU": lambda: MinGRU(D, D, batch_first=True),
            "definition": lambda: MinGRU(D, D, batch_first=True),
            "minLSTM": lambda: MinLSTM(D, D, batch_first=True),
            "minGRU, log space": lambda: MinGRU(D, D, batch_first=True, activation="g"),
            "nn.GRU": lambda: nn.GRU(D, H, batch_first=True),
            "nn.LSTM": lambda: nn.LSTM(D, H, batch_first=True),
            "GRUCell loop": lambda: nn.GRUCell(D, D),
            "LSTMCell loop": lambda: nn.LSTMCell(D, D),
            "Mamba": lambda: build("mamba", width=D),
            "attention": lambda: build("attention", width=D),
        }
        torch.manual_seed(0)
        self.layer = layers[name.removesuffix(EQUAL)]()
        self.name, self.x, self.upstream = name, x, torch.randn(B, T, H)
        self.backend = {"minGRU, log space": "logspace", "definition": "definition"}.get(name)

    def __call__(self) -> None:
        import torch

        torch.autograd.grad(self.output(), [self.x, *self.layer.parameters()], self.upstream)

    def output(self) -> Tensor:
        """(B, T, H)"""
        from minrnn.recurrence import backend

        if "loop" in self.name:
            return self._by_cells()
        with backend(self.backend) if self.backend else nullcontext():
            y: Tensor = self.layer(self.x)[0]
        return y

    def _by_cells(self) -> Tensor:
        import torch

        state: Any = None
        states = []
        for x_t in self.x.unbind(1):
            state = self.layer(x_t, state)
            states.append(state if isinstance(state, torch.Tensor) else state[0])
        return torch.stack(states, dim=1)


def _figure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(result: Mapping[str, Any], slow: str, fast: str) -> str:
    milliseconds = result["milliseconds"]
    return f"{milliseconds[slow] / milliseconds[fast]:.3g} times" if slow in milliseconds else "—"


def _memory(name: str, *size: int) -> None:
    """Print how many bytes a step takes beyond what the process has, as JSON."""
    import torch

    from minrnn.timing import peak_extra_bytes
    from minrnn.training._allocator import keep_freed_memory

    keep_freed_memory()  # as where it is timed
    small = torch.randn(1, 2, size[2], requires_grad=True)
    Step(name, small)()  # compiles and imports what is needed
    run = Step(name, torch.randn(*size, requires_grad=True))
    print(json.dumps(peak_extra_bytes(run)))


if __name__ == "__main__":
    _memory(sys.argv[1], *map(int, sys.argv[2:]))
