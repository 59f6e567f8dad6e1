from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._experiment import ByScale, Cell, Control, Experiment, Published, Results, Scale, Table, Verdict, Watch
from ._judging import answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PUBLISHED = {"mingru": ("gru", (33, 22, 17, 13)), "minlstm": ("lstm", (38, 25, 19, 15))}
EXPANSIONS = (1, 2, 3, 4)


class Parameters(Experiment):
    name = "parameters"
    claim = (
        "minGRU has 33, 22, 17, 13 % of the parameters of GRU, and minLSTM 38, 25, 19, 15 % of those of LSTM, for d_h "
        "= 1, 2, 3, 4 d_x."
    )
    source = "arXiv 2410.01201, sections 3.1 and 3.2"
    published = tuple(
        Published(f"{model} over {other}, d_h = 1, 2, 3, 4 d_x", ", ".join(f"{share} %" for share in shares))
        for model, (other, shares) in PUBLISHED.items()
    )
    differs = ByScale(
        smoke="nothing: width 64.",
        cpu="nothing: counted from modules of width 512, weights without biases.",
        paper="nothing: counted from modules of width 512, weights without biases.",
    )
    minutes = ByScale(smoke=1, cpu=1, paper=1)
    rule = (
        "Holds: all eight shares, counted from the weights of modules, round to the published ones. Shown beside it "
        "is the share with the projection back to d_x that the paper's block has, which a GRU does not need. Positive "
        "control: nn.GRU has 3 d_h (d_x + d_h) weights. Negative control: with the projection back, no share rounds "
        "to the published one but by chance: at most one of eight."
    )

    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        width = 64 if scale == "smoke" else 512
        return [
            Cell(model, 0, f"expansion {expansion}", {"width": width, "expansion": expansion, "beside": other})
            for model, (other, _) in PUBLISHED.items()
            for expansion in EXPANSIONS
        ]

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        from torch import nn

        from minrnn import MinGRU, MinLSTM
        from minrnn.mixers import build

        D, H = cell.options["width"], cell.options["width"] * cell.options["expansion"]
        layers: dict[str, Any] = {"mingru": MinGRU, "minlstm": MinLSTM, "gru": nn.GRU, "lstm": nn.LSTM}
        return {
            "layer": _weights(layers[cell.model](D, H)),
            "block": _weights(build(cell.model, width=D, expansion=float(cell.options["expansion"]))),
            "beside": _weights(layers[cell.options["beside"]](D, H)),
            "formula": (3 if cell.options["beside"] == "gru" else 4) * H * (D + H),
        }

    def judge(self, results: Results) -> Verdict:
        right = with_projection = 0
        for one in results:
            share = PUBLISHED[one.cell.model][1][one.cell.options["expansion"] - 1]
            right += _close(_percent(one.result, "layer"), share)
            with_projection += _close(_percent(one.result, "block"), share)
        counted = all(one.result["beside"] == one.result["formula"] for one in results)
        return Verdict(
            answer(holds=right == len(results), in_part=right > 0),
            f"{right} of {len(results)} shares agree",
            Control("torch's layers have as many weights as their equations", str(counted), counted),
            Control("with the projection back, at most one share agrees", str(with_projection), with_projection <= 1),
        )

    def table(self, results: Results) -> Table:
        rows = [
            [
                one.cell.model,
                str(one.cell.options["expansion"]),
                f"{PUBLISHED[one.cell.model][1][one.cell.options['expansion'] - 1]} %",
                f"{_percent(one.result, 'layer'):.1f} %",
                f"{_percent(one.result, 'block'):.1f} %",
            ]
            for one in results
        ]
        return Table(["model", "d_h over d_x", "published", "counted", "with the projection back"], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        for axes, (model, (other, shares)) in zip(figure.subplots(1, 2, sharey=True), PUBLISHED.items(), strict=True):
            seeds = [results.of(model, f"expansion {expansion}")[0] for expansion in EXPANSIONS]
            axes.plot(EXPANSIONS, shares, "kx", label="published", markersize=9)
            axes.plot(EXPANSIONS, [_percent(one, "layer") for one in seeds], "o-", label="layer", markersize=4)
            axes.plot(
                EXPANSIONS,
                [_percent(one, "block") for one in seeds],
                "o--",
                label="with the projection back",
                markersize=4,
            )
            axes.set(
                xlabel="d_h over d_x",
                ylabel=f"% of the weights of {other}",
                title=model,
                xticks=EXPANSIONS,
                ylim=(0, None),
            )
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)


def _weights(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)


def _percent(result: Any, what: str) -> float:
    return 100 * float(result[what]) / float(result["beside"])


def _close(share: float, published: int) -> bool:
    """Whether a share is the published one, rounded up or down."""
    return abs(share - published) < 1
