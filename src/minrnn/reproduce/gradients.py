from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from ._contest import SEEDS, Contest, Contestant
from ._experiment import ByScale, Cell, Control, Results, Scale, Table, Verdict, Watch
from ._fit import Fit, SequenceModel, fresh_model, train
from ._judging import answer, mean
from .long_range import EQUAL_PARAMETERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRESH, TRAINED = "fresh", "trained"
FRESH_SEEDS = (0, 1, 2, 3, 4)
MINIMAL = ("mingru", "minlstm")
VANISHED = 1e-6
FLOOR = 1e-30  # of the picture


class Gradients(Contest):
    name = "gradients"
    claim = (
        "Gradients of minGRU and minLSTM vanish over long distances, since each step multiplies them by a number "
        "below 1 (an argument of readers)."
    )
    source = "arguments of readers; the paper has no such experiment"
    differs = ByScale(
        smoke="length 40, width 16, 20 steps: shows that it runs.",
        cpu=(
            "2 layers of width 64 with expansion 2: fresh, five seeds; and trained on adding at length 400, three "
            "seeds of mingru and minlstm and one of the others, all models at learning rate 0.003 and with the forget "
            "bias in their name; gru and lstm at equal width, and with as many parameters as mingru and as minlstm."
        ),
        paper="there is none.",
    )
    minutes = ByScale(smoke=1, cpu=50, paper=50)
    rule = (
        "Measured is the norm of the gradient of the last output with respect to the input k steps before, averaged "
        f"over sequences, relative to k = 0. Vanished is below {VANISHED:g} at three quarters of the length; of seeds, "
        "which differ by orders of magnitude, the median is taken. Holds: vanished for mingru and minlstm, fresh with "
        "a gate bias of 0 and after training. In part: in some of these cases. Positive control: attention without "
        "positions, which reaches every step at once, has not vanished. Negative control: fresh mingru with a gate "
        "that forgets (bias -3) has. (At first there was one fresh seed, by chance the one of five in which mingru's "
        "had not vanished. GRU and LSTM at equal parameters were added after the verdict.)"
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        return [
            Contestant("mingru", "mingru:expansion=2*2"),
            Contestant("mingru bias 5", "mingru:expansion=2,forget_bias=5*2"),
            Contestant("mingru bias -3", "mingru:expansion=2,forget_bias=-3*2"),
            Contestant("minlstm", "minlstm:expansion=2*2"),
            Contestant("gru", "gru:expansion=2*2"),
            Contestant("lstm", "lstm:expansion=2*2"),
            *(
                Contestant(f"{name} equal parameters", f"{name}:expansion={expansion}*2")
                for name, expansion in EQUAL_PARAMETERS.items()
            ),
            Contestant("attention", "attention:positions=none*2"),
        ]

    def settings(self, scale: Scale) -> dict[str, Fit]:
        fit = Fit(
            task="adding",
            setting={"length": 40 if scale == "smoke" else 400},
            pattern="",
            width=16 if scale == "smoke" else 64,
            batch=32,
            steps=20 if scale == "smoke" else 1200,
            learning_rate=0.0,
            evaluate={"trained length": {}},
            sequences=64,
            evaluations=2 if scale == "smoke" else 12,
            enough=0.995,
        )
        return {"": fit, FRESH: fit}

    def seeds(self, contestant: Contestant, setting: str) -> Sequence[int]:
        trained = SEEDS if contestant.name in MINIMAL else (0,)
        return [seed for seed in FRESH_SEEDS if seed not in trained] if setting == FRESH else trained

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        fit = Fit.from_json(cell.options)
        fresh = {FRESH: by_distance(fresh_model(fit, cell.seed), fit)}
        if cell.setting == FRESH:
            return {"gradients": fresh}
        model = fresh_model(fit, cell.seed)
        result = train(model, fit, cell.seed, watch)
        return result | {"gradients": fresh | {TRAINED: by_distance(model, fit)}}

    def judge(self, results: Results) -> Verdict:
        def left(model: str, when: str) -> float:
            """What is left at three quarters of the length."""
            seeds = list(_by_distance(results, model, when).values())
            return median(seeds[3 * (len(seeds) - 1) // 4])

        cases = [left(model, when) < VANISHED for model in MINIMAL for when in (FRESH, TRAINED)]
        words = "; ".join(
            f"{model} {left(model, FRESH):.1e} fresh and {left(model, TRAINED):.1e} trained (adding "
            f"{100 * mean(results.scores(model, at='trained length')):.0f} %)"
            for model in results.models()
        )
        kept, gone = left("attention", FRESH), left("mingru bias -3", FRESH)
        return Verdict(
            answer(holds=all(cases), in_part=any(cases)),
            f"left at three quarters of the length: {words}",
            Control("attention's has not vanished", f"{kept:.1e}", kept >= VANISHED),
            Control("that of a mingru that forgets has", f"{gone:.1e}", gone < VANISHED),
        )

    def table(self, results: Results) -> Table:
        rows, shown = [], []
        for model in results.models():
            for when in (FRESH, TRAINED):
                found = _by_distance(results, model, when)
                shown = list(found)[2::2]
                rows.append([model, when, *(f"{median(found[distance]):.1e}" for distance in shown)])
        return Table(["model", "when", *(f"{distance} steps" for distance in shown)], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        from . import _picture

        for axes, when in zip(figure.subplots(1, 2, sharey=True), (FRESH, TRAINED), strict=True):
            groups = {model: _by_distance(results, model, when) for model in results.models()}
            distances = list(groups["mingru"])
            values = {
                model: [[max(one, FLOOR) for one in seeds] for seeds in found.values()]
                for model, found in groups.items()
            }
            _picture.lines(axes, values, distances, "steps before the last", "", log="y", middle=median)
            axes.set(ylim=(1e-15, 1e2), title=when)
            axes.axhline(VANISHED, color="grey", linestyle="--", linewidth=1)
        figure.axes[0].set_ylabel("gradient norm over that of the last input")


def _by_distance(results: Results, model: str, when: str) -> dict[int, list[float]]:
    """What is left of the gradient at each distance, of each seed."""
    seeds = [
        one["gradients"][when]
        for setting in (("", FRESH) if when == FRESH else ("",))
        for one in results.of(model, setting)
    ]
    return {
        distance: [found["relative"][place] for found in seeds] for place, distance in enumerate(seeds[0]["distances"])
    }


def by_distance(model: SequenceModel, fit: Fit, sequences: int = 32) -> dict[str, Any]:
    """Norms of the gradient of the last output, in a random direction, by distance of the input."""
    import numpy as np
    import torch

    from . import tasks

    task = tasks.make(fit.task, fit.setting)
    torch.manual_seed(0)
    batch = task.batch(np.random.default_rng(0), sequences)
    x = model.enter(batch.inputs).detach().requires_grad_()
    y, _ = model.stack(x)
    out = model.norm(y[:, -1])
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), x)
    norms = gradient.double().norm(dim=-1).mean(dim=0).flip(0)  # (T,), the last step first
    last = len(norms) - 1 - (len(norms) - 1) % 8
    distances = [last * part // 8 for part in range(9)]
    return {
        "distances": distances,
        "relative": [float(f"{(norms[k] / norms[0]).item():.4g}") for k in distances],
        "last": float(f"{norms[0].item():.4g}"),
    }
