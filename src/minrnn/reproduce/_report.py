"""The page: the answer, a row for each experiment, and all of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from minrnn.training._files import read_json, write_text

from . import load, names
from ._contest import BIASES, RATES, RATES_WITH_BIAS, SEED_OF_TUNING, Contest
from ._experiment import Verdict
from ._run import Folder, summarize

ANSWER = "answer.md"
"""In the folder of results: the opening of the page, which people write."""
BUDGET = 75
"""Minutes of two cores for an experiment."""


def write_report(results: Path, page: Path) -> None:
    """Write the page from what is recorded at scale `cpu`, judging it anew."""
    folders = [Folder(results, load(name), "cpu") for name in names()]
    verdicts = {folder.experiment.name: summarize(folder) if folder.complete() else None for folder in folders}
    answer = results / ANSWER
    parts = ["# The paper, reproduced", ""]
    if answer.exists():
        parts += [answer.read_text(encoding="utf-8").strip(), ""]
    parts += list(_summary(folders, verdicts))
    for folder in folders:
        parts += list(_section(folder, verdicts[folder.experiment.name], page.parent))
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, "\n".join(parts).rstrip() + "\n")


def _summary(folders: Sequence[Folder], verdicts: dict[str, Verdict | None]) -> Iterator[str]:
    core_minutes = {
        name: read_json(folder.summary)["minutes"] for folder in folders if verdicts[name := folder.experiment.name]
    }
    yield "## Verdicts"
    yield ""
    yield (
        "Each experiment states its rule, with a positive and a negative control, before its runs, and says where it "
        "was changed afterwards; where a control is missed, nothing is decided. *Solved* is 99 % on at least two of "
        "three seeds, *better* means that the ranges of the seeds do not overlap, in each set of three where a "
        "contradiction of the paper asked for a second. Accuracies are in percent; of several seeds the mean stands "
        "first, and the least and the greatest in brackets. What a table gives in seconds or milliseconds was timed "
        "with nothing beside; all else ran one cell on each core. Every row was made by the command in it, at scale "
        "`cpu`: what two cores can decide, far smaller than the paper's runs, each section says by how much. "
        f"{_over_budget(core_minutes)}"
    )
    yield ""
    yield (
        "Of published figures, *others* are of other people than the paper's authors, and *unverified* ones were taken "
        "from a second source. Formal languages and groups: parity asks whether the ones so far are odd in number; S3 "
        "and A5 are the permutations of three things and the even ones of five, and the task is the product of all so "
        "far. MQAR is multi-query associative recall: pairs of a key and a value, then some of the keys, whose values "
        "are asked (arXiv 2312.04927). Mixers have the names of [their page](mixers.md)."
    )
    yield ""
    yield from _table(
        ["experiment", "claim", "verdict", "core-minutes", "command"],
        [
            [
                f"[{name}](#{name})",
                folder.experiment.claim,
                "not recorded yet" if verdict is None else f"**{verdict.answer}**",
                "" if verdict is None else f"{core_minutes[name]:g}",
                f"`{folder.experiment.command('cpu')}`",
            ]
            for folder in folders
            for name in [folder.experiment.name]
            for verdict in [verdicts[name]]
        ],
    )
    yield ""


def _over_budget(core_minutes: dict[str, float]) -> str:
    longer = [f"{name} {taken / 2:.0f}" for name, taken in core_minutes.items() if taken / 2 > BUDGET]
    return (
        f"All together took {sum(core_minutes.values()) / 120:.0f} hours of two cores; at most {BUDGET} minutes were "
        f"meant for each, and {', '.join(longer) or 'none'} took more."
    )


def _section(folder: Folder, verdict: Verdict | None, page: Path) -> Iterator[str]:
    experiment = folder.experiment
    yield f"## {experiment.name}"
    yield ""
    yield f"**Claim.** {experiment.claim} *({experiment.source})*"
    yield ""
    if experiment.published:
        rows = [[one.what, one.value, one.status] for one in experiment.published]
        yield from _table(["published", "value", "status"], rows)
        yield ""
    yield f"**What differs.** {_sentence(experiment.differs['cpu'])}"
    yield ""
    if isinstance(experiment, Contest):
        yield from _tuning(experiment, folder, recorded=verdict is not None)
    yield f"**Rule.** {experiment.rule}"
    yield ""
    if verdict is None:
        yield f"Not recorded yet; `{experiment.command('cpu')}` runs it."
        yield ""
        return
    summary = read_json(folder.summary)
    yield f"**Verdict: {verdict.answer}.** {_sentence(verdict.because)}"
    yield ""
    for word, control in (("Positive", verdict.positive), ("Negative", verdict.negative)):
        yield f"{word} control, {'met' if control.met else 'missed'}: {control.what}; found {control.found}."
        yield ""
    yield from _table(summary["table"]["header"], summary["table"]["rows"])
    yield ""
    yield f"![{experiment.name}]({os.path.relpath(folder.picture, page)})"
    yield ""
    versions = "; ".join(", ".join(f"{name} {one}" for name, one in each.items()) for each in summary["versions"])
    machine = f"{', '.join(summary['processor'])} with {', '.join(summary['instructions'])}"
    seeds = ", ".join(map(str, summary["seeds"]))
    timed = ""
    if "timed" in summary:
        used = summary["timed"]
        others = "" if used["busy"] is None else f", of which others took {100 * used['busy']:.0f} % at most"
        timed = f"timed on {used['threads']} of {used['processors']} processors{others}; "
    yield (
        f"`{summary['command']}`: seeds {seeds}; {summary['minutes']:g} core-minutes of runs; {timed}"
        f"commit {', '.join(f'`{commit}`' for commit in summary['commit'])}; {versions}; {machine}; "
        f"{', '.join(summary['date'])}."
    )
    yield ""


def _tuning(experiment: Contest, folder: Folder, recorded: bool) -> Iterator[str]:
    cells = experiment.tuning("cpu")
    if not cells:
        return
    rates, fewer, biases = (", ".join(f"{value:g}" for value in values) for values in (RATES, RATES_WITH_BIAS, BIASES))
    chosen = ""
    if recorded:
        tuned, _ = folder.read(cells)
        families = [one for one in experiment.contestants("cpu") if not one.family]
        for setting in experiment.trials():
            here = [one for one in families if not setting or experiment.seeds(one, setting)]
            taken = "; ".join(f"{one.name} {experiment.chosen(one, setting, tuned)}" for one in here)
            chosen += f" Chosen{f' for {setting}' if setting else ''}: {taken}."
    yield (
        f"**Tuning.** Four trials for each family of models (seed {SEED_OF_TUNING}, a short setting) choose the "
        f"learning rate: {rates}; or, where a forget bias is tuned along, rates {fewer} with biases {biases}.{chosen}"
    )
    yield ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", ")")) else text + "."
