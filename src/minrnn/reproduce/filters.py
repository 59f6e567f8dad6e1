from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ._contest import Contest, Contestant
from ._experiment import ByScale, Cell, Control, Results, Scale, Table, Verdict, Watch
from ._fit import Fit, SequenceModel, fresh_model, train
from ._judging import answer, mean, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOGITS = (-4.0, -2.0, 0.0)  # of fixed gates
FREQUENCIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45)  # cycles a step
QUANTILES = (10, 25, 50, 75, 90)
AGREES = 1e-3
MOVED = 1.5  # times
FRESH = "fresh"


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
            "minGRU and minLSTM of 3 layers with Conv4 and MLP, width 192, expansion 2, trained on Shakespeare for 400 "
            "steps of 32 windows of 128 at learning rate 0.003."
        ),
        paper="there is none.",
    )
    minutes = ByScale(smoke=1, cpu=18, paper=18)
    rule = (
        f"Holds: with fixed gates the kernel's response to sines is that of the one-pole filter within {AGREES:g}; in "
        f"the trained models, with every seed, the median half-life of one layer or more is {MOVED:g} times that of "
        f"the fresh one, or less than one part in {MOVED:g} of it; and there gates are as good as fixed: in every "
        "layer at least half of the channels have a gate logit that varies by less than 0.5. In part: the first, which "
        "is a theorem, and not all of the others; then a channel is a filter whose constant the input sets at each "
        "step. Positive controls: an impulse decays by 1 - z a step; and gates without weights are found to be fixed. "
        "Negative control: the filter of twice the gate is told apart. (The fresh model, and gates without weights, "
        "were added after the first run.)"
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        return [
            Contestant("mingru", "mingru:expansion=2*3"),
            Contestant("minlstm", "minlstm:expansion=2*3"),
        ]

    def settings(self, scale: Scale) -> dict[str, Fit]:
        from .shakespeare import TEXT, Shakespeare

        fit = Shakespeare().settings("smoke" if scale == "smoke" else "cpu")[TEXT]
        fit = replace(fit, steps=min(fit.steps, 400), evaluations=2, weight_decay=0.1)
        return {"": fit, FRESH: fit}

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        fit = Fit.from_json(cell.options)
        if cell.setting == FRESH:
            fresh = fresh_model(fit, cell.seed)
            return {"layers": time_constants(fresh, fit), "without_weights": time_constants(fixed_gates(fresh), fit)}
        model = fresh_model(fit, cell.seed)
        result = train(model, fit, cell.seed, watch)
        return result | {"layers": time_constants(model, fit), "response": response()}

    def judge(self, results: Results) -> Verdict:
        trained = [one for one in results if one.cell.setting != FRESH]
        points = [point for one in trained for point in one.result["response"]]
        worst = max(abs(point["measured"] - point["filter"]) for point in points)
        apart = max(abs(point["measured"] - point["twice"]) for point in points)
        decay = max(point["impulse_error"] for point in points)
        fixed = [layer["fixed"] for one in trained for layer in one.result["layers"]]
        agrees = worst <= AGREES

        def medians(model: str, setting: str) -> list[list[float]]:
            """Of the half-lives in each layer, of each seed."""
            return [[layer["half_lives"][2] for layer in seeds] for seeds in _layers(results, model, setting)]

        words, ratios = [], []
        for model in results.models():
            before, after = medians(model, FRESH), medians(model, "")
            ratios += [
                [max(new / old, old / new) for old, new in zip(*seeds, strict=True)]
                for seeds in zip(before, after, strict=True)
            ]
            shown = (", ".join(spread(one, 2) for one in each) for each in (before, after))
            words.append(f"{model} {' fresh and '.join(shown)} trained")
        moved = min(max(of_seed) for of_seed in zip(*ratios, strict=True))
        fresh = [one for model in results.models() for one in results.of(model, FRESH)]
        still = min(layer["fixed"] for one in fresh for layer in one["without_weights"])
        return Verdict(
            answer(holds=agrees and moved >= MOVED and min(fixed) >= 0.5, in_part=agrees),
            f"responses within {worst:.1e}; median half-life of a channel in steps, by layer: {'; '.join(words)}; "
            f"channels whose gate hardly varies: {100 * min(fixed):.0f} to {100 * max(fixed):.0f} % of a layer",
            Control(
                "an impulse decays by 1 - z a step, and gates without weights are fixed",
                f"{decay:.1e}, {100 * still:.0f} %",
                decay <= 1e-5 and still == 1,
            ),
            Control("the filter of twice the gate is told apart", f"{apart:.2f}", apart > 10 * AGREES),
        )

    def table(self, results: Results) -> Table:
        rows = [
            [
                model,
                setting or "trained",
                str(number),
                *(spread(half_lives, 2) for half_lives in zip(*(one["half_lives"] for one in seeds), strict=True)),
                f"{spread([100 * one['fixed'] for one in seeds], 0)} %",
            ]
            for setting, model in results.pairs()
            for number, seeds in enumerate(_layers(results, model, setting), start=1)
        ]
        return Table(["model", "when", "layer", *(f"half-life, {q} %" for q in QUANTILES), "gate hardly varies"], rows)

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
        for index, model in enumerate(results.models()):
            for setting, style in (("", "o-"), (FRESH, "x:")):
                for number, seeds in enumerate(_layers(results, model, setting)):
                    half_lives = [mean(one) for one in zip(*(layer["half_lives"] for layer in seeds), strict=True)]
                    label = f"{model}, layer {number + 1}{', fresh' * (setting == FRESH)}"
                    colour = _picture.COLOURS[3 * index + number]
                    right.plot(half_lives, QUANTILES, style, color=colour, label=label, markersize=4)
        right.set(xscale="log", xlabel="half-life of a channel on held-out text, steps", ylabel="% of channels below")
        for formatted in (right.xaxis.set_major_formatter, right.xaxis.set_minor_formatter):
            formatted("{x:.1f}")
        right.legend(fontsize=7)
        for axes in (left, right):
            axes.grid(alpha=0.3)


def _layers(results: Results, model: str, setting: str) -> list[tuple[Mapping[str, Any], ...]]:
    """Each layer of a model, of all seeds."""
    return list(zip(*(one["layers"] for one in results.of(model, setting)), strict=True))


def fixed_gates(model: SequenceModel) -> SequenceModel:
    """The model with the weights of its gates set to 0; what is left of them is their bias."""
    import torch

    with torch.no_grad():
        for block in model.stack.blocks:
            cell: Any = block.mixer.cell  # type: ignore[union-attr]
            gates = len(cell.projection.weight) - cell.hidden_size  # rows; the candidate's are the last
            cell.projection.weight[:gates] = 0
    return model


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
