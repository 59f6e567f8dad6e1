from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._contest import Contest, Contestant
from ._experiment import ByScale, Cell, Control, Results, Scale, Table, Verdict, Watch
from ._fit import Fit, SequenceModel, fresh_model, train
from ._judging import answer, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRESH, TRAINED = "fresh", "trained"
VANISHED = 1e-6


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
            "2 layers of width 64 with expansion 2, fresh, and trained on adding at length 400 as in `long-range`, "
            "one seed."
        ),
        paper="there is none.",
    )
    minutes = ByScale(smoke=1, cpu=35, paper=35)
    rule = (
        "Measured is the norm of the gradient of the last output with respect to the input k steps before, averaged "
        "over "
        f"sequences, relative to k = 0. Vanished is below {VANISHED:g} at three quarters of the length. Holds: "
        "vanished for mingru "
        "and minlstm, fresh with a gate bias of 0 and after training. In part: in one of these cases. Positive "
        "control: "
        "attention without positions, which reaches every step at once, has not vanished. Negative control: fresh "
        "mingru with a "
        "gate that forgets (bias -3) has."
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        return [
            Contestant("mingru", "mingru:expansion=2*2"),
            Contestant("mingru bias 5", "mingru:expansion=2,forget_bias=5*2", family="mingru"),
            Contestant("mingru bias -3", "mingru:expansion=2,forget_bias=-3*2", family="mingru"),
            Contestant("minlstm", "minlstm:expansion=2*2", family="mingru"),
            Contestant("gru", "gru:expansion=2*2", family="mingru"),
            Contestant("lstm", "lstm:expansion=2*2", family="mingru"),
            Contestant("attention", "attention:positions=none*2", family="mingru"),
        ]

    def settings(self, scale: Scale) -> dict[str, Fit]:
        return {
            "": Fit(
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
        }

    def seeds(self, contestant: Contestant, setting: str) -> Sequence[int]:
        return (0,)

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        fit = Fit.from_json(cell.options)
        fresh = fresh_model(fit, cell.seed)
        model, result = train(fit, cell.seed, watch)
        return result | {"gradients": {FRESH: by_distance(fresh, fit), TRAINED: by_distance(model, fit)}}

    def judge(self, results: Results) -> Verdict:
        def left(model: str, when: str) -> float:
            """What is left at three quarters of the length."""
            (result,) = results.of(model)
            found = result["gradients"][when]
            return float(found["relative"][found["distances"].index(3 * found["distances"][-1] // 4)])

        cases = [left(model, when) < VANISHED for model in ("mingru", "minlstm") for when in (FRESH, TRAINED)]
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
        distances = next(iter(results)).result["gradients"][FRESH]["distances"]
        shown = [place for place in range(len(distances)) if place % 2 == 0 and place]
        rows = [
            [one.cell.model, when, *(f"{one.result['gradients'][when]['relative'][place]:.1e}" for place in shown)]
            for one in results
            for when in (FRESH, TRAINED)
        ]
        return Table(["model", "when", *(f"{distances[place]} steps" for place in shown)], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        from . import _picture

        for axes, when in zip(figure.subplots(1, 2, sharey=True), (FRESH, TRAINED), strict=True):
            for index, one in enumerate(results):
                found = one.result["gradients"][when]
                values = [max(value, 1e-30) for value in found["relative"]]
                axes.plot(
                    found["distances"], values, "o-", color=_picture.COLOURS[index], label=one.cell.model, markersize=3
                )
            axes.set(yscale="log", ylim=(1e-15, 1e2), xlabel="steps before the last", title=when)
            axes.axhline(VANISHED, color="grey", linestyle="--", linewidth=1)
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("gradient norm over that of the last input")
        figure.axes[0].legend(fontsize=7)


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
