from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ._contest import Contest, Contestant, on_short_windows
from ._experiment import ByScale, Cell, Control, Results, Scale, Table, Verdict, Watch
from ._fit import Fit, Learner, SequenceModel, train
from ._judging import answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GENERATED = 256  # tokens
REPEATS = 5
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
            "width 128, 2 layers with Conv4 and MLP, 500 steps of 32 windows of 128 characters of Shakespeare on all "
            "cores, one seed; generated are 256 tokens of one sequence on one core, five times, of which the median "
            "counts. gru and lstm of mingru's width have three and four times the parameters in their recurrence, so "
            "both stand here with as many as well. Joules where the kernel exposes RAPL, else processor seconds alone."
        ),
        paper="there is none.",
    )
    minutes = ByScale(smoke=1, cpu=30, paper=30)
    rule = (
        "Compared are processor seconds, all threads together. Holds: mingru takes fewer to the loss that the worst "
        "of all ends at than gru, lstm (of either size), mamba and attention, and fewer a generated token. In part: "
        "one of the two. Positive control: gru's training takes more than mingru's a token, as it does in every "
        "measurement. Negative control: a second run of mingru is within 20 % of the first, in training and in "
        "generating."
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        return [
            Contestant("mingru", "mingru:expansion=2,forget_bias=?*2"),
            Contestant("mingru again", "mingru:expansion=2,forget_bias=?*2", family="mingru"),
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
        return (0,)

    def trials(self) -> Mapping[str, Fit]:
        return {"": on_short_windows(self.settings("cpu")[""], steps=200)}

    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        return [replace(cell, alone=True) for cell in super().cells(scale, tuned)]

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        import torch

        fit = Fit.from_json(cell.options)
        packages = sorted(Path("/").glob(COUNTERS[1:]))
        counters = [file for file in packages if file.parent.name.count(":") == 1]  # the others are parts of these
        Learner(fit, cell.seed).step()  # compiles what is compiled once
        before, used = _joules(counters), time.process_time()
        model, result = train(fit, cell.seed, watch)
        training = result["curve"][-1]["processor_seconds"]
        joules = _difference(before, _joules(counters))
        result["processor_seconds"] = training
        # The counters go on through the evaluations: training has its share of the time.
        result["joules"] = joules and round(joules * training / (time.process_time() - used), 2)
        result["tokens"] = result["steps"] * fit.batch * fit.setting["context"]
        model.eval()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # one token has no work for two, and a waiting thread counts as a busy one
        costs = [_generate(model, counters) for _ in range(1 + REPEATS)][1:]
        torch.set_num_threads(threads)  # for the next cell in this process
        energies = [energy for _, energy in costs if energy is not None]
        result["generating"] = {
            "processor_seconds": round(median(seconds for seconds, _ in costs), 4),
            "joules": median(energies) if energies else None,
            "tokens": GENERATED,
        }
        return result

    def judge(self, results: Results) -> Verdict:
        from .shakespeare import reached

        ends = {one.cell.model: one.result["losses"]["held out"] for one in results}
        worst = max(ends.values())
        training = {one.cell.model: reached(one.result, worst, "processor_seconds") for one in results}
        generating = {one.cell.model: one.result["generating"]["processor_seconds"] / GENERATED for one in results}
        others = [model for model in training if "mingru" not in model and model != "minlstm"]
        cheaper = [all(costs["mingru"] < costs[other] for other in others) for costs in (training, generating)]
        a_token = {one.cell.model: one.result["processor_seconds"] / one.result["tokens"] for one in results}
        again = [abs(costs["mingru again"] / costs["mingru"] - 1) for costs in (a_token, generating)]
        words = ", ".join(
            f"{model} {training[model]:.0f} s and {1e3 * generating[model]:.2f} ms a token"
            for model in training
            if "again" not in model
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
        rows = []
        for one in results:
            made, generated = one.result, one.result["generating"]
            millions = made["tokens"] / 1e6
            rows.append(
                [
                    one.cell.model,
                    f"{made['parameters']:,}",
                    f"{made['losses']['held out']:.3f}",
                    f"{made['processor_seconds'] / millions:.1f}",
                    f"{made['joules'] / millions:.0f}" if made["joules"] else "no RAPL",
                    f"{1e6 * generated['processor_seconds'] / GENERATED:,.0f}",
                    f"{1e6 * generated['joules'] / GENERATED:,.0f}" if generated["joules"] else "no RAPL",
                ]
            )
        header = [
            "model",
            "parameters",
            "last loss",
            "training: s a million tokens",
            "J",
            "generating: s a million tokens",
            "J",
        ]
        return Table(header, rows)

    def draw(self, results: Results, figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        names = [one.cell.model for one in results]
        left.barh(names, [one.result["processor_seconds"] / one.result["tokens"] * 1e6 for one in results])
        right.barh(names, [one.result["generating"]["processor_seconds"] / GENERATED * 1e6 for one in results])
        left.set_xlabel("processor seconds a million tokens trained")
        right.set_xlabel("processor seconds a million tokens generated, one at a time")
        for axes in (left, right):
            axes.invert_yaxis()
            axes.grid(axis="x", alpha=0.3)


def _generate(model: SequenceModel, counters: Sequence[Path]) -> tuple[float, float | None]:
    """Processor seconds and joules of `GENERATED` tokens, each the likeliest after those before."""
    import torch

    with torch.no_grad():
        token, state = torch.zeros(1, 1, dtype=torch.int64), None
        before, used = _joules(counters), time.process_time()
        for _ in range(GENERATED):
            y, state = model.stack(model.enter(token), state)
            token = model.head(model.norm(y)).argmax(-1)
    return time.process_time() - used, _difference(before, _joules(counters))


def _joules(counters: Sequence[Path]) -> float | None:
    """Energy that the processor's packages counted so far; None where that cannot be read."""
    try:
        return sum(int(counter.read_text()) for counter in counters) / 1e6 if counters else None
    except OSError:
        return None


def _difference(before: float | None, after: float | None) -> float | None:
    return round(after - before, 2) if before is not None and after is not None and after >= before else None
