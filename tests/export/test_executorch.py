"""step.pte answers as the run does, in ExecuTorch's own runtime."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pytest

import minrnn
from minrnn.commands import main
from minrnn.errors import UserError
from minrnn.export import export_executorch
from minrnn.training import generate, load_run

from .test_onnx import alone, record

missing = importlib.util.find_spec("executorch") is None
pytestmark = pytest.mark.skipif(missing, reason="needs executorch: make executorch")


@pytest.fixture(scope="session")
def executorch_exports(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each run that reads step by step, not to be changed; text by a process that imports ExecuTorch anew."""
    folder = tmp_path_factory.mktemp("executorch")
    words = {
        name: ["export", str(runs / name), "--format", "executorch", "--out", str(folder / name)]
        for name in ("text", "classify")
    }
    done = subprocess.run([sys.executable, "-m", "minrnn", *words["text"]], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    assert main(words["classify"]) == 0
    return folder


def test_text_is_written_by_executorch(runs: Path, executorch_exports: Path) -> None:
    run = load_run(runs / "text")
    written = generate(run.model, run.tokenizer, "7 sheep", 50, temperature=0)
    said = alone(executorch_exports / "text", "7 sheep", 50, 0, without="minrnn")
    assert said == "7 sheep" + "".join(piece[0] for piece in written) + "\n"


def test_classes_are_said_step_by_step(runs: Path, executorch_exports: Path, tmp_path: Path) -> None:
    (tmp_path / "series.csv").write_text("1,2\n0.5,\n-1,0.25\n,3\n")
    said = alone(executorch_exports / "classify", tmp_path / "series.csv", without="minrnn")
    answers = minrnn.stream(runs / "classify")
    for line, values in zip(said.splitlines(), ([1, 2], [0.5, np.nan], [-1, 0.25], [np.nan, 3]), strict=True):
        expected = answers.push(values)
        name, *chances = line.split()
        assert name == expected.answer
        assert list(map(float, chances)) == pytest.approx(list(expected.probabilities.values()), abs=2e-6)


@pytest.mark.parametrize("name", ["text", "classify"])
def test_the_file_is_described_and_checked(executorch_exports: Path, name: str) -> None:
    described = record(executorch_exports / name)
    assert described["check"]["sequence"] is None and 0 <= described["check"]["step"] < 1e-5
    content = (executorch_exports / name / "step.pte").read_bytes()
    assert described["graphs"]["step"]["file"] == "step.pte" and described["graphs"]["step"]["bytes"] == len(content)
    assert b"site-packages" not in content and str(Path(minrnn.__file__).parent).encode() not in content


def test_nothing_but_figures_and_progress_is_said(executorch_exports: Path) -> None:
    size, difference, place = (executorch_exports / "stdout").read_text().splitlines()
    assert size.startswith("step.pte: ") and "step from torch" in difference and place.endswith("run.py")
    progress = {"importing executorch", "writing step.pte", "comparing with torch"}
    assert set((executorch_exports / "stderr").read_text().splitlines()) <= progress


def test_a_file_that_differs_is_not_kept(
    runs: Path, executorch_exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(graph: Any, example: Any, path: Path) -> None:
        copyfile(executorch_exports / "text" / path.name, path)

    monkeypatch.setattr("minrnn.export._executorch.write_pte", older)
    run = load_run(runs / "text")
    run.model.embedding.weight.data += 0.01
    monkeypatch.setattr("minrnn.training.load_run", lambda folder: run)
    with pytest.raises(UserError, match="answer differently from the run"):
        export_executorch(runs / "text", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_said(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(run: str, *words: str) -> str:
        out = str(tmp_path / "out")
        assert main(["export", str(runs / run), "--format", "executorch", "--out", out, *words]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "reads its last steps at once; --format onnx takes it" in error("forecast")
    assert "--int8 is for --format onnx" in error("text", "--int8")
    assert "--runtime is for --format web" in error("text", "--runtime", "somewhere")
    monkeypatch.setitem(sys.modules, "executorch", None)
    monkeypatch.delitem(sys.modules, "executorch.exir", raising=False)
    monkeypatch.delitem(sys.modules, "executorch.runtime", raising=False)
    mend = "pip install 'minrnn[executorch]'"
    assert error("text") == f"minrnn export: --format executorch needs executorch: {mend}"
    assert not list(tmp_path.iterdir())
