from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ._experiment import ByScale, Cell, Control, Experiment, Published, Results, Scale, Table, Verdict, Watch
from ._judging import answer, better, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

REGIMES = {"keeps": -8.0, "mixed": 0.0, "forgets": 8.0}  # mean of the gate's logit; its deviation is 1
DTYPES = ("float64", "float32", "bfloat16")
FORMS = ("direct", "direct, same dtype", "log space", "division")
BACKENDS = {"direct": "cpu", "direct, same dtype": "definition", "log space": "logspace"}
TIMED = ("direct", "log space")
COPY, TRAINED = "copying", "trained length"
ACTIVATED = ("identity", "g")
NUMBERS, LEARNED = ((0,), (1,)), ((0, 1, 2), (3, 4, 5))
"""Seeds, and a second set of them, as the first contradicts the paper."""


class LogSpace(Experiment):
    name = "log-space"
    claim = (
        "The recurrence needs log space: h_t is computed stably as exp of a cumulated logarithm, with candidates made "
        "positive by g."
    )
    source = "arXiv 2410.01201, Appendix B; the scan is arXiv 2311.06281's"
    published = (
        Published(
            "error of the log-space scan in float64 (a reader's measurement)", "4.0e-15; 2e-12 saturated", "others"
        ),
        Published("gradients through exp of a log state (a reader's claim)", "30,000 times smaller", "others"),
    )
    differs = ByScale(
        smoke="lengths 64 and 256: shows that it runs.",
        cpu=(
            "the paper gives no figures for it; here are error, gradients and time to length 65,536. 'direct' is the "
            "kernel, which keeps the state in float64; 'direct, same dtype' is the plain loop in the dtype of the "
            "inputs. Gradients are those of the same h in each form; a loss on log h itself, which the second reader "
            "means, is not tested. Gates and candidates are random; with a constant gate and candidate the plain loop "
            "is off by more ([measured](architecture.md#decisions-with-what-was-measured)). Copying is learned with "
            "and without g at one learning rate, 0.003, which is not tuned."
        ),
        paper="as at cpu.",
    )
    minutes = ByScale(smoke=1, cpu=27, paper=27)
    rule = (
        "Errors are relative to the largest state, against the definition in float64 on the same inputs. Judged is the "
        "plain loop, all of it in float32. Holds: somewhere it is not finite or off by more than 1e-3, and log space "
        "is not. In part: log space is more exact in most cases. Does not hold: neither. Positive control: the kernel "
        "in float64 is within 1e-12. Negative control: the scan that divides by cumulated products, which is what log "
        "space mends, fails somewhere in float32: the cases are hard enough to show a failure. (The first set of "
        "seeds, one of numbers and three of copying, contradicted the paper; so a second was run, with the same "
        "outcome.)"
    )

    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        lengths = (64, 256) if scale == "smoke" else (64, 1024, 8192, 65_536)
        numbers = [
            Cell(
                "numbers",
                seed,
                f"{regime} {dtype} {T}",
                {"T": T, "D": 16, "dtype": dtype, "logit": logit, "regime": regime},
                alone=True,
            )
            for seed in _seeds(NUMBERS, scale)
            for regime, logit in REGIMES.items()
            for dtype in DTYPES
            for T in lengths
        ]
        from .selective_copy import SelectiveCopy

        fit = SelectiveCopy().settings("smoke" if scale == "smoke" else "cpu")[""]
        fit = replace(fit, learning_rate=3e-3, steps=min(fit.steps, 1500), test={})
        learned = [
            Cell(
                f"activation {activation}",
                seed,
                COPY,
                replace(fit, pattern=f"mingru:expansion=4,activation={activation}*2").to_json(),
            )
            for activation in ACTIVATED
            for seed in _seeds(LEARNED, scale)
        ]
        return [*numbers, *learned]

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        if cell.model != "numbers":
            from ._fit import Fit, fresh_model, train

            fit = Fit.from_json(cell.options)
            return train(fresh_model(fit, cell.seed), fit, cell.seed, watch)
        return _numbers(cell.options, cell.seed)

    def judge(self, results: Results) -> Verdict:
        numbers = [one for one in results if one.cell.model == "numbers"]

        def errors(form: str, dtype: str, what: str = "error") -> list[float]:
            return [_value(one.result[form][what]) for one in numbers if one.cell.options["dtype"] == dtype]

        direct, loop, logs, division = (errors(form, "float32") for form in FORMS)
        saved = any(one > 1e-3 >= other for one, other in zip(loop, logs, strict=True))
        closer = sum(other < one for one, other in zip(loop, logs, strict=True))
        times = [one.result["log space"]["milliseconds"] / one.result["direct"]["milliseconds"] for one in numbers]
        identity, g = (results.scores(f"activation {one}", COPY, at=TRAINED) for one in ACTIVATED)
        ratio = [
            _value(one.result["log space"]["gradient_size"]) / _value(one.result["direct"]["gradient_size"])
            for one in numbers
        ]
        finite = [one for one in ratio if 0 < one < float("inf")]
        double = max(errors("direct", "float64"))
        worst = [max(errors(form, "float32", "gradient_error")) for form in FORMS[:3]]
        compared = "worse" if better(identity, g) else "better" if better(g, identity) else "neither better nor worse"
        words = (
            f"largest error in float32 {max(direct):.1e} by the kernel, {max(loop):.1e} by the plain loop, "
            f"{max(logs):.1e} in log space; of gradients {worst[0]:.1e}, {worst[1]:.1e} and {worst[2]:.1e}; log space "
            f"takes {min(times):.0f} to {max(times):.0f} times as long as the kernel, and its gradients are "
            f"{min(finite):.2f} to {max(finite):.2f} times the size. Copying with 2 layers: "
            f"{percent(identity)} % with any candidate, {percent(g)} % with g, which is {compared}{_by_set(results)}"
        )
        return Verdict(
            answer(holds=saved, in_part=2 * closer > len(direct)),
            words,
            Control("the kernel in float64 is within 1e-12", f"{double:.1e}", double <= 1e-12),
            Control("the scan by division fails in float32", f"{max(division):.1e}", max(division) > 1e-3),
        )

    def table(self, results: Results) -> Table:
        rows = []
        for one in results:
            if one.cell.model == "numbers":
                shown = [
                    f"{_value(one.result[form][what]):.1e}" for form in FORMS for what in ("error", "gradient_error")
                ]
                times = [f"{one.result[form]['milliseconds']:.3g}" for form in TIMED]
                case = (one.cell.options["regime"], one.cell.options["dtype"], f"{one.cell.options['T']:,}")
                rows.append([*case, str(one.cell.seed), *shown, *times])
        header = [
            "gates",
            "dtype",
            "length",
            "seed",
            *(f"{form}: {what}" for form in FORMS for what in ("h", "gradient")),
        ]
        return Table([*header, "direct, ms", "log space, ms"], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        from . import _picture

        for axes, regime in zip(figure.subplots(1, len(REGIMES), sharey=True), REGIMES, strict=True):
            for index, dtype in enumerate(DTYPES):
                for form, style in zip(FORMS, ("o-", "+-.", "s--", "x:"), strict=True):
                    points: dict[int, float] = {}
                    for one in results:
                        case = one.cell.options.get("regime"), one.cell.options.get("dtype")
                        if one.cell.model == "numbers" and case == (regime, dtype):
                            T = one.cell.options["T"]
                            error = min(max(_value(one.result[form]["error"]), 1e-17), 1e3)
                            points[T] = max(error, points.get(T, 0.0))
                    axes.plot(
                        *zip(*points.items(), strict=True),
                        style,
                        color=_picture.COLOURS[index],
                        label=f"{form}, {dtype}",
                        markersize=4,
                    )
            axes.set(xscale="log", yscale="log", xlabel="length T", title=f"gates: {regime}")
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("largest error of h, relative")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=7, frameon=False)


def _seeds(sets: Sequence[Sequence[int]], scale: Scale) -> Sequence[int]:
    return sets[0][:1] if scale == "smoke" else [seed for one in sets for seed in one]


def _by_set(results: Results) -> str:
    """What each set of seeds says alone."""
    words = []
    for numbers, learned in zip(NUMBERS, LEARNED, strict=True):
        of_set = Results(one for one in results if one.cell.seed in (numbers if one.cell.setting != COPY else learned))
        float32 = [one.result for one in of_set if one.cell.options.get("dtype") == "float32"]
        if float32:
            loop, logs = (max(_value(one[form]["error"]) for one in float32) for form in FORMS[1:3])
            identity, g = (percent(of_set.scores(f"activation {one}", COPY, at=TRAINED)) for one in ACTIVATED)
            words.append(f"{loop:.1e}, {logs:.1e}, {identity} % and {g} %")
    return f". Set by set (loop, log space, without g, with g): {'; '.join(words)}" if len(words) > 1 else ""


def _numbers(options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    import torch

    from minrnn.recurrence import backend, mingru
    from minrnn.timing import interleaved_medians

    torch.manual_seed(seed)
    shape = (4, options["T"], options["D"])
    dtype = getattr(torch, options["dtype"])
    gate, candidate = (options["logit"] + torch.randn(shape)).to(dtype), torch.randn(shape).to(dtype)
    upstream = torch.randn(shape).to(dtype)

    def run(form: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        if form == "division":
            h = _by_division(*leaves)
        else:
            with backend(BACKENDS.get(form, form)):
                h = mingru(*leaves, activation="g")[0]
        return h.detach(), *torch.autograd.grad(h, leaves, upstream.to(h.dtype))

    expected = run("definition", gate.double(), candidate.double())
    calls = {form: partial(run, form, gate, candidate) for form in TIMED}
    times = interleaved_medians(calls, 3, lambda text: None)
    found = {}
    for form in FORMS:
        h, *gradients = run(form, gate, candidate)
        found[form] = {
            "error": _error([h], expected[:1]),
            "gradient_error": _error(gradients, expected[1:]),
            "gradient_size": _finite(torch.stack([one.double().norm() for one in gradients]).norm().item()),
        }
        if form in TIMED:
            found[form]["milliseconds"] = float(f"{times[form]:.4g}")
    return found


def _by_division(gate: Tensor, candidate: Tensor) -> Tensor:
    """h_t = A_t sum_s b_s / A_s with A the product of all 1 - z so far."""
    from minrnn.recurrence import ACTIVATIONS

    z = gate.sigmoid()
    products = (1 - z).cumprod(dim=1)
    return products * (z * ACTIVATIONS["g"](candidate) / products).cumsum(dim=1)


def _error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float | str:
    largest = 0.0
    for one, other in zip(found, expected, strict=True):
        error = ((one.double() - other).abs().max() / other.abs().max()).item()
        largest = error if error != error else max(largest, error)
    return _finite(largest)


def _finite(value: float) -> float | str:
    """JSON has no infinity."""
    return float(f"{value:.4g}") if abs(value) < float("inf") else "not finite"


def _value(value: float | str) -> float:
    return float("inf") if isinstance(value, str) else value
