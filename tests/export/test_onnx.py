"""Exported graphs answer as the run does, where neither minrnn nor torch is."""

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import minrnn
from minrnn.commands import main
from minrnn.data import BPETokenizer, ByteTokenizer, CharacterTokenizer
from minrnn.errors import UserError
from minrnn.export import export_onnx
from minrnn.export._check import check
from minrnn.export._forecast import Forecast
from minrnn.export._label import Label
from minrnn.export._source import source_of
from minrnn.export._stepped import REFUSED, check_mixers, stepped
from minrnn.export._traced import eager
from minrnn.mixers import names
from minrnn.models import LanguageModel, LanguageModelConfig
from minrnn.series import MinRNNClassifier, MinRNNForecaster, MinRNNRegressor, load_estimator, save_estimator
from minrnn.training import evaluate, generate, load_run

from .conftest import SERIES

ALONE = """
import runpy, sys
blocked = sys.argv[1].split()
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[2:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(folder: Path, *words: object, without: str = "minrnn torch") -> subprocess.CompletedProcess[str]:
    """run.py of an export in a process that cannot import some packages."""
    command = [sys.executable, "-c", ALONE, without, (folder / "run.py").as_posix(), *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env={"PYTHONUTF8": "1"})


def alone(folder: Path, *words: object, without: str = "minrnn torch") -> str:
    """What it prints."""
    done = run_alone(folder, *words, without=without)
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(folder: Path) -> Any:
    return json.loads((folder / "model.json").read_text())


@pytest.mark.parametrize("prompt", ["7 sheep", ""])
def test_text_is_written_without_torch(runs: Path, exports: Path, prompt: str) -> None:
    run = load_run(runs / "text")
    written = generate(run.model, run.tokenizer, prompt, 50, temperature=0)
    assert alone(exports / "text", prompt, 50, 0) == prompt + "".join(piece[0] for piece in written) + "\n"


def test_classes_are_said_step_by_step(runs: Path, exports: Path, tmp_path: Path) -> None:
    (tmp_path / "series.csv").write_text("1,2\n0.5,\n-1,0.25\n,3\n")
    lines = alone(exports / "classify", tmp_path / "series.csv").splitlines()
    answers = minrnn.stream(runs / "classify")
    for line, values in zip(lines, ([1, 2], [0.5, np.nan], [-1, 0.25], [np.nan, 3]), strict=True):
        expected = answers.push(values)
        name, *chances = line.split()
        assert name == expected.answer
        assert list(map(float, chances)) == pytest.approx(list(expected.probabilities.values()), abs=2e-6)


def test_forecasts(runs: Path, exports: Path, tmp_path: Path) -> None:
    forecaster: Any = load_estimator(runs / "forecast")
    y = np.stack([np.sin(np.arange(20) / 4), 50 + 9 * np.cos(np.arange(20) / 4)])
    y[1, 17] = np.nan
    np.savetxt(tmp_path / "series.csv", y.T, delimiter=",")
    lines = [line.split() for line in alone(exports / "forecast", tmp_path / "series.csv").splitlines()]
    assert lines[0] == ["channel", "step", "mean", "quantile_0.1", "quantile_0.5", "quantile_0.9"]
    found = np.array(lines[1:], float)[:, 2:].reshape(2, 4, 4)
    mean = np.full((1, 24), forecaster.scales_.covariates.mean)  # what the example takes as known
    np.testing.assert_allclose(found[:, :, 0], forecaster.predict_path(y, mean), rtol=1e-6, atol=1e-5)
    quantiles = forecaster.predict_quantiles(y, mean)  # (C, Q, N)
    np.testing.assert_allclose(found[:, :, 1:].transpose(0, 2, 1), quantiles, rtol=1e-6, atol=1e-5)
    assert not (exports / "forecast/step.onnx").exists()
    assert "reads its last steps at once" in record(exports / "forecast")["no_step"]


PLAIN = "1,50\n0.5,\n-1,49.5\n,51\n"


@pytest.mark.parametrize("name", ["classify", "forecast"])
@pytest.mark.parametrize(
    "content",
    ["a,b\n" + PLAIN, "\ufeffa,\r\n" + PLAIN.replace("\n", "\r\n"), "1,50\n\n0.5,nan\n-1, 49.5\nNA,51"],
    ids=["names", "from a spreadsheet", "words for missing values"],
)
def test_a_file_is_read_as_it_was_meant(exports: Path, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "plain.csv").write_text(PLAIN)
    (tmp_path / "other.csv").write_bytes(content.encode())
    assert alone(exports / name, tmp_path / "other.csv") == alone(exports / name, tmp_path / "plain.csv")


@pytest.mark.parametrize("name", ["classify", "forecast"])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("when,a,b\n2024-06-09,1,50\n2024-06-10,2,49\n", "the file has 3 columns; the model reads 2 channels"),
        ("1\n2\n3\n4\n", "the file has 1 column; the model reads 2 channels"),
        ("when,a\n2024-06-09,1\n2024-06-10,2\n", "the file has '2024-06-09' at step 1; expected a number"),
        ("1,2\n3\n", "the file has 1 column at step 2; the model reads 2 channels"),
        ("1,inf\n", "the file has 'inf' at step 1; expected a number"),
        ("a,b\n", "series.csv has no values"),
        (None, "No such file"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    exports: Path, tmp_path: Path, name: str, content: str | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "series.csv").write_text(content)
    done = run_alone(exports / name, tmp_path / "series.csv")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and complaint in done.stderr


def test_one_step_and_one_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(minrnn.__file__).parent / "export/files")
    read: Any = importlib.import_module("values").read
    for content, channels, expected in (
        ("1,2,3\n", 1, [[1], [2], [3]]),
        ("load\n1\n2\n3\n", 1, [[1], [2], [3]]),
        ("1\n2\n3\n", 3, [[1, 2, 3]]),
        ("1,2,3\n", 3, [[1, 2, 3]]),
        ("1,2\n3,4\n", 2, [[1, 2], [3, 4]]),
        ("7\n", 1, [[7]]),
    ):
        (tmp_path / "series.csv").write_text(content)
        assert read([str(tmp_path / "series.csv")], channels).tolist() == expected


def test_functions_answer_as_the_estimators_do() -> None:
    """Those that graphs are made of; whole series and, where they read from the start, steps."""
    rng = np.random.default_rng(0)
    X = [rng.normal(5, 3, size=(2, T)) for T in (9, 14, 11, 6)]
    X[1][0, 3:5] = np.nan
    small: dict[str, Any] = {"width": 8, "layers": 1, "steps": 4, "random_state": 0}
    values = np.full((4, 14, 2), 7.0)
    for row, one in zip(values, X, strict=True):
        row[: one.shape[1]] = one.T
    inputs = {"values": values, "lengths": np.array([9, 14, 11, 6])}
    regressor = MinRNNRegressor("gru", bidirectional=False, **small).fit(X, [1e3, 2e3, 3e3, 4e3])
    source = Label(regressor)
    graphs, expected = source.graphs(exported=False), regressor.predict(X)
    assert eager(graphs["sequence"])(inputs)["answer"] == pytest.approx(expected, rel=1e-6)
    assert source.step_through(eager(graphs["step"]), inputs)["answer"] == pytest.approx(expected, rel=1e-6)
    classifier = MinRNNClassifier(**small).fit(X, ["a", "b", "a", "b"])
    graphs = Label(classifier).graphs(exported=False)
    assert list(graphs) == ["sequence"]
    found = eager(graphs["sequence"])(inputs)["probabilities"]
    np.testing.assert_allclose(found, classifier.predict_proba(X), atol=1e-6)
    series, static = [rng.normal(size=(2, 40)) for _ in range(3)], rng.normal(9, 2, size=(3, 1))
    forecaster = MinRNNForecaster(4, context=16, **small).fit_many(series, static=static)
    past = np.stack(series)[:, :, -forecaster.context_ :]
    found = eager(Forecast(forecaster).graphs(exported=False)["sequence"])({"past": past, "static": static})["answers"]
    for row, one, known in zip(found, series, static, strict=True):
        np.testing.assert_allclose(row[:, 0], forecaster.predict_path(one, static=known), atol=1e-5)


def test_model_json_is_enough_to_run_both_graphs(runs: Path, exports: Path) -> None:
    """Any batch, any length, the state handed on by the names that it says."""
    model, described = load_run(runs / "text").model, record(exports / "text")
    step = onnxruntime.InferenceSession(exports / "text/step.onnx")
    sequence = onnxruntime.InferenceSession(exports / "text/sequence.onnx")
    B, T = 70, 5
    tokens = np.random.default_rng(0).integers(described["vocabulary"]["size"], size=(B, T))
    with torch.inference_mode():
        expected = model(torch.from_numpy(tokens))[0].numpy()
    parts = described["graphs"]["step"]["state"]
    assert [part["initial"] for part in parts] == [0.0] * len(parts)
    state = {part["name"]: np.zeros([B, *part["shape"][1:]], part["dtype"]) for part in parts}
    logits = sequence.run(["logits"], {"tokens": tokens, **state})[0]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    for t in range(T):
        names = ["logits", *(part["next"] for part in parts)]
        logits, *after = step.run(names, {"tokens": tokens[:, t : t + 1], **state})
        state = {part["name"]: array for part, array in zip(parts, after, strict=True)}
        np.testing.assert_allclose(logits, expected[:, t], atol=1e-5)


@pytest.mark.parametrize("name", ["text", "classify"])
def test_graphs_are_plain_onnx(exports: Path, name: str) -> None:
    for graph in record(exports / name)["graphs"].values():
        loaded = onnx.load(exports / name / graph["file"])
        assert {opset.domain for opset in loaded.opset_import} == {""} and not loaded.functions
        content = (exports / name / graph["file"]).read_bytes()
        assert len(content) == graph["bytes"]
        assert b"site-packages" not in content and str(Path(minrnn.__file__).parent).encode() not in content


def test_what_eight_bits_cost_is_measured_on_what_was_held_out(runs: Path, exports: Path) -> None:
    run, found = load_run(runs / "text"), record(exports / "text")["int8"]
    text = (runs / "text.txt").read_text()
    held_out = run.tokenizer.encode(text[int(0.9 * len(text)) :])
    assert found["on"] == "what was held out in training"
    assert found["float32"] == pytest.approx(evaluate(run.model, held_out).nats_per_token, abs=1e-5)
    assert found["int8"] != found["float32"] and abs(found["difference"]) < 0.05
    for graph in found["graphs"].values():
        assert (exports / "text" / graph["file"]).stat().st_size == graph["bytes"]
    run_step = [onnxruntime.InferenceSession(exports / "text" / file) for file in ("step.onnx", "step.int8.onnx")]
    zeros = {i.name: np.zeros([1, *i.shape[1:]], np.float32) for i in run_step[0].get_inputs() if i.name != "tokens"}
    exact, rough = (step.run(["logits"], {"tokens": np.array([[3]]), **zeros})[0] for step in run_step)
    assert 0 < np.abs(exact - rough).max() < 0.1
    found = record(exports / "classify")["int8"]
    assert found["measured"] == "accuracy, over 8 series" and 0.5 < found["float32"] <= 1


@pytest.mark.parametrize("words", [["--static", "size", "--known", "b"], ["--held-out", "0"]])
def test_eight_bits_of_forecasts(tmp_path: Path, words: list[str]) -> None:
    rows = [f"{shop},{t},{t % 7},{t % 5},{shop}" for shop in (3, 4) for t in range(90)]
    (tmp_path / "shops.csv").write_text("\n".join(["shop,day,a,b,size", *rows]))
    data = ["--data", str(tmp_path / "shops.csv"), "--series", "shop", "--time", "day", "--horizon", "4", *words]
    data += ["--context", "16", *SERIES, "--steps", "2", "--out", str(tmp_path / "run")]
    data += [] if "--static" in words else ["--ignore", "size"]
    assert main(["train", "--task", "forecast", *data]) == 0
    assert main(["export", str(tmp_path / "run"), "--int8", "--out", str(tmp_path / "out")]) == 0
    found = record(tmp_path / "out")["int8"]
    invented = "--held-out" in words
    assert found["on"] == ("random pasts with the run's own forecasts" if invented else "what was held out in training")
    assert f"over {200 if invented else 30:,} forecasts" in found["measured"]
    assert np.isfinite(found["int8"])


def test_folders_are_not_lost(
    runs: Path, exports: Path, tmp_path: Path, exported_before: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    run = str(runs / "text")
    for out, complaint in (("notes", "holds other files"), ("file", "is a file"), ("file/below", "cannot write")):
        assert main(["export", run, "--out", str(tmp_path / out)]) == 2
        assert complaint in capsys.readouterr().err
    export_onnx(run, tmp_path / "out")
    with pytest.raises(UserError, match="--overwrite"):
        export_onnx(run, tmp_path / "out")
    (tmp_path / "out/step.onnx").write_text("old")
    export_onnx(run, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/step.onnx").read_bytes() == (exports / "text/step.onnx").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "file", "out"}


def test_an_export_whose_replacement_was_killed_is_put_back(runs: Path, tmp_path: Path) -> None:
    export_onnx(runs / "text", tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.old")  # between the two moves
    with pytest.raises(UserError, match="--overwrite"):
        export_onnx(runs / "text", tmp_path / "out")
    assert (tmp_path / "out/step.onnx").exists()


@pytest.mark.parametrize("theirs", ["model.json", "out/notes.txt", "out/data/notes.txt"])
def test_files_that_no_export_wrote_are_not_replaced(
    runs: Path, tmp_path: Path, exported_before: pytest.MonkeyPatch, theirs: str
) -> None:
    """In a project that has a model.json, and in a folder that an export was written to."""
    out = tmp_path / "out" if theirs.startswith("out/") else tmp_path
    if out != tmp_path:
        export_onnx(runs / "text", out)
        (out / "__pycache__").mkdir()
        (out / "__pycache__/step.pyc").write_text("is left by run.py")
        export_onnx(runs / "text", out, overwrite=True)
    file = tmp_path / theirs
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"task": "mine"}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"holds other files, {file.relative_to(out).as_posix()} first; give a new"):
        export_onnx(runs / "text", out, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_current_folder_is_not_replaced(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for out in (".", "..", str(tmp_path / "below")):
        assert main(["export", str(runs / "text"), "--out", out]) == 2
        assert "the folder that you are in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "below"] and not list(Path().iterdir())


def test_graphs_that_differ_are_not_kept(
    runs: Path, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(graph: Any, example: Any, path: Path) -> None:
        loaded = onnx.load(exports / "text" / path.name)
        weight = next(one for one in loaded.graph.initializer if one.name.endswith("embedding.weight"))
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 0.01, weight.name))
        onnx.save(loaded, path)

    monkeypatch.setattr("minrnn.export._onnx.write_graph", wrong)
    with pytest.raises(UserError, match="answer differently from the run"):
        export_onnx(runs / "text", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_answer_that_is_no_number_differs(runs: Path) -> None:
    source = source_of(runs / "text")
    right = eager(source.graphs(exported=False)["sequence"])
    assert check(source, {"sequence": right}).largest == 0
    with pytest.raises(UserError, match=r"by nan, where 0\.0001 is allowed"):
        check(source, {"sequence": lambda inputs: {name: np.nan * array for name, array in right(inputs).items()}})


@pytest.mark.parametrize("mixer", [*names(), "attention:window=8"])
def test_mixers_that_cannot_be_exported_are_named(mixer: str) -> None:
    model = LanguageModel(LanguageModelConfig(vocabulary_size=5, width=8, pattern=f"mingru {mixer}"))
    if mixer in (*REFUSED, "attention"):
        with pytest.raises(UserError, match=rf"the mixer {mixer} .*cannot be exported: .*those that can are mingru, "):
            check_mixers(model)
        return
    check_mixers(model)
    tokens = torch.randint(5, (2, 7))
    with torch.no_grad():  # what is exported of the others is what they are
        expected, _ = model(tokens)
        found, _ = stepped(model)(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_times_of_steps_are_refused(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(6, 2, 9)).cumsum(axis=2)
    X[:, 1] = np.arange(9)
    classifier = MinRNNClassifier(width=8, layers=1, steps=1, time_channel=1, random_state=0)
    save_estimator(classifier.fit(X, np.arange(6) % 2), tmp_path / "run")
    with pytest.raises(UserError, match=r"reads the times of steps \(--irregular"):
        export_onnx(tmp_path / "run", tmp_path / "out")


def test_what_is_missing_is_said(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "there is no run folder" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(runs / "text"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "minrnn export: export needs onnxruntime: pip install 'minrnn[onnx]'\n"
    assert not (tmp_path / "out").exists()


STRANGE = "don't we'RE 12a3  \n\n\t é中文 ²½Ⅷ　x 'll 's' \x1c\x85\xa0 a 🙂e\u0301 ; sheep  sheep "


def test_text_is_cut_into_the_same_tokens(tmp_path: Path) -> None:
    source = Path(minrnn.__file__).parent / "export/files/tokens.py"
    spec = importlib.util.spec_from_file_location("tokens_of_export", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = STRANGE * 3 + "the sheep jumped over the fence; " * 9
    for tokenizer in (CharacterTokenizer(text), ByteTokenizer(), BPETokenizer.train(text, 300)):
        tokenizer.save(tmp_path / "tokenizer.json")
        tokens = module.Tokens(tmp_path / "tokenizer.json")
        ids = tokens.encode(text)
        assert ids == tokenizer.encode(text).tolist()
        assert b"".join(map(tokens.bytes_of, ids)).decode() == text


def test_blocks_without_a_convolution(runs: Path, tmp_path: Path) -> None:
    data = ["--data", str(runs / "text.txt"), "--pattern", "mingru", "--width", "8", "--context", "16", "--batch", "4"]
    out = ["--conv", "0", "--steps", "2", "--threads", "1", "--out", str(tmp_path / "run")]
    assert main(["train", *data, *out]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0  # compares with the run
