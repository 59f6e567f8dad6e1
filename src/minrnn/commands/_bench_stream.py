"""minrnn bench stream"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from minrnn.errors import UserError
from minrnn.mixers import options as mixer_options
from minrnn.timing import environment
from minrnn.training._files import write_json
from minrnn.training._progress import display

from ._parse import parse
from ._table import aligned

if TYPE_CHECKING:
    from minrnn.streaming import Stream

CHANNELS = 3
WARM_UP = 100  # pushes before the clock counts
ROUNDS = 10  # in which the mixers take turns
HEAD = ("task", "mixer", "a second", "median, ms", "p99, ms", "p99 at the end / at the start")


@dataclass(frozen=True)
class BenchStreamOptions:
    """Push values one by one into streams of each task, with networks of the default size, and say how many a second
    they answer, how long an answer takes in the median and at the 99th percentile, and whether that grows.

    Example:  minrnn bench stream --tasks classify --mixers mingru,gru,lstm
    """

    tasks: str = "classify,forecast,text"
    """What the streams answer."""
    mixers: str = "mingru,minlstm,gru,lstm"
    """Mixers that take turns."""
    pushes: int = 5000
    """Values pushed into each stream."""
    threads: int = 1
    """Threads; a step is too small for more."""
    json: str = ""
    """File to write the figures to."""


def main(arguments: Sequence[str]) -> int:
    """Print a table."""
    options = parse(BenchStreamOptions, "bench stream", arguments)
    tasks, mixers = options.tasks.split(","), options.mixers.split(",")
    if unknown := [task for task in tasks if task not in STREAMS]:
        raise UserError(f"--tasks has {unknown[0]!r}; it takes {', '.join(STREAMS)}")
    for mixer in mixers:
        try:
            mixer_options(mixer)
        except ValueError as error:
            raise UserError(f"--mixers has {mixer!r}: {error}") from None
    if options.pushes < 10 * ROUNDS or options.threads < 1:
        raise UserError(f"--pushes takes {10 * ROUNDS} or more, --threads 1 or more")
    torch.set_num_threads(options.threads)
    show = display()
    record: dict[str, Any] = environment() | {"pushes": options.pushes, "streams": []}
    try:
        for task in tasks:
            streams = {}
            for mixer in mixers:
                show.busy(f"{task}: {mixer} is made")
                streams[mixer] = STREAMS[task](mixer)
            times = _push(task, streams, options.pushes, show.busy)
            record["streams"] += [{"task": task, "mixer": mixer} | _figures(found) for mixer, found in times.items()]
    finally:
        show.close()
    print(aligned([HEAD, *(_row(figures) for figures in record["streams"])]))
    if options.json:
        write_json(Path(options.json), record)
    return 0


def _push(
    task: str, streams: dict[str, Stream[Any, Any]], pushes: int, busy: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Milliseconds of each push, by mixer."""
    found: dict[str, list[float]] = {mixer: [] for mixer in streams}
    sources = {mixer: VALUES[task]() for mixer in streams}
    for mixer, stream in streams.items():
        for _ in range(WARM_UP):
            stream.push(next(sources[mixer]))
    for number in range(ROUNDS):
        busy(f"{task}: round {number + 1} of {ROUNDS}")
        for mixer, stream in streams.items():
            for _ in range(pushes // ROUNDS):
                value = next(sources[mixer])
                began = time.perf_counter()
                stream.push(value)
                found[mixer].append(1000 * (time.perf_counter() - began))
    return {mixer: np.array(times) for mixer, times in found.items()}


def _figures(times: np.ndarray) -> dict[str, float]:
    tenth = len(times) // 10
    first, last = np.percentile(times[:tenth], 99), np.percentile(times[-tenth:], 99)
    return {
        "per_second": float(1000 / times.mean()),
        "median_ms": float(np.median(times)),
        "p99_ms": float(np.percentile(times, 99)),
        "p99_end_over_start": float(last / first),
    }


def _row(figures: dict[str, Any]) -> list[str]:
    return [
        figures["task"],
        figures["mixer"],
        f"{figures['per_second']:,.0f}",
        f"{figures['median_ms']:.3f}",
        f"{figures['p99_ms']:.3f}",
        f"{figures['p99_end_over_start']:.2f}",
    ]


def _classify(mixer: str) -> Stream[Any, Any]:
    """Checked: what a stream says of a series is what the classifier says of the whole of it."""
    from minrnn.series import MinRNNClassifier
    from minrnn.streaming import Stream
    from minrnn.streaming._series import LabelReader

    X = np.random.default_rng(0).normal(size=(16, CHANNELS, 20))
    classifier = MinRNNClassifier(mixer, bidirectional=False, steps=1, random_state=0).fit(X, np.arange(16) % 4)
    stream = Stream(Path(), LabelReader(classifier))
    for value in X[0].T:
        answer = stream.push(value)
    whole = classifier.predict_proba(X[:1])[0]
    if not np.allclose(list(answer.probabilities.values()), whole, atol=1e-4):
        raise RuntimeError(f"a stream of {mixer} says {answer.probabilities}, the classifier {whole}")
    stream.reset()
    return stream


def _forecast(mixer: str) -> Stream[Any, Any]:
    from minrnn.series import MinRNNForecaster
    from minrnn.streaming import Stream
    from minrnn.streaming._series import ForecastReader

    y = np.random.default_rng(0).normal(size=(CHANNELS, 1000))
    forecaster = MinRNNForecaster(24, mixer=mixer, steps=1, random_state=0).fit(y)
    return Stream(Path(), ForecastReader(forecaster))


def _text(mixer: str) -> Stream[Any, Any]:
    from minrnn.data import build_tokenizer, load_text
    from minrnn.streaming import Stream
    from minrnn.streaming._text import TextReader
    from minrnn.training import Run, TrainConfig
    from minrnn.training._run import build_model

    tokenizer = build_tokenizer("characters", load_text("shakespeare"))
    config = TrainConfig(data="shakespeare", out="none", steps=1, pattern=f"({mixer})*6")
    torch.manual_seed(0)
    model = build_model(config, tokenizer.vocabulary_size).eval()
    return Stream(Path(), TextReader(Run(Path(), config, model, tokenizer)))


def _steps() -> Iterator[np.ndarray]:
    values = np.random.default_rng(1)
    while True:
        yield values.normal(size=CHANNELS)


def _characters() -> Iterator[str]:
    from minrnn.data import load_text

    while True:
        yield from load_text("shakespeare").held_out


STREAMS: dict[str, Callable[[str], Stream[Any, Any]]] = {"classify": _classify, "forecast": _forecast, "text": _text}
VALUES: dict[str, Callable[[], Iterator[Any]]] = {"classify": _steps, "forecast": _steps, "text": _characters}
