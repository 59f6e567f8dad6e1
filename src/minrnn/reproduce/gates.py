from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from . import _picture
from ._contest import SEEDS, Contest, Contestant, on_short_windows, step_milliseconds
from ._experiment import ByScale, Control, Results, Scale, Table, Verdict
from ._fit import Fit
from ._judging import SET, answer, better, in_sets, mean, percent, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELD_OUT = "held out"
COPY, TEXT = "selective copying", "shakespeare"
LINEAR, EQUAL, WIDE = "linear", "MLP, equal parameters", "MLP, equal width"


class Gates(Contest):
    name = "gates"
    timed = (COPY, TEXT)
    claim = (
        "Linear gates and candidates are enough: MLPs of the input in their place bring nothing ('what if the "
        "transforms were MLPs?')."
    )
    source = "a question of readers; arXiv 2410.01201 has linear maps only"
    differs = ByScale(
        smoke="width 16, 20 steps, one seed: shows that it runs.",
        cpu=(
            "the copying of `selective-copy`, 2 layers of minGRU, 2,000 steps; and Shakespeare at width 128, 2 layers "
            "with Conv4 and MLP, 500 steps of 32 windows of 128. Gate and candidate share the hidden layer of their "
            "MLP, which is as wide as the model. Learning rates are tuned for linear and for MLP, in each task. A "
            "training step of each model is timed on all cores with nothing beside, all in turns."
        ),
        paper="width 384, 3 layers, 5,000 steps of 64.",
    )
    minutes = ByScale(smoke=1, cpu=63, paper=10**4)
    rule = (
        "Compared are the mean accuracy over the evaluations of a run in copying, which says how fast it is learned, "
        "and the last loss on the held-out text. Holds: the MLP is not better without overlap of the seeds in either "
        "task, neither at equal parameters nor at equal time (each run is judged up to the share of its steps for "
        "which there is time until the fastest model ends, in whole evaluations: a slower one is cut off before its "
        "learning rate has come down, and the wide one is judged in this way alone). In part: it is better in one "
        "task. Models of 1 layer are shown. Positive control: the tasks can tell models apart: 2 linear layers are "
        "better than 1 in copying. Negative control: three seeds of the linear model are better than three others in "
        "one of two such pairs at most. (In the first record there was one pair, which was better, as one in twenty is "
        "by chance, and nothing was decided; the second was not. MLPs run in one set of seeds: a difference by chance "
        "speaks against 'holds' alone.)"
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        layers = 3 if scale == "paper" else 2
        return [
            Contestant(LINEAR, f"mingru:expansion=4,forget_bias=?*{layers}"),
            Contestant(EQUAL, f"mingru:expansion=3.67,gate_mlp=1,forget_bias=?*{layers}"),
            Contestant(WIDE, f"mingru:expansion=4,gate_mlp=1,forget_bias=?*{layers}", family=EQUAL),
            Contestant("linear, 1 layer", "mingru:expansion=4,forget_bias=?", family=LINEAR),
            Contestant("MLP, 1 layer", "mingru:expansion=4,gate_mlp=1,forget_bias=?", family=EQUAL),
        ]

    def settings(self, scale: Scale) -> dict[str, Fit]:
        copy = Fit(
            task="selective copying",
            setting={"length": 16, "tokens": 2} if scale == "smoke" else {"length": 64, "tokens": 8},
            pattern="",
            width=16 if scale == "smoke" else 64,
            steps={"smoke": 20, "cpu": 2000, "paper": 20_000}[scale],
            learning_rate=0.0,
            evaluate={HELD_OUT: {}},
            sequences=64 if scale == "smoke" else 512,
            evaluations=4 if scale == "smoke" else 20,
        )
        text = replace(
            copy,
            task="text",
            setting={"source": "python-docs" if scale == "smoke" else "shakespeare", "context": 128},
            width={"smoke": 16, "cpu": 128, "paper": 384}[scale],
            batch=8 if scale == "smoke" else 32,
            conv=4,
            mlp=4.0,
            steps={"smoke": 4, "cpu": 500, "paper": 5000}[scale],
            sequences=8 if scale == "smoke" else 10_000,
            evaluations=2 if scale == "smoke" else 10,
        )
        return {COPY: copy, TEXT: text}

    def seeds(self, contestant: Contestant, setting: str) -> Sequence[int]:
        if contestant.name == LINEAR and setting == COPY:
            return range(4 * SET)
        return SEEDS if setting == COPY or "1 layer" not in contestant.name else ()

    def trials(self) -> Mapping[str, Fit]:
        copy, text = (self.settings("cpu")[task] for task in (COPY, TEXT))
        return {
            COPY: replace(copy, setting={"length": 32, "tokens": 4}, steps=500, evaluations=2),
            TEXT: on_short_windows(text, steps=200),
        }

    def judge(self, results: Results) -> Verdict:
        wins, words = [], []
        for task in (COPY, TEXT):
            shares = _shares(results, task)
            linear, equal, wide = (_measured(results, model, task)[:SET] for model in shares)
            timed = [_measured(results, model, task, share)[:SET] for model, share in shares.items()]
            wins.append(better(equal, linear) or better(timed[1], timed[0]) or better(timed[2], timed[0]))
            words.append(
                f"{task}: {_written(task, linear)} linear, {_written(task, equal)} MLP at equal parameters, "
                f"{_written(task, wide)} at equal width; at equal time "
                + ", ".join(_written(task, one) for one in timed)
            )
        same, single, mlp = (_measured(results, model, COPY) for model in (LINEAR, "linear, 1 layer", "MLP, 1 layer"))
        words.append(f"selective copying with 1 layer: {percent(single)} % linear, {percent(mlp)} % MLP")
        sets = in_sets(same)
        pairs = list(zip(sets[1::2] or sets, sets[::2], strict=True))
        return Verdict(
            answer(holds=not any(wins), in_part=not all(wins)),
            "; ".join(words),
            Control(
                "2 linear layers copy better than 1",
                f"{percent(sets[0])} against {percent(single)}",
                better(sets[0], single),
            ),
            Control(
                "other seeds are better in one of two pairs of sets at most",
                ", ".join(f"{percent(again)} against {percent(first)}" for again, first in pairs),
                not all(better(again, first) for again, first in pairs),
            ),
        )

    def table(self, results: Results) -> Table:
        rows = []
        for task in (COPY, TEXT):
            milliseconds, shares = step_milliseconds(results, task), _shares(results, task)
            for model in results.models(task):
                parameters = results.of(model, task)[0]["parameters"]
                shown = [f"{parameters:,}", f"{milliseconds[model]:.0f}"]
                whole, in_time = (
                    _written(task, _measured(results, model, task, share)[:SET]) if share else ""
                    for share in (1.0, shares.get(model))
                )
                rows.append([task, model, *shown, whole, in_time])
        return Table(["task", "model", "parameters", "ms a step", "mean accuracy, or last loss", "at equal time"], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        for axes, task in zip(figure.subplots(1, 2), (COPY, TEXT), strict=True):
            models = results.models(task)
            sign = 1 if task == COPY else -1
            values = {model: [sign * one for one in _measured(results, model, task)] for model in models}
            _picture.dots(axes, values, "mean accuracy of a run" if task == COPY else "last loss, nats a character")
            axes.set_title(task, fontsize=9)


def _shares(results: Results, task: str) -> dict[str, float]:
    """Of its steps, what each of those compared can take until the fastest of them ends."""
    milliseconds = step_milliseconds(results, task)
    compared = {model: milliseconds[model] for model in (LINEAR, EQUAL, WIDE)}
    return {model: min(compared.values()) / one for model, one in compared.items()}


def _measured(results: Results, model: str, task: str, share: float = 1.0) -> list[float]:
    """Mean accuracy, or the last loss with a minus, of the evaluations in a share of the steps, or of the first."""
    found = []
    for one in results.of(model, task):
        end = share * one["curve"][-1]["step"]
        within = [point["held_out"][HELD_OUT] for point in one["curve"] if point["step"] <= end]
        within = within or [one["curve"][0]["held_out"][HELD_OUT]]
        found.append(mean([point["score"] for point in within]) if task == COPY else -within[-1]["loss"])
    return found


def _written(task: str, values: Sequence[float]) -> str:
    return percent(values) + " %" if task == COPY else spread([-value for value in values], 3) + " nats"
