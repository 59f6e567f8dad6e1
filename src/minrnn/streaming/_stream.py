from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from minrnn.errors import UserError

from ..training._files import file_digest
from ..training._folder import RunFolder, is_of_series
from ..training._state_file import load_tree, save_tree

Value = TypeVar("Value", contravariant=True)
Answer = TypeVar("Answer", covariant=True)


class Reader(Protocol[Value, Answer]):
    """What a run makes of one value after another."""

    state: Any
    """Everything that is kept of the values: a tree of tensors."""

    def initial(self) -> Any:
        """The state before the first value."""

    def push(self, value: Value) -> Answer:
        """Take one value into the state, and answer."""


class Stream(Generic[Value, Answer]):
    """Takes one value at a time and answers at once (see `stream`)."""

    def __init__(self, folder: Path, reader: Reader[Value, Answer], digest: str = "") -> None:
        self.folder, self._reader, self._digest = folder, reader, digest
        self.reset()

    def push(self, value: Value) -> Answer:
        """Answer to one value more. Raises ValueError for a value of another kind, which leaves the state as it was."""
        return self._reader.push(value)

    def reset(self) -> None:
        """Begin anew."""
        self._reader.state = self._reader.initial()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep the state in a file (safetensors). Raises UserError where that cannot be."""
        save_tree(path, self._reader.state, self._digest)

    def restore(self, path: str | os.PathLike[str]) -> Stream[Value, Answer]:
        """Go on from a state that `save` wrote. Raises UserError for a missing, damaged or foreign file."""
        self._reader.state = load_tree(path, self._reader.initial(), self._digest)
        return self


def stream(run: str | os.PathLike[str]) -> Stream[Any, Any]:
    """A stream of answers from a run folder.

    What `push` takes and gives depends on what the run was trained for:

    - classify, regress: the C values of one step, NaN where one is missing -> `Label(answer, probabilities)`, of the
      series so far. The run must read from the start alone (`--one-direction`, `bidirectional=False`).
    - forecast: the C values of one step -> `Forecast(mean, quantiles, score)`: the next N steps from the last K, and
      how far the value that came lies from what was forecast for it.
    - text: a piece of text -> `Next(log_probability, likely)`: how likely the piece was, and the likeliest next tokens.

    Time and memory of a push do not depend on how many came before, but for text and attention without a window.

    Args:
        run: folder that `minrnn train` wrote, or `save_estimator`.

    Raises:
        UserError: no such run, or one that cannot be read step by step.

    Example: `stream("runs/gestures").push([0.1, 0.3]).answer`
    """
    folder = Path(run)
    if not is_of_series(str(folder)):
        from ..training import load_run
        from ._text import TextReader

        loaded = load_run(folder)
        return Stream(folder, TextReader(loaded), loaded.digest)
    try:
        from ..series import MinRNNForecaster, load_estimator
    except ImportError as error:
        raise UserError(str(error)) from None
    from ._series import ForecastReader, LabelReader

    estimator = load_estimator(folder)
    reader = ForecastReader(estimator) if isinstance(estimator, MinRNNForecaster) else LabelReader(estimator)
    return Stream(folder, reader, file_digest(RunFolder(folder).best))
