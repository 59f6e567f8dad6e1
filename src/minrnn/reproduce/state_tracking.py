from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ._contest import SEEDS, Contest, Contestant
from ._experiment import ByScale, Control, Published, Results, Scale, Verdict
from ._fit import Fit
from ._judging import answer, percent, solved

TRAINED, LONGER = "lengths 1 to 40", "last of 256"
TASKS = {"parity": "Z2", "S3": "S3", "A5": "A5"}
SCRATCHPAD = "A5, scratchpad"
LINEAR = ("mingru", "minlstm", "mamba")
LONG = {task: f"{task}, 5 times as long" for task in ("parity", "A5")}


class StateTracking(Contest):
    name = "state-tracking"
    pictured = LONGER
    claim = (
        "A recurrence that is linear in its state, with a diagonal transition in (0, 1), cannot track state as a real "
        "RNN does: not parity, and not words over A5 (an argument of readers: 'not a real RNN')."
    )
    source = "arXiv 2404.08819 (the bound), arXiv 2411.12537 (negative eigenvalues); the paper has no such experiment"
    published = (
        Published(
            "parity, scaled, lengths 40 to 256: sLSTM / Mamba / Mamba [-1, 1] / DeltaNet [-1, 1]",
            "1.000 / .000 / 1.000 / .982",
            "others, unverified",
        ),
    )
    differs = ByScale(
        smoke="width 16, 20 steps, one seed: shows that it runs.",
        cpu=(
            "width 128, 2 layers without convolution or MLP, at most 1,000 steps of 64 words of length 1 to 40, and "
            "5,000 for one seed of mingru, minlstm and mamba; A5 from two generators, a 5-cycle and a 3-cycle, the "
            "product asked at every step (with one symbol for each of the 60 elements even nn.GRU stays at chance in "
            "this time). nn.GRU has 2.3 times the parameters of mingru at equal width, and one with as many stands "
            "beside it. With a scratchpad the model writes each product and reads it again as a token, and all 256 "
            "must be right."
        ),
        paper="width 128, 20,000 steps.",
    )
    minutes = ByScale(smoke=1, cpu=70, paper=10**4)
    rule = (
        "Solved is a product that is right after 256 steps, of models trained to length 40. Holds: none of mingru, "
        "minlstm and mamba solves parity or A5. In part: none solves one of the two. Positive control: nn.GRU solves "
        "A5. Negative control: attention without positions, which cannot even count on words this long, does not solve "
        "parity. (Before the runs attention stood beside the three; it is no recurrence, does not solve them either, "
        "and is shown. The long runs and the scratchpads, of one seed, and nn.GRU at equal parameters were added after "
        "the verdict, and decide nothing; so do the scratchpads of mingru, mamba, attention and gru, which were there "
        "before.)"
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        return [
            Contestant("mingru", "mingru:forget_bias=?*2"),
            Contestant("minlstm", "minlstm:forget_bias=?*2"),
            Contestant("mamba", "mamba*2"),
            Contestant("attention", "attention*2"),
            Contestant("attention alibi", "attention:positions=alibi*2", family="attention"),
            Contestant("attention without positions", "attention:positions=none*2", family="attention"),
            Contestant("gru", "gru*2"),
            Contestant("gru equal parameters", "gru:expansion=0.54*2", family="gru"),
            Contestant("slstm", "slstm*2"),
            Contestant("deltanet", "deltanet*2"),
            Contestant("signed", "signed*2"),
            Contestant("nonlinear", "nonlinear*2"),
        ]

    def seeds(self, contestant: Contestant, setting: str) -> Sequence[int]:
        name = contestant.name
        if setting in LONG.values():
            return (0,) if name in LINEAR else ()
        if name == "attention without positions":
            return SEEDS if setting == "parity" else (0,)
        return SEEDS if setting in LONG and name != "attention alibi" else (0,)

    def settings(self, scale: Scale) -> dict[str, Fit]:
        fits = {task: self._fit(group, scale) for task, group in TASKS.items()}
        a5 = fits["A5"]
        longer = {LONGER: {**a5.test[LONGER], "asked": "every", "whole": True}}
        long = {LONG[task]: replace(fits[task], steps=5 * fits[task].steps) for task in LONG}
        return fits | long | {SCRATCHPAD: replace(a5, setting={**a5.setting, "scratchpad": True}, test=longer)}

    def _fit(self, group: str, scale: Scale) -> Fit:
        return Fit(
            task="group words",
            setting={"group": group, "shortest": 1, "longest": 40},
            pattern="",
            width=16 if scale == "smoke" else 128,
            steps={"smoke": 20, "cpu": 1000, "paper": 20_000}[scale],
            learning_rate=0.0,
            evaluate={TRAINED: {}},
            test={LONGER: {"shortest": 256, "longest": 256, "asked": "last"}},
            sequences=64 if scale == "smoke" else 512,
            sequences_at_once=32,
        )

    def trials(self) -> Mapping[str, Fit]:
        fit = self._fit("S3", "cpu")
        return {"": replace(fit, setting={**fit.setting, "longest": 10}, steps=200, test={}, evaluations=2)}

    def judge(self, results: Results) -> Verdict:
        def scores(model: str, task: str) -> list[float]:
            return results.scores(model, task, at=LONGER)

        unsolved = [not any(solved(scores(model, task)) for model in LINEAR) for task in LONG]
        models = (*LINEAR, "gru", "gru equal parameters")
        words = "; ".join(
            f"{task} after 256 steps: " + ", ".join(f"{model} {percent(scores(model, task))}" for model in models)
            for task in LONG
        )
        words += "; in five times the steps: " + ", ".join(
            f"{model} {percent(scores(model, LONG['parity']))} and {percent(scores(model, LONG['A5']))}"
            for model in LINEAR
        )
        trained = ", ".join(f"{model} {percent(results.scores(model, 'A5', at=TRAINED))}" for model in models)
        words += f"; A5 at lengths of training: {trained}; the others are in the table"
        gru, blind = scores("gru", "A5"), scores("attention without positions", "parity")
        return Verdict(
            answer(holds=all(unsolved), in_part=any(unsolved)),
            words,
            Control("gru solves A5", percent(gru), solved(gru)),
            Control("attention without positions does not solve parity", percent(blind), not solved(blind)),
        )
