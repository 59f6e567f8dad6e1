from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._contest import ALL, SEEDS, Contest, Contestant, in_turns, on_short_windows
from ._experiment import ByScale, Cell, Control, Results, Scale, Table, Verdict, Watch
from ._fit import Fit, Learner, SequenceModel, fresh_model
from ._judging import answer, mean, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GENERATED = 64  # tokens
SECONDS, JOULES = "processor seconds", "joules"
TRAINING, GENERATING = "training", "generating"
COSTS = "cost of a token"
AGAIN = "mingru again"
COUNTERS = "/sys/class/powercap/intel-rapl:*/energy_uj"


class Energy(Contest):
    name = "energy"
    claim = (
        "Minimal recurrent networks cost less to train and to run than what they replace, at equal loss (a question "
        "of readers)."
    )
    source = "a question of readers; the paper has no such experiment"
    differs = ByScale(
        smoke="python-docs, width 16, 4 steps: shows that it runs.",
        cpu=(
            "width 128, 2 layers with Conv4 and MLP, 500 steps of 32 windows of 128 characters of Shakespeare. What a "
            "token costs is measured with nothing beside, all models in turns, medians of nine repeats: in training "
            "steps on all cores, and as one sequence is generated on one core. gru and lstm of mingru's width have 4.5 "
            "and 6 times the parameters in their recurrence, so both stand here with as many as mingru too. Joules "
            "where the kernel exposes RAPL, else processor seconds alone."
        ),
        paper="there is none.",
    )
    minutes = ByScale(smoke=1, cpu=70, paper=70)
    rule = (
        "Compared are processor seconds, all threads together: those of a token, and for training the number of tokens "
        "too. Holds: mingru takes fewer to the loss that the worst of all ends at than gru, lstm (of either size), "
        "mamba and attention, without overlap of the seeds, and fewer a generated token. In part: one of the two. "
        "Positive control: gru's training takes more than mingru's a token, as it does in every measurement. Negative "
        "control: a second run of mingru is within 20 % of the first, a token, in training and in generating. (In a "
        "first record each model was timed alone, one after another: a second run of mingru took 11 % less in training "
        "and 42 % less in generating, a control missed by the machine's slow minutes. Now all are timed in turns. In a "
        "second record there was one seed, and seconds were compared as they were.)"
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        return [
            Contestant("mingru", "mingru:expansion=2,forget_bias=?*2"),
            Contestant(AGAIN, "mingru:expansion=2,forget_bias=?*2", family="mingru"),
            Contestant("minlstm", "minlstm:expansion=2,forget_bias=?*2"),
            Contestant("gru", "gru:expansion=2*2"),
            Contestant("lstm", "lstm:expansion=2*2"),
            Contestant("gru equal parameters", "gru:expansion=0.9*2", family="gru"),
            Contestant("lstm equal parameters", "lstm:expansion=0.75*2", family="lstm"),
            Contestant("mamba", "mamba*2"),
            Contestant("attention", "attention*2"),
        ]

    def settings(self, scale: Scale) -> dict[str, Fit]:
        from .shakespeare import TEXT, Shakespeare

        fit = Shakespeare().settings("smoke" if scale == "smoke" else "cpu")[TEXT]
        return {"": fit if scale == "smoke" else replace(fit, width=128, dropout=0.1, steps=500, evaluations=20)}

    def seeds(self, contestant: Contestant, setting: str) -> Sequence[int]:
        return (0,) if contestant.name == AGAIN else SEEDS

    def trials(self) -> Mapping[str, Fit]:
        return {"": on_short_windows(self.settings("cpu")[""], steps=200)}

    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        learning = super().cells(scale, tuned)
        return [*learning, in_turns(COSTS, learning, scale)]

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        return _costs(cell, watch) if cell.model == ALL else super().run(cell, watch)

    def judge(self, results: Results) -> Verdict:
        models, costs = results.models(""), _of_tokens(results)
        worst, training = _seconds_to_the_worst(results)
        generating = costs[GENERATING][SECONDS]
        others = [model for model in models if "mingru" not in model and model != "minlstm"]
        cheaper = [
            all(max(training["mingru"]) < min(training[other]) for other in others),
            all(generating["mingru"] < generating[other] for other in others),
        ]
        a_token = costs[TRAINING][SECONDS]
        again = [abs(cost[AGAIN] / cost["mingru"] - 1) for cost in (a_token, generating)]
        words = ", ".join(
            f"{model} {spread(training[model], 0)} s and {1e3 * generating[model]:.2f} ms a token"
            for model in models
            if model != AGAIN
        )
        return Verdict(
            answer(holds=all(cheaper), in_part=any(cheaper)),
            f"processor seconds to {worst:.3f} nats, and for a generated token: {words}",
            Control(
                "gru takes more a token",
                f"{a_token['gru'] / a_token['mingru']:.2f} times mingru's",
                a_token["gru"] > a_token["mingru"],
            ),
            Control(
                "a second run is within 20 %", " and ".join(f"{100 * one:.0f} %" for one in again), max(again) <= 0.2
            ),
        )

    def table(self, results: Results) -> Table:
        costs = _of_tokens(results)
        worst, steps = _to_the_worst(results)
        rows = []
        for model in results.models(""):
            seeds = results.of(model)
            row = [model, f"{seeds[0]['parameters']:,}", spread([one["losses"]["held out"] for one in seeds], 3)]
            row.append(spread(steps[model], 0))
            for what, digits in ((TRAINING, 1), (GENERATING, 0)):
                row.append(f"{1e6 * costs[what][SECONDS][model]:,.{digits}f}")
                row.append(f"{1e6 * costs[what][JOULES][model]:,.0f}" if JOULES in costs[what] else "no RAPL")
            rows.append(row)
        shown = [f"{what}: {unit} a million tokens" for what in (TRAINING, GENERATING) for unit in ("s", "J")]
        return Table(["model", "parameters", "last loss", f"steps to {worst:.3f}", *shown], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        figure.set_size_inches(13, 4)
        costs, names = _of_tokens(results), results.models("")
        worst, to_the_worst = _seconds_to_the_worst(results)
        shown = {
            f"training to {worst:.3f} nats: processor seconds": to_the_worst,
            **{
                f"{what}: processor seconds a million tokens": {
                    name: [1e6 * seconds] for name, seconds in costs[what][SECONDS].items()
                }
                for what in (TRAINING, GENERATING)
            },
        }
        for axes, (label, seconds) in zip(figure.subplots(1, 3, sharey=True), shown.items(), strict=True):
            axes.barh(names, [mean(seconds[name]) for name in names])
            for name in names:
                axes.plot(seconds[name], [name] * len(seconds[name]), "k.", markersize=4)
            axes.set_xlabel(label)
            axes.grid(axis="x", alpha=0.3)
        figure.axes[0].invert_yaxis()


def _of_tokens(results: Results) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """`[training or generating][seconds or joules][model]`"""
    (costs,) = results.of(ALL, COSTS)
    found: Mapping[str, Mapping[str, Mapping[str, float]]] = costs["a token"]
    return found


def _to_the_worst(results: Results) -> tuple[float, dict[str, list[float]]]:
    """The loss that the worst of all ends at, and at which step each seed of a model is there."""
    from .shakespeare import reached

    made = {model: results.of(model) for model in results.models("")}
    worst = max(one["losses"]["held out"] for seeds in made.values() for one in seeds)
    return worst, {model: [reached(one, worst) for one in seeds] for model, seeds in made.items()}


def _seconds_to_the_worst(results: Results) -> tuple[float, dict[str, list[float]]]:
    """The loss that the worst of all ends at, and the processor seconds of each seed of a model until it is there."""
    worst, steps = _to_the_worst(results)
    a_token = _of_tokens(results)[TRAINING][SECONDS]
    return worst, {
        model: [_tokens(results, model) * step * a_token[model] for step in of_seeds]
        for model, of_seeds in steps.items()
    }


def _tokens(results: Results, model: str) -> int:
    """Of a training step."""
    fit = next(one.cell.options for one in results if one.cell.model == model)
    tokens: int = fit["batch"] * fit["setting"]["context"]
    return tokens


def _costs(cell: Cell, watch: Watch) -> dict[str, Any]:
    """What a token costs each model, all in turns."""
    import torch

    from minrnn.timing import interleaved

    packages = sorted(Path("/").glob(COUNTERS[1:]))
    counters = [file for file in packages if file.parent.name.count(":") == 1]  # the others are parts of these
    clocks: dict[str, Callable[[], float]] = {SECONDS: time.process_time}
    if counters and all(_readable(counter) for counter in counters):
        clocks[JOULES] = partial(_joules, counters)
    fits = {name: Fit.from_json(fit) for name, fit in cell.options["fits"].items()}
    models = {name: fresh_model(fit, cell.seed) for name, fit in fits.items()}
    learners = {name: Learner(models[name], fit, cell.seed) for name, fit in fits.items()}
    tokens = {name: one.fit.batch * one.fit.setting["context"] for name, one in learners.items()}
    repeats, threads = cell.options["repeats"], torch.get_num_threads()
    training = interleaved({name: one.step for name, one in learners.items()}, repeats, partial(watch, 0.3), clocks)
    torch.set_num_threads(1)  # one token has no work for two, and a waiting thread counts as a busy one
    generating = interleaved(
        {name: partial(_generate, one.eval()) for name, one in models.items()},
        repeats,
        partial(watch, 0.8),
        clocks,
    )
    torch.set_num_threads(threads)  # for the next cell in this process
    return {
        "a token": {
            TRAINING: _a_token(training, tokens),
            GENERATING: _a_token(generating, dict.fromkeys(tokens, GENERATED)),
        }
    }


def _a_token(costs: Mapping[str, Mapping[str, float]], tokens: Mapping[str, int]) -> dict[str, dict[str, float]]:
    return {
        clock: {name: float(f"{cost / tokens[name]:.4g}") for name, cost in of_clock.items()}
        for clock, of_clock in costs.items()
    }


def _generate(model: SequenceModel) -> None:
    """`GENERATED` tokens, each the likeliest after those before."""
    import torch

    with torch.no_grad():
        token, state = torch.zeros(1, 1, dtype=torch.int64), None
        for _ in range(GENERATED):
            y, state = model.stack(model.enter(token), state)
            token = model.head(model.norm(y)).argmax(-1)


def _readable(counter: Path) -> bool:
    try:
        return bool(counter.read_text())
    except OSError:
        return False


def _joules(counters: Sequence[Path]) -> float:
    """Energy that the processor's packages counted so far."""
    return sum(int(counter.read_text()) for counter in counters) / 1e6
