"""One value at a time gives what the whole series gives, now, after a restart, and in a pipe."""

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import minrnn
from minrnn.commands import main
from minrnn.errors import UserError
from minrnn.series import MinRNNClassifier, MinRNNForecaster, MinRNNRegressor, save_estimator
from minrnn.training import TrainConfig, train

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 2, 12))
X[2, 1, 3:6] = np.nan
SMALL: dict[str, Any] = {"width": 8, "steps": 4, "random_state": 0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    causal = SMALL | {"bidirectional": False, "layers": 2}
    save_estimator(MinRNNClassifier("mingru minlstm", **causal).fit(X, ["a", "b"] * 8), folder / "classify")
    save_estimator(MinRNNRegressor(**causal).fit(X, np.arange(16) / 3), folder / "regress")
    save_estimator(MinRNNClassifier(**SMALL).fit(X, ["a", "b"] * 8), folder / "both ends")
    y = np.stack([np.sin(np.arange(90) / 4), 50 + 9 * np.cos(np.arange(90) / 4)])
    save_estimator(MinRNNForecaster(4, context=16, **SMALL | {"steps": 150}).fit(y), folder / "forecast")
    return folder


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_labels_are_those_of_the_series_so_far(runs: Path, task: str) -> None:
    from minrnn.series import load_estimator

    estimator: Any = load_estimator(runs / task)
    answers = minrnn.stream(runs / task)
    for t in range(X.shape[2]):
        found = answers.push(X[2, :, t])
        so_far = X[2:3, :, : t + 1]
        if task == "classify":
            expected = dict(zip(["a", "b"], estimator.predict_proba(so_far)[0], strict=True))
            assert found.probabilities == pytest.approx(expected, abs=1e-5)
            assert found.answer == max(expected, key=expected.__getitem__)
        else:
            assert found.answer == pytest.approx(estimator.predict(so_far)[0], abs=1e-4)
    answers.reset()
    first = answers.push(X[0, :, 0])
    assert first == minrnn.stream(runs / task).push(X[0, :, 0])


def test_forecasts_and_surprise(runs: Path) -> None:
    from minrnn.series import load_estimator

    forecaster: Any = load_estimator(runs / "forecast")
    answers = minrnn.stream(runs / "forecast")
    y = np.stack([np.sin(np.arange(40) / 4), 50 + 9 * np.cos(np.arange(40) / 4)])
    y[0, 30] = 9.0  # out of all bounds
    y[:, 35] = np.nan
    scores: list[float | None] = []
    for t in range(40):
        found = answers.push(y[:, t])
        scores.append(found.score)
        np.testing.assert_allclose(found.mean, forecaster.predict_path(y[:, : t + 1]), rtol=1e-4, atol=1e-4)
    assert scores[0] is None and scores[35] is None
    assert int(np.nanargmax(np.array(scores[16:], float))) == 14
    quantiles = forecaster.predict_quantiles(y[:, :30])[:, :, 0]  # (C, Q) of step 30
    mean = forecaster.predict_path(y[:, :30])[:, 0]
    expected = np.abs(y[:, 30] - mean) / ((quantiles[:, -1] - quantiles[:, 0]) / 2)
    assert scores[30] == pytest.approx(expected.max(), rel=1e-3)


@pytest.mark.parametrize("task", ["classify", "regress", "forecast"])
def test_a_saved_state_goes_on(runs: Path, task: str, tmp_path: Path) -> None:
    whole, first = minrnn.stream(runs / task), minrnn.stream(runs / task)
    for t in range(6):
        whole.push(X[2, :, t])
        first.push(X[2, :, t])
    first.save(tmp_path / "state")
    second = minrnn.stream(runs / task).restore(tmp_path / "state")
    for t in range(6, 12):
        expected, found = whole.push(X[2, :, t]), second.push(X[2, :, t])
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_equal(other, one)
    with pytest.raises(UserError, match=r"does not fit the run|another run"):
        minrnn.stream(runs / ("regress" if task != "regress" else "classify")).restore(tmp_path / "state")


def test_the_state_keeps_its_size(runs: Path) -> None:
    answers = minrnn.stream(runs / "classify")
    size = [one.shape for one in torch.utils._pytree.tree_leaves(answers._reader.state)]
    for t in range(12):
        answers.push(X[0, :, t])
    assert [one.shape for one in torch.utils._pytree.tree_leaves(answers._reader.state)] == size


def test_what_cannot_be_streamed_is_said(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="from both ends"):
        minrnn.stream(runs / "both ends")
    with pytest.raises(UserError, match="no run folder"):
        minrnn.stream(tmp_path / "none")
    answers = minrnn.stream(runs / "classify")
    before = answers.push([0.1, 0.2])
    for values, words in (([1.0], "1 values; expected 2"), ([1.0, math.inf], "finite"), (["x", 1], "2 numbers")):
        with pytest.raises(ValueError, match=words):
            answers.push(values)
    again = minrnn.stream(runs / "classify")
    again.push([0.1, 0.2])
    assert answers.push([0.3, 0.4]) == again.push([0.3, 0.4]) and before is not None


@pytest.mark.parametrize("task", ["classify", "regress", "forecast"])
def test_a_glitch_leaves_the_state_as_it_was(runs: Path, task: str, tmp_path: Path) -> None:
    answers, undisturbed = (minrnn.stream(runs / task) for _ in range(2))
    for t in range(12):
        for glitch in (1e39, 9.96921e36, -1e20, 1e17):  # 9.96921e36 is what NetCDF files have for a missing value
            with pytest.raises(ValueError, match=r"expected finite numbers, at most 1e\+15 deviations"):
                answers.push([0.1, glitch])
        for one, other in zip(answers.push(X[2, :, t]), undisturbed.push(X[2, :, t]), strict=True):
            np.testing.assert_equal(one, other)
    assert answers.push([1e9, -1e13]) is not None  # in units of the channel this is not too much
    for t in range(12):
        assert all(leaf.isfinite().all() for leaf in torch.utils._pytree.tree_leaves(answers._reader.state))
        answers.push(X[2, :, t])
    answers.save(tmp_path / "state")
    minrnn.stream(runs / task).restore(tmp_path / "state")


def test_a_state_that_is_not_finite_is_not_saved(runs: Path, tmp_path: Path) -> None:
    answers = minrnn.stream(runs / "classify")
    answers.save(tmp_path / "state")
    before = (tmp_path / "state").read_bytes()
    answers._reader.state.network.total.fill_(math.inf)
    with pytest.raises(UserError, match="has values that are not finite and was not saved"):
        answers.save(tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == before


def test_a_state_belongs_to_the_run_that_was_read(runs: Path, tmp_path: Path) -> None:
    """Not to another that has taken its place since."""
    shutil.copytree(runs / "classify", tmp_path / "run")
    answers = minrnn.stream(tmp_path / "run")
    answers.push(X[2, :, 0])
    other = MinRNNClassifier("mingru minlstm", **SMALL | {"bidirectional": False, "layers": 2, "random_state": 1})
    save_estimator(other.fit(X, ["a", "b"] * 8), tmp_path / "run", overwrite=True)
    answers.save(tmp_path / "state")
    answers.restore(tmp_path / "state")
    with pytest.raises(UserError, match="another run"):
        minrnn.stream(tmp_path / "run").restore(tmp_path / "state")


def piped(run: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any, *words: str) -> list[Any]:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    capsys.readouterr()
    assert main(["stream", str(run), *words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_in_a_pipe(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = piped(runs / "classify", "1, 2\n3 nan\n0.5,1\n", capsys, monkeypatch)
    assert len(whole) == 3 and sum(whole[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    state = str(tmp_path / "state")
    first = piped(runs / "classify", "1 2\n3 nan\n", capsys, monkeypatch, "--state", state)
    assert first + piped(runs / "classify", "0.5,1\n", capsys, monkeypatch, "--state", state) == whole
    assert piped(runs / "forecast", "1 50\n", capsys, monkeypatch)[0]["score"] is None
    monkeypatch.setattr("sys.stdin", io.StringIO("1 2\n"))
    assert main(["stream", str(runs / "classify"), "--state", str(tmp_path / "none" / "state")]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "none/state: No such file or directory" in output.err  # before a line is read
    monkeypatch.setattr("sys.stdin", io.StringIO("1 2\none two\n"))
    assert main(["stream", str(runs / "classify")]) == 2
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 1
    assert (
        output.err == "minrnn stream: line 2: 'one two' are no numbers; expected one for each channel, nan if missing\n"
    )


def test_irregular_steps(tmp_path: Path) -> None:
    timed = np.concatenate([X, np.cumsum(RNG.exponential(size=(16, 1, 12)), axis=2)], axis=1)
    classifier = MinRNNClassifier(bidirectional=False, time_channel=-1, **SMALL).fit(timed, ["a", "b"] * 8)
    save_estimator(classifier, tmp_path / "run")
    answers = minrnn.stream(tmp_path / "run")
    for t in range(6):
        found = answers.push(timed[2, :, t])
    answers.save(tmp_path / "state")
    answers = minrnn.stream(tmp_path / "run").restore(tmp_path / "state")
    for t in range(6, 12):
        found = answers.push(timed[2, :, t])
    expected = classifier.predict_proba(timed[2:3])[0]
    assert list(found.probabilities.values()) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="times in order"):
        answers.push([0.0, 0.0, 0.0])


def test_text(tmp_path: Path) -> None:
    """Bytes that are no whole character read the same, and their chances are added; a stream goes on from its file."""
    (tmp_path / "text.txt").write_text("é à ü €" * 300)
    settings = {"pattern": "mingru", "width": 8, "context": 16, "batch": 4, "steps": 2, "tokens": "bytes"}
    config = TrainConfig(data=str(tmp_path / "text.txt"), out=str(tmp_path / "run"), **settings)  # type: ignore[arg-type]
    train(config, quiet=True)
    answers = minrnn.stream(tmp_path / "run")
    found = answers.push("é")
    chances = answers._reader.state.logits[0].double().softmax(dim=0).topk(5).values
    assert sum(found.likely.values()) == pytest.approx(chances.sum().item())
    answers.save(tmp_path / "state")
    expected = answers.push("à")
    assert minrnn.stream(tmp_path / "run").restore(tmp_path / "state").push("à") == expected
    assert minrnn.stream(tmp_path / "run").push("à") != expected
    with pytest.raises(ValueError, match=r"of type bytes; expected text \(str\)"):
        answers.push(b"abc")
