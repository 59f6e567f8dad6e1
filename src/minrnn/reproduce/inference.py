from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ._experiment import ByScale, Cell, Control, Experiment, Published, Results, Scale, Table, Verdict, Watch
from ._judging import answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT = "attention, kept"
EQUAL_PARAMETERS = {"gru equal parameters": ("gru", 0.54), "lstm equal parameters": ("lstm", 0.555)}
"""Mixers with their expansion: as many parameters as mingru's, and as minlstm's."""
MODELS = ("mingru", "minlstm", "gru", "lstm", *EQUAL_PARAMETERS, "mamba", "attention", KEPT)
BATCHES = (1, 16, 64)
CONTEXTS = (1, 64, 1024, 16_384, 65_536)
MOST_CACHED = 2**21  # B x context of attention's cache: 4 GB in float32 at width 256


class Inference(Experiment):
    name = "inference"
    claim = (
        "A sequential step of minGRU is 19.6 % and of minLSTM 41.5 % faster than that of GRU and LSTM at batch 64, "
        "Mamba's is slower; and it costs the same after any context, unlike attention's."
    )
    source = "arXiv 2410.01201, appendix on inference (version 3)"
    published = (
        Published("batch 64: minGRU over GRU, minLSTM over LSTM", "19.6 %, 41.5 % faster", "paper, unverified"),
        Published("batch 64: Mamba", "slower than both", "paper, unverified"),
    )
    differs = ByScale(
        smoke="width 64, contexts 1 and 64, one repeat: shows that it runs.",
        cpu=(
            "two cores; one mixer of width 256 with its way in and out: gru and lstm by the equations of a step, which "
            "take less time than a call of nn.GRU, Mamba with its convolution and twice as wide inside. attention's "
            "cache is filled, not computed; 'attention' copies and turns it anew at each step, as the layer here does, "
            "'attention, kept' is the least that a step can take: its maps, and a product with keys that were turned "
            "and put in their place before. gru and lstm stand at equal width, as in the paper, and at equal "
            "parameters. Of each batch all mixers after all contexts are timed in turns."
        ),
        paper="as at cpu; the paper's machine and width are not given.",
    )
    minutes = ByScale(smoke=1, cpu=5, paper=5)
    rule = (
        "Holds: at batch 64 and after 1 token, mingru's step is shorter than gru's, minlstm's than lstm's and both "
        "than mamba's; and at batch 1, after 65,536 tokens, mingru's step takes at most 1.2 times that after 1. In "
        "part: one of the two halves. Positive control: there attention's step, keys kept, takes at least 4 times that "
        "after 1. Negative control: gru's takes at most 1.3 times."
    )

    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        contexts, width, repeats = ((1, 64), 64, 1) if scale == "smoke" else (CONTEXTS, 256, 9)
        return [
            Cell(
                "all",
                0,
                f"batch {B}",
                {"B": B, "D": width, "contexts": list(contexts), "models": list(MODELS), "repeats": repeats},
                alone=True,
            )
            for B in BATCHES
        ]

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        import torch

        from minrnn.timing import interleaved_medians

        B, D, contexts = cell.options["B"], cell.options["D"], cell.options["contexts"]
        runs: dict[str, partial[None]] = {}
        found = []
        for context in contexts:
            sizes = {}
            for name in cell.options["models"]:
                if "attention" in name and B * context > MOST_CACHED:
                    continue
                mixer = build_mixer(name, D).eval()
                x = torch.randn(B, 1, D)
                with torch.no_grad():
                    _, state = mixer(torch.randn(B, min(context, 256), D))
                if "attention" in name:
                    keys = torch.randn(B, context, *state.keys.shape[2:])
                    state = type(state)(keys, torch.randn_like(keys), torch.ones(B, context, dtype=torch.bool))
                sizes[name] = sum(tensor.nbytes for tensor in state)
                runs[_run_of(name, context)] = partial(_kept_step if name == KEPT else _step, mixer, x, state)
            found.append({"context": context, "bytes": sizes})
        milliseconds = interleaved_medians(runs, cell.options["repeats"], partial(watch, 0.5))
        for point in found:
            point["microseconds"] = {
                name: round(1e3 * milliseconds[_run_of(name, point["context"])], 1) for name in point["bytes"]
            }
        return {"contexts": found}

    def judge(self, results: Results) -> Verdict:
        (widest,) = results.of("all", f"batch {BATCHES[-1]}")
        (single,) = results.of("all", f"batch {BATCHES[0]}")
        at = widest["contexts"][0]["microseconds"]
        faster = (
            at["mingru"] < at["gru"] and at["minlstm"] < at["lstm"] and max(at["mingru"], at["minlstm"]) < at["mamba"]
        )
        first, last = (single["contexts"][place]["microseconds"] for place in (0, -1))
        growth = {name: last[name] / first[name] for name in MODELS}
        constant = growth["mingru"] <= 1.2
        gru, lstm, few_gru, few_lstm = (
            f"{100 * (at[old] / at[new] - 1):.0f} %"
            for old, new in zip(("gru", "lstm", *EQUAL_PARAMETERS), ("mingru", "minlstm") * 2, strict=True)
        )
        longest = single["contexts"][-1]["context"]
        words = (
            f"at batch 64 mingru's step is {gru} faster than gru's ({few_gru} at equal parameters), minlstm's {lstm} "
            f"faster than lstm's ({few_lstm}), mamba's takes {at['mamba'] / at['mingru']:.1f} times mingru's; at batch "
            f"1 a step after {longest:,} tokens takes "
            + ", ".join(f"{growth[name]:.2f} times ({name})" for name in MODELS)
            + " that after 1"
        )
        return Verdict(
            answer(holds=faster and constant, in_part=faster or constant),
            words,
            Control("attention's step, kept, grows at least 4 times", f"{growth[KEPT]:.1f}", growth[KEPT] >= 4),
            Control("gru's grows at most 1.3 times", f"{growth['gru']:.2f}", growth["gru"] <= 1.3),
        )

    def table(self, results: Results) -> Table:
        rows = [
            [
                str(one.cell.options["B"]),
                f"{point['context']:,}",
                *(f"{point['microseconds'][name]:,.0f}" if name in point["microseconds"] else "—" for name in MODELS),
                f"{point['bytes']['mingru'] / 1e3:,.1f}",
                f"{point['bytes']['attention'] / 1e3:,.1f}" if "attention" in point["bytes"] else "—",
            ]
            for one in results
            for point in one.result["contexts"]
        ]
        header = ["batch", "context", *(f"{name}, µs" for name in MODELS), "state of mingru, kB", "of attention, kB"]
        return Table(header, rows)

    def draw(self, results: Results, figure: Figure) -> None:
        from . import _picture

        for axes, B in zip(figure.subplots(1, len(BATCHES), sharey=True), BATCHES, strict=True):
            (result,) = results.of("all", f"batch {B}")
            for index, name in enumerate(MODELS):
                points = [
                    (point["context"], point["microseconds"][name])
                    for point in result["contexts"]
                    if name in point["microseconds"]
                ]
                axes.plot(*zip(*points, strict=True), "o-", label=name, color=_picture.COLOURS[index], markersize=4)
            axes.set(xscale="log", yscale="log", xlabel="tokens before", title=f"batch {B}")
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("µs a step")
        figure.axes[0].legend(fontsize=7)


def _run_of(name: str, context: int) -> str:
    return f"{name} after {context:,}"


def build_mixer(name: str, D: int) -> Any:
    from minrnn.mixers import build

    if name in EQUAL_PARAMETERS:
        kind, expansion = EQUAL_PARAMETERS[name]
        return build(kind, width=D, expansion=expansion)
    return build(name.removesuffix(", kept"), width=D)


def _step(mixer: Any, x: Any, state: Any) -> None:
    import torch

    with torch.no_grad():
        mixer(x, state)


def _kept_step(mixer: Any, x: Any, state: Any) -> None:
    """A step of attention whose newest key and value have their place in the cache already."""
    import torch
    import torch.nn.functional as F

    with torch.no_grad():
        q, k, v = mixer.projection(x).view(*x.shape[:2], 3, *state.keys.shape[2:]).unbind(dim=2)
        state.keys[:, -1:], state.values[:, -1:] = k, v
        y = F.scaled_dot_product_attention(*(tensor.transpose(1, 2) for tensor in (q, state.keys, state.values)))
        mixer.down(y.transpose(1, 2).flatten(2))
