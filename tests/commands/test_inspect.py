"""minrnn inspect"""

import json
from pathlib import Path

import numpy as np
import pytest

from minrnn.commands import main
from minrnn.series import MinRNNClassifier, MinRNNForecaster, save_estimator
from minrnn.training import load_run


def test_a_run_on_text(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "run.html"
    assert main(["inspect", str(run), "--out", str(page)]) == 0
    out = capsys.readouterr().out
    assert "stack.blocks.0.mixer" in out and "1 mingru" in out
    written = page.read_text()
    assert written.count("data:image/png;base64,") == 2 and "1 mingru" in written and "http" not in written
    assert main(["inspect", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["parameters"].values()) == sum(one.numel() for one in load_run(run).model.parameters())
    low, middle, high = found["memory"][0]["half_lives"]
    assert 0 < low <= middle <= high


def test_runs_on_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(2, 12 + number)) for number in range(10)]
    small = {"width": 8, "steps": 3, "random_state": 0}
    save_estimator(MinRNNClassifier(**small).fit(X, ["a", "b"] * 5), tmp_path / "classify")
    forecaster = MinRNNForecaster(4, context=16, **small).fit(rng.normal(size=60), exog=np.arange(60.0))
    save_estimator(forecaster, tmp_path / "forecast")
    np.savez(tmp_path / "classify.npz", X=rng.normal(size=(9, 2, 14)))
    np.savez(tmp_path / "one.npz", X=rng.normal(size=(9, 1, 14)))
    np.savez(tmp_path / "forecast.npz", y=rng.normal(size=60), exog=np.arange(60.0))
    for task, layers in (("classify", 4), ("forecast", 1)):
        words = [str(tmp_path / task), "--data", str(tmp_path / f"{task}.npz"), "--out", str(tmp_path / "page.html")]
        assert main(["inspect", *words, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["memory"]) == layers
        assert (tmp_path / "page.html").read_text().count("data:image/png") == 2
    assert main(["inspect", str(tmp_path / "classify"), "--data", str(tmp_path / "one.npz")]) == 2
    assert "1 channels; expected 2" in capsys.readouterr().err


def test_what_cannot_be_inspected(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (([str(tmp_path / "none")], "no run folder"), ([str(run), "--out", "run.pdf"], ".html")):
        assert main(["inspect", *words]) == 2
        output = capsys.readouterr()
        assert said in output.err and len(output.err.splitlines()) == 1
