"""What the tasks on series do with a file: fit, measure, answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from minrnn.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


Split = Literal["val", "train", "all"]


@dataclass(frozen=True)
class Figures:
    """How good answers are: as JSON, in one line, in full, and as a picture."""

    values: dict[str, Any]
    line: str
    text: str
    draw: Callable[[Figure], None]


@dataclass(frozen=True)
class Baselines:
    """What simpler methods learn from: the part of `data` that was not held out. `busy` shows at which they are."""

    data: Any  # a `SeriesTask` of the same kind
    busy: Callable[[str], None]


class SeriesTask(Protocol):
    """The series of a file, and what is asked of them."""

    noted: dict[str, Any]
    """What `config.json` notes of the data."""
    summary: str
    """What was understood of the file."""

    def fit(self, estimator: Any) -> None:
        """Learn from what is not held out."""

    def figures(self, estimator: Any, split: Split, baselines: Baselines | None = None) -> Figures:
        """How good it is, and beside it what simpler methods reach."""

    def answers(self, estimator: Any) -> pd.DataFrame:
        """For all series of the file."""

    def read_some(self, estimator: Any, sequences: int, steps: int) -> str:
        """Let the network read a few stretches of equal length; what they are."""


def opened(task: str, source: str, noted: dict[str, Any]) -> SeriesTask:
    """The data of a run. Raises UserError where the file is not what it should be, or the extra is missing."""
    try:
        import minrnn.series  # noqa: F401
    except ImportError as error:
        raise UserError(str(error)) from None
    from ._forecasts import Forecasts
    from ._labelled import Classes, Numbers

    kinds: dict[str, Callable[[str, dict[str, Any]], SeriesTask]] = {
        "classify": Classes,
        "regress": Numbers,
        "forecast": Forecasts,
    }
    return kinds[task](source, noted)


@contextmanager
def one_line() -> Iterator[None]:
    """What the estimators refuse is for the person at the command line to mend."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error
