from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pandas as pd
import pytest

from minrnn.commands import main
from minrnn.series import MinRNNForecaster, save_estimator

SERIES = ["--width", "8", "--layers", "1", "--conv", "2", "--mlp", "0", "--steps", "150", "--threads", "1"]
TEXT = (
    "--pattern,mingru,--width,16,--context,16,--batch,4,--warmup,2,--precision,float32,--threads,1,--steps,40,"
    "--conv,2,--mlp,1"
)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of each kind, not to be changed: text, classify, forecast."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    (folder / "text.txt").write_text("".join(f"{number} sheep jumped over the fence; " for number in range(80)))
    data = ["--data", str(folder / "text.txt")]
    assert main(["train", *data, *TEXT.split(","), "--out", str(folder / "text")]) == 0
    rows = [
        [f"s{number}", t, np.sin(t * (0.9 if number % 2 else 0.4)), rng.normal(), ["slow", "fast"][number % 2]]
        for number in range(40)
        for t in range(rng.integers(10, 20))
    ]
    table = pd.DataFrame(rows, columns=["id", "t", "a", "b", "gait"])
    table.loc[rng.random(len(table)) < 0.1, "b"] = np.nan
    table.to_csv(folder / "gaits.csv", index=False)
    words = ["--data", str(folder / "gaits.csv"), "--series", "id", "--time", "t", "--target", "gait", *SERIES]
    words += ["--one-direction", "--mixer", "minlstm"]
    assert main(["train", "--task", "classify", *words, "--out", str(folder / "classify")]) == 0
    y = np.stack([np.sin(np.arange(90) / 4), 50 + 9 * np.cos(np.arange(90) / 4)])
    forecaster = MinRNNForecaster(4, context=16, width=8, conv=0, mlp=0, steps=20, random_state=0)
    save_estimator(forecaster.fit(y, np.arange(90)[None] % 7.0), folder / "forecast")
    return folder


@pytest.fixture(scope="session")
def exports(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX of each run, not to be changed."""
    folder = tmp_path_factory.mktemp("exports")
    for name in ("text", "classify", "forecast"):
        small = [] if name == "forecast" else ["--int8"]
        assert main(["export", str(runs / name), "--out", str(folder / name), *small]) == 0
    return folder


@pytest.fixture
def exported_before(exports: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Exporting a run again takes the graphs that `exports` has of it, which is done in no time."""

    def again(graph: Any, example: Any, path: Path) -> None:
        kind = "text" if "tokens" in example else "classify"
        copyfile(exports / kind / path.name, path)

    monkeypatch.setattr("minrnn.export._onnx.write_graph", again)
    return monkeypatch
