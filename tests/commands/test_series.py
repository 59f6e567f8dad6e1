"""minrnn train, evaluate and predict on files of time series."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from minrnn.commands import main
from minrnn.commands._series import ClassifyOptions, ForecastOptions, RegressOptions, _parameters
from minrnn.series import MinRNNClassifier, MinRNNForecaster, MinRNNRegressor, load_estimator

SMALL = ["--width", "8", "--layers", "1", "--steps", "60", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of each kind."""
    folder, rng, rows = tmp_path_factory.mktemp("series"), np.random.default_rng(0), []
    for number in range(60):
        fast = number % 2
        for t in range(rng.integers(15, 25)):
            x = np.sin(t * (0.9 if fast else 0.4)) + 0.1 * rng.normal()
            rows.append([f"s{number}", t, x, rng.normal(), ["slow", "fast"][fast], 10 + fast + number / 1000])
    table = pd.DataFrame(rows, columns=["id", "t", "a", "b", "gait", "pace"])
    table.to_csv(folder / "gaits.csv", index=False)
    table[["b", "a", "t", "id"]].to_parquet(folder / "new.parquet")
    t = np.arange(400)
    holiday = (t % 50 < 3).astype(float)
    times = pd.date_range("2024-01-01", periods=400, freq="h")
    power = pd.DataFrame({"when": times, "load": 100 + 20 * np.sin(t / 4) + 30 * holiday, "holiday": holiday})
    power.to_csv(folder / "power.csv", index=False)
    power.loc[390:, "load"] = np.nan
    power.to_csv(folder / "ahead.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def simple_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of labels compile for half a minute; tests/series has them."""

    def first(task: str, X: object, y: np.ndarray, X_new: list[np.ndarray], busy: object) -> dict[str, Any]:
        assert len(y) == 48  # what is not held out
        return {"first": np.repeat(y[:1], len(X_new)), "none": None}

    monkeypatch.setattr("minrnn.series._baselines.label_baselines", first)


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def gaits(folder: Path) -> Path:
    """A run, not to be changed."""
    words = ["--series", "id", "--time", "t", "--target", "gait", "--ignore", "pace", "--out", folder / "run", *SMALL]
    assert run("train", "--task", "classify", "--data", folder / "gaits.csv", *words) == 0
    return folder / "run"


def test_classify(gaits: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", gaits, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["series"] == 12 and found["accuracy"] > 0.8 and found["commonest_class"] == 0.5
    assert found["baselines"] == {"first": 0.5, "none": None}
    assert np.sum(found["confusion"]) == 12
    assert run("evaluate", gaits, "--split", "all", "--picture", folder / "gaits.png") == 0
    assert "true \\ answer  fast  slow" in capsys.readouterr().out
    assert (folder / "gaits.png").read_bytes()[:4] == b"\x89PNG"
    assert run("predict", gaits, "--data", folder / "new.parquet") == 0  # its columns are in another order
    answers = pd.read_csv(StringIO(capsys.readouterr().out))
    assert list(answers) == ["series", "answer", "probability of fast", "probability of slow"]
    assert (answers["answer"] == ["slow", "fast"] * 30).mean() > 0.8


def test_what_was_understood_is_said_first(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--series=id", "--time=t", "--target=pace", "--ignore=gait", f"--out={tmp_path / 'run'}", *SMALL[:-4]]
    words += ["--steps=300", "--threads=1"]
    assert run("train", "--task=regress", "--data", folder / "gaits.csv", *words) == 0
    out = capsys.readouterr().out.splitlines()
    assert "60 series of 2 channels (a, b), 15 to 24 steps, no value missing; labels from 10 to 11.059" in out[0]
    assert out[1].startswith("held out: root mean squared error 0.")
    assert run("evaluate", tmp_path / "run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rmse"] < found["rmse_of_mean"]
    (folder / "others.csv").write_text((folder / "gaits.csv").read_text() + "\n")
    assert run("evaluate", tmp_path / "run", "--data", folder / "others.csv") == 0
    assert "\nfirst: root mean squared error 0." in capsys.readouterr().out
    assert run("evaluate", tmp_path / "run", "--data", folder / "gaits.csv") == 0
    assert "\nfirst:" not in capsys.readouterr().out  # it has learned from these
    assert run("evaluate", tmp_path / "run", "--no-baselines", "--json") == 0
    assert "baselines" not in json.loads(capsys.readouterr().out)


def test_forecast(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--known", "holiday", "--horizon", "10", "--context", "48", "--out", tmp_path / "run", *SMALL]
    assert run("train", "--task", "forecast", "--data", folder / "power.csv", *words) == 0
    assert "1 series of 1 channel (load), 400 steps, no value missing, 1 hour apart; known" in capsys.readouterr().out
    assert run("evaluate", tmp_path / "run", "--json", "--picture", tmp_path / "load.png") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mse"] < found["mse_of_last_value"] and found["forecasts"] == 71
    assert found["baselines"]["ridge regression"] < found["mse_of_last_value"]
    out = tmp_path / "answers.csv"
    assert run("predict", tmp_path / "run", "--data", folder / "ahead.csv", "--out", out) == 0
    answers = pd.read_csv(out)
    assert answers["step"].iloc[0] == "2024-01-17 06:00:00" and len(answers) == 10
    assert (answers["quantile 0.1"] <= answers["quantile 0.9"]).all()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train", "--task", "clasify"], "--task is clasify; expected language, classify, regress, forecast"),
        (["train", "--task", "classify", "--data", "{}/gaits.csv", "--series", "id", "--out", "{}/a"], "column gait"),
        (["train", "--task", "classify", "--data", "{}/power.csv", "--ignore", "when", "--out", "{}/a"], "no labels"),
        (["train", "--task", "forecast", "--data", "{}/power.csv", "--held-out", "1", "--out", "{}/a"], "--held-out"),
        (
            ["train", "--task", "forecast", "--data", "{}/power.csv", "--horizon", "900", "--out", "{}/a"],
            "400 steps, 80 of them to be forecast; expected 900 or more, the horizon",
        ),
        (
            ["train", "--task", "forecast", "--data", "{}/power.csv", "--held-out", ".001", "--out", "{}/a"],
            "400 steps, 0 of them to be forecast; expected",
        ),
        (["train", "--task", "forecast", "--data", "{}/power.csv", "--mixer", "gro", "--out", "{}/a"], "gro"),
        (
            ["train", "--task", "classify", "--data", "{}/power.csv", "--ignore", "x", "--out", "{}/a"],
            "--ignore x is no",
        ),
        (["train", "--task", "regress", "--data", "{}/gaits.csv", "--target", "a", "b", "--out", "{}/a"], "2 columns"),
        (["train", "--task", "classify", "--data", "{}/gaits.csv", "--out", "{}/run"], "holds a run already"),
        (["train", "--task", "forecast", "--data", "{}/power.csv", "--out", "{}/power.csv/run"], "cannot write"),
        (["evaluate", "{}/run", "--data", "{}/power.csv"], "--target gait is no column"),
        (["predict", "{}/run", "--data", "{}/gaits.csv", "--out", "{}/a.doc"], "expected a .csv or a .parquet"),
        (["predict", "{}/none", "--data", "{}/gaits.csv"], "no run folder"),
        (["generate", "{}/run"], "holds a run of the task 'classify'"),
    ],
)
def test_bad_input_is_one_line(
    gaits: Path, folder: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(*(word.format(folder) for word in words)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and complaint in lines[0]
    assert not (folder / "a").exists()


def test_unseen_classes(gaits: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.csv").write_text((folder / "gaits.csv").read_text().replace("fast", "flying"))
    assert run("evaluate", gaits, "--data", tmp_path / "other.csv") == 2
    assert "has the class 'flying', which the run has not seen" in capsys.readouterr().err


def test_defaults_are_those_of_the_estimators() -> None:
    for options, kind in (
        (ClassifyOptions(data="x", out="y"), MinRNNClassifier),
        (RegressOptions(data="x", out="y"), MinRNNRegressor),
        (ForecastOptions(data="x", out="y"), MinRNNForecaster),
    ):
        own = kind().get_params()
        ours = _parameters(options)
        for name in set(ours) - {"random_state", "n_jobs", "verbose", "horizon"}:
            assert ours[name] == own[name], name


def test_a_run_ended_early_is_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minrnn.commands import train

    class Soon(list[int]):
        """A signal that comes after a few updates."""

        asked = 0

        def __bool__(self) -> bool:
            self.asked += 1
            return self.asked > 5

        def __getitem__(self, at: object) -> int:  # type: ignore[override]
            return 2

    from contextlib import nullcontext

    monkeypatch.setattr(train, "stop_signals", lambda: nullcontext(Soon()))
    words = ["--series=id", "--time=t", "--target=gait", "--ignore=pace", f"--out={tmp_path / 'run'}", *SMALL]
    assert run("train", "--task=classify", "--data", folder / "gaits.csv", *words) == 130
    loaded = load_estimator(tmp_path / "run")
    assert isinstance(loaded, MinRNNClassifier) and loaded.updates_ == 6


def test_a_file_that_has_changed_has_no_held_out_part(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "gaits.csv"
    data.write_bytes((folder / "gaits.csv").read_bytes())
    words = ["--series=id", "--time=t", "--target=gait", "--ignore=pace", f"--out={tmp_path / 'run'}", *SMALL[:-4]]
    assert run("train", "--task=classify", "--data", data, *words, "--steps=2", "--threads=1") == 0
    data.write_text(data.read_text() + "s0,99,1.0,1.0,slow,10\n")
    assert run("evaluate", tmp_path / "run") == 2
    assert "has changed since" in capsys.readouterr().err
    assert run("evaluate", tmp_path / "run", "--split", "all") == 0
    assert run("evaluate", tmp_path / "run", "--data", data) == 0


def test_fine_tuning(gaits: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(folder / "gaits.csv")
    table = table[table["id"].isin([f"s{number}" for number in range(8)])]
    table[["b", "id", "t", "gait", "a"]].to_csv(tmp_path / "few.csv", index=False)  # in another order
    words = ["--task", "classify", "--data", tmp_path / "few.csv", "--series", "id", "--time", "t", "--target", "gait"]
    words += ["--threads", "1", "--steps", "1", "--learning-rate", "1e-9", "--init", gaits]
    assert run("train", *words, "--out", tmp_path / "tuned") == 0
    tuned, begun = load_estimator(tmp_path / "tuned"), load_estimator(gaits)
    assert tuned.get_params()["width"] == 8 and not tuned.warm_start
    for name, weight in begun.network_.state_dict().items():
        assert np.allclose(tuned.network_.state_dict()[name], weight, atol=1e-6), name
    capsys.readouterr()
    assert run("train", *words, "--width", "32", "--out", tmp_path / "other") == 2
    assert "width should be 32, but the weights of --init" in capsys.readouterr().err
    words[1] = "forecast"
    assert run("train", *[*words[:4], *words[8:8], "--init", gaits], "--out", tmp_path / "other") == 2
    assert "is a run of --task classify; expected one of forecast" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_irregular_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, rows = np.random.default_rng(0), []
    for number in range(40):
        times = pd.Timestamp("2024-03-01") + pd.to_timedelta(np.cumsum(rng.exponential(1 + 3 * (number % 2), 12)), "h")
        rows += [[number, time, rng.normal(), ["often", "seldom"][number % 2]] for time in times]
    table = pd.DataFrame(rows, columns=["id", "when", "x", "label"])  # the label is in the times alone
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "events.csv", index=False)
    words = ["--series", "id", "--time", "when", "--irregular", *SMALL, "--steps", "200", "--out", tmp_path / "run"]
    assert run("train", "--task", "classify", "--data", tmp_path / "events.csv", *words) == 0
    assert run("evaluate", tmp_path / "run", "--json", "--no-baselines") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["accuracy"] >= 0.75
    assert run("predict", tmp_path / "run", "--data", tmp_path / "events.csv") == 0
    assert run("train", "--task", "classify", "--data", tmp_path / "events.csv", "--irregular", "--out", "x") == 2
    assert "--irregular needs --series and --time" in capsys.readouterr().err
    np.savez(tmp_path / "X.npz", X=rng.normal(size=(6, 2, 9)), y=np.arange(6) % 2)
    words = ["--series", "id", "--time", "when", "--irregular", "--out", "x"]
    assert run("train", "--task", "classify", "--data", tmp_path / "X.npz", *words) == 2
    assert "--series is for tables" in capsys.readouterr().err
    words = ["--series", "id", "--time", "when", "--init", tmp_path / "run", "--out", "x"]
    assert run("train", "--task", "classify", "--data", tmp_path / "events.csv", *words) == 2
    assert "was trained with --irregular; train with it" in capsys.readouterr().err


def test_static_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t = np.arange(120)
    rows = [[shop, at, (2 * shop - 1) * (at % 7 == 6), shop] for shop in (0, 1) for at in t]  # a jump, up or down
    table = pd.DataFrame(rows, columns=["shop", "day", "sales", "size"])
    table.to_csv(tmp_path / "shops.csv", index=False)
    words = ["--series", "shop", "--time", "day", "--static", "size", "--horizon", "7", "--context", "5"]
    words += [*SMALL, "--out", tmp_path / "run"]
    assert run("train", "--task", "forecast", "--data", tmp_path / "shops.csv", *words) == 0
    assert "of each series: size" in capsys.readouterr().out
    assert run("evaluate", tmp_path / "run", "--json") == 0
    assert load_estimator(tmp_path / "run").scales_.static.mean == [0.5]
    capsys.readouterr()
    assert run("predict", tmp_path / "run", "--data", tmp_path / "shops.csv") == 0
    before = pd.read_csv(StringIO(capsys.readouterr().out))["mean"]
    table.assign(size=1 - table["size"]).to_csv(tmp_path / "swapped.csv", index=False)
    assert run("predict", tmp_path / "run", "--data", tmp_path / "swapped.csv") == 0
    assert (pd.read_csv(StringIO(capsys.readouterr().out))["mean"] - before).abs().max() > 0.01
    table.loc[5, "size"] = 3
    table.to_csv(tmp_path / "other.csv", index=False)
    assert run("predict", tmp_path / "run", "--data", tmp_path / "other.csv") == 2
    assert "column size of" in capsys.readouterr().err


def test_columns_that_are_called_like_labels(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(folder / "gaits.csv").rename(columns={"b": "y"}).drop(columns="pace")
    table.to_csv(tmp_path / "train.csv", index=False)
    words = ["--series=id", "--time=t", "--target=gait", f"--out={tmp_path / 'run'}", *SMALL[:-4]]
    words += ["--steps=2", "--threads=1"]
    assert run("train", "--task=classify", "--data", tmp_path / "train.csv", *words) == 0
    assert run("inspect", tmp_path / "run") == 0
    capsys.readouterr()
    answers = []
    for new in (table, table.drop(columns="gait"), table.assign(gait=""), table.assign(gait=table.index)):
        new.to_csv(tmp_path / "new.csv", index=False)
        assert run("predict", tmp_path / "run", "--data", tmp_path / "new.csv") == 0
        answers.append(capsys.readouterr().out)
    assert len(set(answers)) == 1
    words[2] = "--ignore=b"
    for kind, labels in (("classify", "gait"), ("regress", "pace")):
        table = pd.read_csv(folder / "gaits.csv").rename(columns={labels: "Label"})
        table = table[["id", "t", "a", "b", "Label"]]
        table.to_csv(tmp_path / "train.csv", index=False)
        assert run("train", f"--task={kind}", "--data", tmp_path / "train.csv", *words, "--overwrite") == 0
        assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["target"] == "Label"
        table.assign(Label="?").to_csv(tmp_path / "new.csv", index=False)
        assert run("predict", tmp_path / "run", "--data", tmp_path / "new.csv") == 0


def in_rows(path: Path, labels: list[object]) -> Path:
    """A table with a series in each row."""
    steps = pd.DataFrame(np.random.default_rng(0).normal(size=(len(labels), 6)))
    steps.assign(label=labels).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("seed", range(4))
def test_the_only_series_of_a_class_is_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    data = in_rows(tmp_path / "rare.csv", [*"aaaaaabbb", "c"])
    words = [f"--seed={seed}", f"--out={tmp_path / 'run'}", "--held-out=0.3", *SMALL[:-4], "--steps=1", "--threads=1"]
    assert run("train", "--task=classify", "--data", data, *words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("3 classes: a 6, b 3, c 1")
    assert out[1] == "learned from and not held out, as the only one of its class: c"
    assert run("evaluate", tmp_path / "run", "--no-baselines", "--json") == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["a", "b", "c"]


def test_no_series_is_left_to_hold_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = in_rows(tmp_path / "each.csv", [*"abcdef"])
    assert run("train", "--task=classify", "--data", data, "--out", tmp_path / "run", *SMALL) == 2
    assert "no series of" in (error := capsys.readouterr().err) and "--held-out 0" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("learned", "new", "unseen"),
    [
        ([0, 1] * 3 + ["x"] * 4, [0, 1] * 3, [0, 2]),  # which pandas reads as words, and as numbers
        ([0, 1] * 6, [0.0, 1.0] * 3, [0, "x"]),
    ],
)
def test_labels_of_another_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], learned: list[object], new: list[object], unseen: list[object]
) -> None:
    data = in_rows(tmp_path / "learned.csv", learned)
    words = [f"--out={tmp_path / 'run'}", *SMALL[:-4], "--steps=100", "--dropout=0", "--held-out=0", "--threads=1"]
    assert run("train", "--task=classify", "--data", data, *words) == 0
    capsys.readouterr()
    words = ["--data", in_rows(tmp_path / "new.csv", new), "--json", "--no-baselines"]  # the first series again
    assert run("evaluate", tmp_path / "run", *words) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] >= 0.8
    assert run("evaluate", tmp_path / "run", "--data", in_rows(tmp_path / "new.csv", unseen)) == 2
    assert f"has the class {unseen[1]!r}, which the run has not seen" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["classify", "forecast"])
def test_learning_that_diverges_leaves_no_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    data = in_rows(tmp_path / "data.csv", [*"ab"] * 10) if task == "classify" else folder / "power.csv"
    words = ["--data", data, "--out", tmp_path / "run", *SMALL, "--learning-rate=1e9"]
    assert run("train", "--task", task, *words) == 2
    assert "training diverged at step" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
