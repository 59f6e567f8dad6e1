"""When the steps of a series are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minrnn.errors import UserError

from ._tables import first_row

if TYPE_CHECKING:
    import pandas as pd

UNEVEN = 1e-3
"""Of a step: decimal times are rounded, a row that is missing makes a whole step."""


@dataclass(frozen=True)
class Clock:
    """When the steps of a series are, so that those after it have a time as well."""

    last: Any
    step: Any  # a number, a Timedelta, the name of a frequency, or None for steps that are counted

    @classmethod
    def of(cls, times: pd.Series, path: Path) -> Clock:
        """Raises UserError where the steps are not equally far apart."""
        import pandas as pd

        if len(times) < 2:
            return cls(times.iloc[-1], None)
        steps = times.diff().iloc[1:]
        if pd.api.types.is_float_dtype(times):
            usual = steps.quantile(interpolation="lower")  # the median, as one of them
            uneven = (steps - usual).abs() > UNEVEN * abs(usual)
            exact = (times.iloc[-1] - times.iloc[0]) / len(steps)
        else:
            usual = exact = steps.mode().iloc[0]
            uneven = steps != usual
        if not uneven.any() and usual != 0 * usual:
            return cls(times.iloc[-1], exact)
        if pd.api.types.is_datetime64_any_dtype(times) and len(times) > 2 and (name := pd.infer_freq(times)):
            return cls(times.iloc[-1], name)
        at = int(uneven.to_numpy().argmax()) if usual != 0 * usual else 0
        raise UserError(
            f"column {times.name} of {path} is mostly {_words(usual)} apart, but {_words(steps.iloc[at])} between "
            f"{times.iloc[at]} and {times.iloc[at + 1]}; fill in the rows that are missing (with empty values), and "
            "name the column of the series' names (--series) where there are several"
        )

    @property
    def every(self) -> str:
        return _words(self.step)

    def after(self, steps: int) -> list[Any]:
        """The times of the next steps."""
        import pandas as pd

        if self.step is None:
            return list(range(1, steps + 1))
        if isinstance(self.step, str):
            return list(pd.date_range(self.last, periods=steps + 1, freq=self.step)[1:])
        return [self.last + k * self.step for k in range(1, steps + 1)]


def read_times(values: pd.Series, path: Path) -> pd.Series:
    """Numbers or dates. Raises UserError where one is missing."""
    import pandas as pd

    if not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values)):
        try:
            with warnings.catch_warnings():  # that each is read alone, where they have no format in common
                warnings.simplefilter("ignore", UserWarning)
                values = pd.to_datetime(values)
        except (ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"column {values.name} of {path} holds no dates ({reason}); name the column of the times (--time), or "
                f"leave this one out (--ignore {values.name})"
            ) from None
    if (missing := values.isna()).any():
        raise UserError(
            f"column {values.name} of {path} has no time in row {first_row(missing)}; fill it in, or leave the row out"
        )
    return values


def seconds(times: pd.Series) -> np.ndarray:
    """Times as numbers; dates in seconds since the first."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(times):
        times = (times - times.min()).dt.total_seconds()
    return np.asarray(times, np.float64)


def _words(step: Any) -> str:
    """1 hour rather than 0 days 01:00:00."""
    import pandas as pd

    if not isinstance(step, pd.Timedelta):
        return f"{step:g}" if isinstance(step, float) else str(step)
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (count := step.total_seconds() / size) and count == int(count):
            return f"{int(count)} {name}{'s' * (abs(count) != 1)}"
    return f"{step.total_seconds():g} seconds"
