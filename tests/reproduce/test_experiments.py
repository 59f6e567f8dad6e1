"""What a person relies on: nothing runs twice, nothing that ran is lost, and no verdict stands without its controls."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from minrnn.commands import main
from minrnn.errors import UserError
from minrnn.reproduce import load, names
from minrnn.reproduce._experiment import (
    Answer,
    ByScale,
    Cell,
    Control,
    Experiment,
    Results,
    Table,
    Verdict,
)
from minrnn.reproduce._run import Folder, run, summarize
from minrnn.training._progress import Silent


class Coins(Experiment):
    """Cells that take no time; `broken` fail and `gone` end their process."""

    name = "coins"
    claim = "Heads."
    source = "none"
    differs = ByScale("", "", "")
    minutes = ByScale(1.0, 1.0, 1.0)
    rule = "Holds where all are heads."
    models: Sequence[str] = ("a", "b")

    def cells(self, scale: str, tuned: Results) -> Sequence[Cell]:
        return [Cell(model, seed, options={"sides": 2}) for model in self.models for seed in (0, 1)]

    def run(self, cell: Cell, watch: Any) -> dict[str, Any]:
        watch(0.5, "in the air")
        if cell.model == "broken":
            raise RuntimeError("lost")
        if cell.model == "gone":
            raise SystemExit(3)
        return {"scores": {"heads": 1.0}}

    def judge(self, results: Results) -> Verdict:
        heads = results.scores("a", at="heads")
        control = Control("a is heads", str(heads), min(heads) == 1)
        return Verdict("holds", "all are heads", control, Control("no edge", "none", True))

    def table(self, results: Results) -> Table:
        return Table(["model"], [[one.cell.model] for one in results])

    def draw(self, results: Results, figure: Any) -> None:
        figure.subplots().plot([0, 1])


class MoreCoins(Coins):
    models = ("a", "b", "c")


class BrokenCoins(Coins):
    models = ("broken", "gone", "a")


def files(folder: Folder) -> dict[str, float]:
    return {path.name: path.stat().st_mtime_ns for path in folder.cells.iterdir()}


def test_only_what_is_missing_is_run(tmp_path: Path) -> None:
    assert run(Coins(), "cpu", tmp_path, 1, Silent()).answer == "holds"
    first = files(Folder(tmp_path, Coins(), "cpu"))
    assert set(first) == {"a-seed-0.json", "a-seed-1.json", "b-seed-0.json", "b-seed-1.json"}

    more = Folder(tmp_path, MoreCoins(), "cpu")
    run(MoreCoins(), "cpu", tmp_path, 1, Silent())
    assert files(more).items() >= first.items() and len(files(more)) == 6
    summary = json.loads(more.summary.read_text())
    assert summary["verdict"] == "holds" and summary["seeds"] == [0, 1]
    assert {"commit", "versions", "processor", "command", "controls", "minutes"} <= summary.keys()
    assert more.picture.stat().st_size > 1000


def test_a_cell_of_other_settings_is_run_again(tmp_path: Path) -> None:
    run(Coins(), "cpu", tmp_path, 1, Silent())
    folder = Folder(tmp_path, Coins(), "cpu")
    record = json.loads((folder.cells / "a-seed-0.json").read_text())
    (folder.cells / "a-seed-0.json").write_text(json.dumps(record | {"options": {"sides": 6}}))
    with pytest.raises(UserError, match="a-seed-0 is missing or was run with other settings"):
        folder.results()
    before = files(folder)
    run(Coins(), "cpu", tmp_path, 1, Silent())
    after = files(folder)
    assert {name for name in after if after[name] != before[name]} == {"a-seed-0.json"}


def test_a_cell_that_fails_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    said: list[str] = []

    class Listening(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    with pytest.raises(UserError, match=r"coins: [34] of 6 cells failed"):
        run(BrokenCoins(), "cpu", tmp_path, 1, Listening())
    assert any("RuntimeError: lost" in text for text in said)
    assert any("ended with code 3" in text for text in said)
    assert not Folder(tmp_path, BrokenCoins(), "cpu").summary.exists()


def test_a_process_that_ends_before_its_first_cell_is_said(tmp_path: Path) -> None:
    class Local(Coins):
        """Which another process cannot import."""

    with pytest.raises(UserError, match="coins: 2 of 4 cells failed"):
        run(Local(), "cpu", tmp_path, 2, Silent())


class TimedCoins(Coins):
    """One of them is timed."""

    models = ("a", "timed", "b")

    def cells(self, scale: str, tuned: Results) -> Sequence[Cell]:
        return [replace(cell, alone=cell.model == "timed") for cell in super().cells(scale, tuned)]

    def run(self, cell: Cell, watch: Any) -> dict[str, Any]:
        began = time.monotonic()
        time.sleep(0.05)
        used = {"from": began, "to": time.monotonic(), "threads": torch.get_num_threads()}
        return super().run(cell, watch) | used


def test_what_is_timed_has_the_machine_for_itself(tmp_path: Path) -> None:
    run(TimedCoins(), "cpu", tmp_path, 2, Silent())
    records = [json.loads(path.read_text()) for path in Folder(tmp_path, TimedCoins(), "cpu").cells.iterdir()]
    assert all(record["threads"] == record["result"]["threads"] == 1 + record["alone"] for record in records)
    assert all(("busy" in record) == record["alone"] for record in records)
    summary = json.loads(Folder(tmp_path, TimedCoins(), "cpu").summary.read_text())
    assert summary["timed"]["threads"] == 2 and 0 <= summary["timed"]["busy"] <= 1
    timed, others = ([one["result"] for one in records if one["alone"] == alone] for alone in (True, False))
    spans = sorted((one["from"], one["to"]) for one in timed)
    assert spans[0][0] >= max(one["to"] for one in others) and spans[1][0] >= spans[0][1]


class Elsewhere(Coins):
    """Coins that have a package, and lack another."""

    packages = ("pytest", "no-such-package")


def test_versions_of_packages_are_recorded_where_they_are_installed(tmp_path: Path) -> None:
    run(Elsewhere(), "cpu", tmp_path, 1, Silent())
    (versions,) = json.loads(Folder(tmp_path, Elsewhere(), "cpu").summary.read_text())["versions"]
    assert versions.keys() == {"python", "torch", "numba", "numpy", "pytest"}


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    run(Coins(), "cpu", tmp_path, 1, Silent())
    folder = Folder(tmp_path, Coins(), "cpu")
    (folder.cells / "a-seed-1.json").write_text('{"experiment": "co')
    with pytest.raises(UserError, match=r"a-seed-1\.json is not a JSON file"):
        summarize(folder)


@pytest.mark.parametrize("answer", ["holds", "does not hold", "holds in part"])
def test_without_its_controls_a_verdict_says_nothing(answer: Answer) -> None:
    class Missed(Coins):
        def judge(self, results: Results) -> Verdict:
            return Verdict(answer, "so it is", Control("is met", "yes", True), Control("is missed", "no", False))

    verdict = Missed().verdict(Results([]))
    assert verdict.answer == "undecidable at this scale"
    assert verdict.because == "control missed: is missed, found no. Measured: so it is"


def test_the_command_runs_an_experiment_and_goes_on_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "parameters", "--scale", "cpu", "--results", str(tmp_path)]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("parameters: holds (8 of 8 shares agree)")
    before = files(Folder(tmp_path, load("parameters"), "cpu"))
    assert main(command) == 0
    assert files(Folder(tmp_path, load("parameters"), "cpu")) == before


def test_the_report_has_every_experiment_and_what_is_recorded(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "docs" / "page.md"
    assert main(["reproduce", "parameters", "--scale", "cpu", "--results", str(results)]) == 0
    (results / "answer.md").write_text("Almost.")
    (results / "filters" / "cpu" / "cells").mkdir(parents=True)  # begun, and not finished
    assert main(["reproduce", "report", "--results", str(results), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# The paper, reproduced\n\nAlmost.\n")
    assert all(f"\n## {name}\n" in text for name in names())
    assert "**Verdict: holds.** 8 of 8 shares agree." in text
    assert (page.parent / "../results/parameters/cpu/picture.png").exists()
    assert "../results/parameters/cpu/picture.png" in text
    assert "Not recorded yet" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["spede"], "there is no experiment 'spede'; there are speed,"),
        (["parameters", "--scale", "huge"], "minrnn reproduce --help"),
        ([], "minrnn reproduce --help"),
    ],
)
def test_misuse_ends_in_one_line(
    arguments: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *arguments, "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert problem in error and "\n" not in error


def test_the_smallest_scale_decides_nothing(tmp_path: Path) -> None:
    assert run(Coins(), "smoke", tmp_path, 1, Silent()).answer == "undecidable at this scale"
