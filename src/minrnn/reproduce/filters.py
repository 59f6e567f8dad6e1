from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ._contest import Contest, Contestant
from ._experiment import ByScale, Cell, Control, Results, Scale, Table, Verdict, Watch
from ._fit import Fit, SequenceModel, train
from ._judging import answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOGITS = (-4.0, -2.0, 0.0)  # of fixed gates
FREQUENCIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45)  # cycles a step
QUANTILES = (10, 25, 50, 75, 90)
AGREES = 1e-3


class Filters(Contest):
    name = "filters"
    claim = (
        "Such recurrences are IIR filters: with a fixed gate a channel is a one-pole low-pass, and training sets its "
        "time constants (an argument of readers)."
    )
    source = "arguments of readers; one-pole filter: H(f) = z / (1 - (1 - z) exp(-2 pi i f))"
    differs = ByScale(
        smoke="python-docs, width 16, 4 steps: shows that it runs.",
        cpu=(
            "minGRU and minLSTM of 3 layers, width 192, expansion 2, trained on Shakespeare for 400 steps of 32 "
            "windows of 128, one seed."
        ),
        paper="there is none.",
    )
    minutes = ByScale(smoke=1, cpu=8, paper=8)
    rule = (
        f"Holds: with fixed gates the kernel's response to sines is that of the one-pole filter within {AGREES:g}, and "
        "in the "
        "trained model gates are as good as fixed: in every layer at least half of the channels have a gate logit that "
        "varies "
        "by less than 0.5. In part: the first only; then a channel is a filter whose constant the input sets at each "
        "step. "
        "Positive control: an impulse decays by 1 - z a step. Negative control: the filter of twice the gate is told "
        "apart."
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        return [
            Contestant("mingru", "mingru:expansion=2*3"),
            Contestant("minlstm", "minlstm:expansion=2*3"),
        ]

    def settings(self, scale: Scale) -> dict[str, Fit]:
        from .shakespeare import TEXT, Shakespeare

        fit = Shakespeare().settings("smoke" if scale == "smoke" else "cpu")[TEXT]
        return {"": replace(fit, steps=min(fit.steps, 400), evaluations=2, weight_decay=0.1)}

    def seeds(self, contestant: Contestant, setting: str) -> Sequence[int]:
        return (0,)

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        fit = Fit.from_json(cell.options)
        model, result = train(fit, cell.seed, watch)
        return result | {"layers": time_constants(model, fit), "response": response()}

    def judge(self, results: Results) -> Verdict:
        points = [point for one in results for point in one.result["response"]]
        worst = max(abs(point["measured"] - point["filter"]) for point in points)
        apart = max(abs(point["measured"] - point["twice"]) for point in points)
        decay = max(point["impulse_error"] for point in points)
        fixed = [layer["fixed"] for one in results for layer in one.result["layers"]]
        agrees = worst <= AGREES
        medians = "; ".join(
            f"{one.cell.model} " + ", ".join(f"{layer['half_lives'][2]:.1f}" for layer in one.result["layers"])
            for one in results
        )
        return Verdict(
            answer(holds=agrees and min(fixed) >= 0.5, in_part=agrees),
            f"responses within {worst:.1e}; median half-life of a channel in steps, by layer: {medians}; channels "
            "whose gate "
            f"hardly varies: {100 * min(fixed):.0f} to {100 * max(fixed):.0f} % of a layer",
            Control("an impulse decays by 1 - z a step", f"{decay:.1e}", decay <= 1e-5),
            Control("the filter of twice the gate is told apart", f"{apart:.2f}", apart > 10 * AGREES),
        )

    def table(self, results: Results) -> Table:
        rows = [
            [
                one.cell.model,
                str(number + 1),
                *(f"{value:.2f}" for value in layer["half_lives"]),
                f"{100 * layer['fixed']:.0f} %",
            ]
            for one in results
            for number, layer in enumerate(one.result["layers"])
        ]
        return Table(["model", "layer", *(f"half-life, {q} %" for q in QUANTILES), "gate hardly varies"], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        from . import _picture

        left, right = figure.subplots(1, 2)
        response = next(iter(results)).result["response"]
        for index, logit in enumerate(LOGITS):
            points = [point for point in response if point["logit"] == logit]
            colour = _picture.COLOURS[index]
            left.plot([p["frequency"] for p in points], [p["filter"] for p in points], "-", color=colour)
            label = f"z = {1 / (1 + math.exp(-logit)):.3f}"
            left.plot([p["frequency"] for p in points], [p["measured"] for p in points], "o", color=colour, label=label)
        left.set(
            xscale="log",
            yscale="log",
            xlabel="cycles a step",
            ylabel="gain; lines: the one-pole filter, dots: the kernel",
        )
        left.legend(fontsize=8)
        for index, one in enumerate(results):
            for number, layer in enumerate(one.result["layers"]):
                label = f"{one.cell.model}, layer {number + 1}"
                colour = _picture.COLOURS[3 * index + number]
                right.plot(layer["half_lives"], QUANTILES, "o-", color=colour, label=label, markersize=4)
        right.set(xscale="log", xlabel="half-life of a channel on held-out text, steps", ylabel="% of channels below")
        for formatted in (right.xaxis.set_major_formatter, right.xaxis.set_minor_formatter):
            formatted("{x:.1f}")
        right.legend(fontsize=7)
        for axes in (left, right):
            axes.grid(alpha=0.3)


def time_constants(model: SequenceModel, fit: Fit) -> list[dict[str, Any]]:
    """Of each layer, over held-out text: quantiles over channels of the half-life ln 2 / mean(-ln a), where a_t is
    what a step keeps of the state, and the share of channels whose logit of a_t has a deviation below 0.5.
    """
    import torch

    from . import tasks

    task = tasks.make(fit.task, fit.setting)
    inputs = next(task.held_out(64, 64)).inputs
    kept: list[Any] = []

    def hook(cell: Any, arguments: Any, output: Any) -> None:
        parts = cell.projection(arguments[0]).chunk(2 if "mingru" in cell.recurrence else 3, dim=-1)
        if len(parts) == 2:  # 1 - z
            kept.append(-parts[0])
        else:  # f / (f + i) = sigmoid(log f - log i)
            kept.append(torch.nn.functional.logsigmoid(parts[0]) - torch.nn.functional.logsigmoid(parts[1]))

    handles = [block.mixer.cell.register_forward_hook(hook) for block in model.stack.blocks]  # type: ignore[union-attr]
    model.eval()
    with torch.no_grad():
        model.stack(model.enter(inputs))
    for handle in handles:
        handle.remove()
    found = []
    for logit in kept:  # (B, T, H)
        decay = -torch.nn.functional.logsigmoid(logit).flatten(0, 1).mean(dim=0)
        half_lives = math.log(2) / decay
        levels = torch.tensor([q / 100 for q in QUANTILES])
        found.append(
            {
                "half_lives": [float(f"{value:.4g}") for value in half_lives.quantile(levels).tolist()],
                "fixed": float((logit.flatten(0, 1).std(dim=0) < 0.5).float().mean()),
            }
        )
    return found


def response(T: int = 4000) -> list[dict[str, float]]:
    """Gain of minGRU with a fixed gate for sines, after the start has died away, beside the filter's."""
    import torch

    from minrnn.recurrence import mingru

    points = []
    t = torch.arange(T)
    for logit in LOGITS:
        z = 1 / (1 + math.exp(-logit))
        impulse = torch.zeros(1, 50, 1)
        impulse[:, 0] = 1
        h = mingru(torch.full_like(impulse, logit), impulse)[0].flatten()
        expected = z * (1 - z) ** torch.arange(50)
        impulse_error = (h - expected).abs().max().item()
        for frequency in FREQUENCIES:
            wave = 2 * math.pi * frequency * t
            x = torch.stack([wave.sin(), wave.cos()])[..., None].float()
            h = mingru(torch.full_like(x, logit), x)[0][:, T // 2 :, 0]
            measured = h.square().sum(dim=0).sqrt().mean().item()
            gain, twice = (
                abs(
                    pole
                    / (1 - (1 - pole) * complex(math.cos(-2 * math.pi * frequency), math.sin(-2 * math.pi * frequency)))
                )
                for pole in (z, min(2 * z, 0.999))
            )
            points.append(
                {
                    "logit": logit,
                    "frequency": frequency,
                    "measured": measured,
                    "filter": gain,
                    "twice": twice,
                    "impulse_error": impulse_error,
                }
            )
    return points
