"""A run folder brings back the estimator that was saved, or says in one line why it cannot."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from minrnn.errors import UserError
from minrnn.series import MinRNNClassifier, MinRNNForecaster, MinRNNRegressor, load_estimator, save_estimator
from minrnn.training import _files, load_run

RNG = np.random.default_rng(0)
X = [RNG.normal(size=(2, steps)) for steps in RNG.integers(5, 12, size=24)]
SMALL: dict[str, Any] = {"width": 8, "layers": 1, "steps": 6, "random_state": 3}


def with_gap(series: list[np.ndarray]) -> list[np.ndarray]:
    one = series[0].copy()
    one[1, 2] = np.nan
    return [one, *series[1:]]


@pytest.mark.parametrize("labels", [["hot", "cold"], [3, -1], [0.0, 2.0], [True, False]], ids=str)
def test_classifier(tmp_path: Path, labels: list[Any]) -> None:
    y = np.array(labels * 12)
    weight = {label: 2.0 for label in labels}
    fitted = MinRNNClassifier(class_weight=weight, **SMALL).fit(with_gap(X), y)
    save_estimator(fitted, tmp_path / "run")
    loaded = load_estimator(tmp_path / "run")
    assert isinstance(loaded, MinRNNClassifier)
    assert loaded.get_params() == fitted.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert loaded.predict(X).dtype == fitted.predict(X).dtype
    loaded.partial_fit(X[:12], y[:12])
    assert (loaded.predict_proba(X) != fitted.predict_proba(X)).any()


def test_regressor(tmp_path: Path) -> None:
    y = 100 + 3 * RNG.normal(size=len(X))
    fitted = MinRNNRegressor(**SMALL).fit(X, y)
    save_estimator(fitted, tmp_path)
    np.testing.assert_array_equal(load_estimator(tmp_path).predict(X), fitted.predict(X))


def test_forecaster(tmp_path: Path) -> None:
    series = with_gap([RNG.normal(size=(2, 40)), RNG.normal(size=(2, 50))])
    exog = [RNG.normal(size=(3, 43)), RNG.normal(size=(3, 53))]
    static = np.array([[0.0], [1.0]])
    fitted = MinRNNForecaster(3, context=9, quantiles=(0.2, 0.8), **SMALL)
    fitted.fit_many(series, [one[:, :-3] for one in exog], static)
    save_estimator(fitted, tmp_path)
    loaded = load_estimator(tmp_path)
    assert isinstance(loaded, MinRNNForecaster)
    np.testing.assert_array_equal(loaded.predict_many(series, exog, static), fitted.predict_many(series, exog, static))
    asked = series[1], exog[1], static[1]
    np.testing.assert_array_equal(loaded.predict_quantiles(*asked), fitted.predict_quantiles(*asked))


def test_a_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    first, second = (MinRNNRegressor(**SMALL | {"random_state": seed}).fit(X, np.arange(24)) for seed in (0, 1))
    save_estimator(first, tmp_path / "run")
    with pytest.raises(UserError, match="holds a run already"):
        save_estimator(second, tmp_path / "run")
    np.testing.assert_array_equal(load_estimator(tmp_path / "run").predict(X), first.predict(X))
    save_estimator(second, tmp_path / "run", overwrite=True)
    np.testing.assert_array_equal(load_estimator(tmp_path / "run").predict(X), second.predict(X))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("dear to somebody")
    with pytest.raises(UserError, match="other files"):
        save_estimator(second, tmp_path / "other", overwrite=True)
    with pytest.raises(NotFittedError):
        save_estimator(MinRNNRegressor(), tmp_path / "new")


def test_what_is_no_run_of_ours_is_not_replaced(tmp_path: Path) -> None:
    """A model of another library has files of the same names."""
    fitted = MinRNNRegressor(**SMALL).fit(X, np.arange(24))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "model.safetensors").write_bytes(b"weeks of work")
    with pytest.raises(UserError, match="holds other files"):
        save_estimator(fitted, tmp_path, overwrite=True)
    assert (tmp_path / "model.safetensors").read_bytes() == b"weeks of work"


@pytest.mark.parametrize("when", ["weights", "config", "move"])
def test_an_earlier_run_outlives_a_full_disk(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (MinRNNRegressor(**SMALL | {"random_state": seed}).fit(X, np.arange(24)) for seed in (0, 1))
    run = tmp_path / "run"
    save_estimator(first, run)
    (run / "notes.txt").write_text("dear to somebody")
    before = {path: path.read_bytes() for path in run.iterdir()}
    flush, move = _files._flush, os.replace

    def failing_flush(path: Path) -> None:
        if path.name == {"weights": ".model.safetensors.tmp", "config": ".config.json.tmp"}.get(when):
            raise OSError(errno.EFBIG, "File too large")
        flush(path)

    def failing_move(source: Path, target: Path) -> None:
        if when == "move" and target == run / "model.safetensors" and ".new" in str(source):
            raise OSError(errno.EIO, "Input/output error")
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(_files, "_flush", failing_flush)
        patch.setattr("os.replace", failing_move)
        with pytest.raises(UserError, match="cannot write") as caught:
            save_estimator(second, run, overwrite=True)
    assert "--resume" not in str(caught.value)  # there is none on series
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    save_estimator(second, run, overwrite=True)
    np.testing.assert_array_equal(load_estimator(run).predict(X), second.predict(X))
    assert {path.name for path in run.iterdir()} == {path.name for path in before}


def test_damage_is_one_clear_line(tmp_path: Path) -> None:
    save_estimator(MinRNNRegressor(**SMALL).fit(X, np.arange(24)), tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    whole, record = weights.read_bytes(), json.loads(config.read_text())
    with pytest.raises(UserError, match="'regress'; expected one of text"):
        load_run(tmp_path)

    def refused(words: str, **changes: Any) -> None:
        config.write_text(json.dumps(record | changes))
        with pytest.raises(UserError, match=words) as caught:
            load_estimator(tmp_path)
        assert "\n" not in str(caught.value)

    refused("format is not 1", format=7)
    refused("holds a language run", task=None)
    refused("unexpected keyword argument 'heads'", parameters=record["parameters"] | {"heads": 3})
    refused("target_mean is missing", learned={k: v for k, v in record["learned"].items() if k != "target_mean"})
    refused("no mixer", parameters=record["parameters"] | {"mixer": "mingrun"})
    refused("model.safetensors", parameters=record["parameters"] | {"width": 16})
    weights.write_bytes(whole[: len(whole) // 2])
    refused("model.safetensors")
    weights.unlink()
    refused("model.safetensors")
    with pytest.raises(UserError, match="no run folder"):
        load_estimator(tmp_path / "nowhere")


@pytest.mark.parametrize("moves", range(1, 4))
def test_a_run_whose_replacement_was_killed(tmp_path: Path, moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the next save finds is the old run or the new one, whole, and it is not replaced unasked."""
    first, second = (MinRNNRegressor(**SMALL | {"random_state": seed}).fit(X, np.arange(24)) for seed in (0, 1))
    run, killed = tmp_path / "run", tmp_path / "killed"
    save_estimator(first, run)
    move, left = os.replace, moves

    def counted_move(source: Path, target: Path) -> None:
        nonlocal left
        if ".old.tmp" in str(target) or (".new.tmp" in str(source) and Path(target).parent == run):
            if not left and not killed.exists():
                shutil.copytree(run, killed)  # the disk as a power cut leaves it here
            left -= 1
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", counted_move)
        save_estimator(second, run, overwrite=True)
    with pytest.raises(UserError, match="holds a run already"):
        save_estimator(second, killed)
    answers = load_estimator(killed).predict(X)
    assert any(np.array_equal(answers, one.predict(X)) for one in (first, second))
