"""minrnn bench series"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minrnn.errors import UserError
from minrnn.timing import environment, interleaved_medians
from minrnn.training._allocator import keep_freed_memory
from minrnn.training._files import write_json
from minrnn.training._progress import display

from ._parse import parse

OFFICIAL = ("JapaneseVowels", "BasicMotions", "GunPoint", "ItalyPowerDemand", "ArrowHead")
"""With official splits; the package aeon has them."""
NAMES = (*OFFICIAL, "digits", "MNIST-1D", "ETTh1")
STEPS = 20
"""Updates of one timed fit."""
HORIZON, SEASON = 96, 24

Show = Callable[[str], None]
Split = tuple[list[np.ndarray], np.ndarray, list[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class BenchSeriesOptions:
    """Fit the estimators of minrnn.series, as they are by default, to real series with official splits, beside a naive
    answer, the nearest neighbour, and ROCKET or ridge regression; then time an update beside nn.GRU and nn.LSTM.

    Example:  minrnn bench series --data GunPoint,digits --seeds 1
    """

    data: str = ",".join(NAMES)
    """What to fit. MNIST-1D is left out where the package mnist1d is missing, ETTh1 where --etth1 is not given."""
    etth1: str = ""
    """ETTh1.csv or ETTh1.csv.gz, of zhouhaoyi/ETDataset."""
    mixer: str = "mingru"
    """The estimators' mixer."""
    seeds: int = 3
    """Fits of each, of which the mean counts."""
    repeats: int = 5
    """Interleaved repeats of the timing of an update, of which the median counts; 0 leaves it out."""
    json: str = ""
    """File to write the figures to, after each data set."""


def main(arguments: Sequence[str]) -> int:
    """Print a line for each data set."""
    options = parse(BenchSeriesOptions, "bench series", arguments)
    names = options.data.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        raise UserError(f"--data has {unknown[0]!r}; it takes {', '.join(NAMES)}")
    if options.seeds < 1 or options.repeats < 0:
        raise UserError("--seeds takes 1 or more, --repeats 0 or more")
    try:
        import minrnn.series  # noqa: F401
    except ImportError as error:
        raise UserError(str(error)) from error

    from minrnn.series._network import SeriesNetwork

    try:
        SeriesNetwork(1, 1, mixer=options.mixer)
    except ValueError as error:
        raise UserError(f"--mixer is {options.mixer!r}: {error}") from None
    keep_freed_memory()
    record: dict[str, Any] = environment() | {"mixer": options.mixer, "seeds": options.seeds}
    show = display()
    try:
        for name in names:
            if name == "ETTh1":
                if not options.etth1:
                    show.say("ETTh1 is left out: --etth1 FILE names it")
                    continue
                record[name] = _forecast(options, show.busy)
                words = ", ".join(f"{key} {value:.3f}" for key, value in record[name]["mse"].items())
                show.say(f"{name}: mean squared error {words}; {_seconds(record[name])}")
            else:
                split = _classification(name)
                if split is None:
                    show.say("MNIST-1D is left out: pip install mnist1d")
                    continue
                record[name] = _classify(name, split, options, show.busy)
                words = ", ".join(f"{key} {value:.3f}" for key, value in record[name]["accuracy"].items())
                show.say(f"{name}: accuracy {words}; {_seconds(record[name])}")
            if options.json:
                write_json(Path(options.json), record)
        if options.repeats:
            record["update"] = _updates(options, show.busy)
            for name, times in record["update"].items():
                words = ", ".join(f"{mixer} {value:.1f}" for mixer, value in times.items())
                show.say(f"an update on {name}, milliseconds: {words}")
    finally:
        show.close()
    if options.json:
        write_json(Path(options.json), record)
    print(json.dumps({name: record[name] for name in names if name in record}))
    return 0


def _seconds(result: dict[str, Any]) -> str:
    return f"{max(result['seconds']):.0f} s a fit at most"


def _classification(name: str) -> Split | None:
    """Series (C, T_i) and labels to learn from, and to test on."""
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        series = list(images[:, None] / 16)  # row after row: 64 steps
        return series[:1438], labels[:1438], series[1438:], labels[1438:]
    if name == "MNIST-1D":
        try:
            from mnist1d.data import get_dataset_args, make_dataset
        except ImportError:
            return None
        made = make_dataset(get_dataset_args())
        return list(made["x"][:, None]), made["y"], list(made["x_test"][:, None]), made["y_test"]
    from aeon.datasets import load_classification

    parts = [load_classification(name, split=part) for part in ("train", "test")]
    (X, y), (X_test, y_test) = parts
    return list(X), y, list(X_test), y_test


def _classify(name: str, split: Split, options: BenchSeriesOptions, busy: Show) -> dict[str, Any]:
    from minrnn.series import MinRNNClassifier
    from minrnn.series._baselines import label_baselines

    X, y, X_test, y_test = split
    scores, seconds = [], []
    for seed in range(options.seeds):
        busy(f"{name}: fit {seed + 1} of {options.seeds}")
        began = time.perf_counter()
        classifier = MinRNNClassifier(options.mixer, random_state=seed, n_jobs=-1).fit(X, y)
        seconds.append(time.perf_counter() - began)
        scores.append(float(classifier.score(X_test, y_test)))
    labels, counts = np.unique(y, return_counts=True)
    simpler = label_baselines("classify", X, y, X_test, lambda words: busy(f"{name}: {words}"))
    return {
        "accuracy": {
            options.mixer: float(np.mean(scores)),
            "commonest class": float(np.mean(y_test == labels[counts.argmax()])),
            **{name: float(np.mean(found == y_test)) for name, found in simpler.items() if found is not None},
        },
        "scores": scores,
        "seconds": [round(one, 1) for one in seconds],
    }


def _forecast(options: BenchSeriesOptions, busy: Show) -> dict[str, Any]:
    """ETTh1 as is usual: 8,640 hours to learn from, the 2,880 after the next 2,880 to test on, from every start, all
    channels scaled by mean and deviation of the first part.
    """
    import pandas as pd

    from minrnn.series import MinRNNForecaster
    from minrnn.series._baselines import Ridge

    try:
        table = pd.read_csv(options.etth1)
    except (OSError, ValueError) as error:
        raise UserError(f"--etth1 {options.etth1} cannot be read: {error}") from error
    if table.shape != (17420, 8):
        raise UserError(f"--etth1 {options.etth1} has {table.shape} rows and columns; ETTh1 has (17420, 8)")
    values = table.iloc[:, 1:].to_numpy(np.float64)
    values = ((values - values[:8640].mean(axis=0)) / values[:8640].std(axis=0)).T  # (C, T)
    scores, seconds = [], []
    for seed in range(options.seeds):
        busy(f"ETTh1: fit {seed + 1} of {options.seeds}")
        began = time.perf_counter()
        forecaster = MinRNNForecaster(HORIZON, mixer=options.mixer, random_state=seed, n_jobs=-1)
        forecaster.fit(values[:, :8640])
        seconds.append(time.perf_counter() - began)
        K = forecaster.context_
        windows = _stretches(values[:, 11520 - K : 14400], K + HORIZON)  # (C, W, K + N)
        paths = forecaster.predict_many(list(windows[:, :, :K].swapaxes(0, 1))).swapaxes(0, 1)  # (C, W, N)
        scores.append(float(np.mean((paths - windows[:, :, K:]) ** 2)))
    busy("ETTh1: ridge regression")
    past, actual = windows[:, :, :K], windows[:, :, K:]
    ridge = Ridge(forecaster, [values[:, :8640]]).forecasts(values[:, :14400], np.arange(11520, 14400 - HORIZON + 1))
    day = np.tile(past[:, :, -SEASON:], HORIZON // SEASON)
    return {
        "mse": {
            options.mixer: float(np.mean(scores)),
            "last value": float(np.mean((past[:, :, -1:] - actual) ** 2)),
            "last day": float(np.mean((day - actual) ** 2)),
            f"ridge on {K} steps": float(np.mean((ridge.swapaxes(0, 1) - actual) ** 2)),
        },
        "scores": scores,
        "seconds": [round(one, 1) for one in seconds],
    }


def _stretches(values: np.ndarray, steps: int) -> np.ndarray:
    """(C, T) -> (C, W, steps), one from each start."""
    return np.lib.stride_tricks.sliding_window_view(values, steps, axis=1)


def _updates(options: BenchSeriesOptions, busy: Show) -> dict[str, dict[str, float]]:
    """Milliseconds of an update of the classifier, by mixer."""
    times = {}
    for name in ("JapaneseVowels", "GunPoint"):
        split = _classification(name)
        assert split is not None
        X, y = split[:2]

        runs = {mixer: partial(_fit, mixer, X, y) for mixer in dict.fromkeys((options.mixer, "gru", "lstm"))}
        medians = interleaved_medians(runs, options.repeats, busy)
        times[name] = {mixer: milliseconds / STEPS for mixer, milliseconds in medians.items()}
    return times


def _fit(mixer: str, X: list[np.ndarray], y: np.ndarray) -> None:
    from minrnn.series import MinRNNClassifier

    MinRNNClassifier(mixer, steps=STEPS, random_state=0, n_jobs=-1).fit(X, y)
