"""Time series in files: with a label each, or to be continued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minrnn.errors import UserError

from ._tables import READERS, column, first_row, kind_of_table, numbers, read_table, without_unnamed
from ._times import Clock, read_times, seconds

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("label", "target", "class", "y")


@dataclass(frozen=True)
class Layout:
    """Which columns of a table are what. Other files than tables have no columns, and need none of this.

    Attributes:
        target: of the labels; "" finds it.
        labelled: whether labels are wanted; where not, their column is left out if there is one, and not looked at.
        channels: in this order; () takes all columns that are nothing else.
        series: the column that names the series a row belongs to; "" where there is none.
        time: the column that orders the rows of a series; "" takes them as they come, and where series are to be
            continued, the first column where it holds dates.
        irregular: whether steps are not equally far apart, so that their times are a channel, the last.
        known: columns that are known in advance.
        static: columns with one value for each series.
        ignore: columns to leave out.
        ignore_absent: whether some of these may be missing.
    """

    target: str = ""
    labelled: bool = True
    channels: Sequence[str] = ()
    series: str = ""
    time: str = ""
    irregular: bool = False
    known: Sequence[str] = ()
    static: Sequence[str] = ()
    ignore: Sequence[str] = ()
    ignore_absent: bool = False

    def table(self, path: Path) -> pd.DataFrame:
        """What is not left out of the table in a file."""
        table = read_table(path)
        if not self.ignore_absent:
            for name in self.ignore:
                column(table, name, path, "--ignore")
        table = table.drop(columns=list(self.ignore), errors="ignore")
        asked_for = {self.target, self.series, self.time, *self.channels, *self.known, *self.static}
        return table if self.channels else without_unnamed(table, asked_for, path)


@dataclass(frozen=True)
class Labelled:
    """N series with a label each, where there are labels."""

    names: list[str]
    series: list[np.ndarray]  # (C, T_i)
    channels: list[str]
    y: np.ndarray | None  # (N,)
    target: str = ""  # the column that y is of

    def __str__(self) -> str:
        return _summary(self.series, self.channels)


@dataclass(frozen=True)
class Observed:
    """N series to be continued, with what is known in advance of the steps that were seen and of those after them."""

    names: list[str]
    series: list[np.ndarray]  # (C, T_i)
    channels: list[str]
    known: list[np.ndarray] | None  # (E, T_i + steps known ahead)
    known_channels: list[str]
    static: np.ndarray | None  # (N, S)
    static_names: list[str]
    clocks: list[Clock]

    def __str__(self) -> str:
        words = _summary(self.series, self.channels)
        if self.clocks[0].step is not None:
            words += f", {self.clocks[0].every} apart"
        for said, names in (("known in advance", self.known_channels), ("of each series", self.static_names)):
            words += f"; {said}: {', '.join(names)}" if names else ""
        return words


def load_labelled(source: str, layout: Layout, kind: str) -> Labelled:
    """Series and, where the file has them, their labels.

    A table has a series in each row, or where `layout.series` names them, a step in each row and a channel in each
    column. An .npz file has `X` (N, C, T) or (N, T) and `y` (N,); a .ts file is as in the archive at
    timeseriesclassification.com.

    Args:
        kind: "classes" leaves labels as they are, "numbers" makes them so.

    Raises:
        UserError: the file is missing, empty, or not what it should be.
    """
    path = _path(source, layout)
    if path.suffix == ".npz":
        arrays = _arrays(path, ("X", "y") if layout.labelled else ("X",), "X and y")
        series, y = _as_series(arrays["X"], path, "X"), arrays.get("y")
        if y is not None and y.shape != (len(series),):
            raise UserError(f"y in {path} has shape {y.shape}; expected ({len(series)},), a label for each series")
        found = Labelled(_counted(series), series, _counted(series[0]), y)
    elif path.suffix == ".ts":
        series, y = _ts(path)
        found = Labelled(_counted(series), series, _counted(series[0]), y if layout.labelled else None)
    else:
        table = layout.table(path)
        target = _target_of(table, layout, path)
        if not layout.labelled:
            table, target = table.drop(columns=target, errors="ignore"), ""
        if layout.series:
            found = _from_steps(table, target, layout, path)
        else:
            steps = [name for name in table.columns if name != target]
            if not steps:
                raise UserError(f"{path} has no column but that of the labels; expected one for each step of a series")
            rows = _stacked(table, steps, path).T
            each = [_without_end(row[None]) for row in rows]
            found = Labelled(_counted(rows), each, ["1"], _labels(table, target), target)
    if found.y is not None and kind == "numbers":
        try:
            return replace(found, y=found.y.astype(np.float64))
        except ValueError as error:
            raise UserError(f"the labels of {path} are no numbers: {error}; did you mean --task classify?") from None
    return found


def load_observed(source: str, layout: Layout) -> Observed:
    """Series to be continued.

    A table has a step in each row and a channel in each column. An .npz file has `y` (C, T) or (T,) and, where
    something is known in advance, `exog` (E, T); a .ts file has many series. Rows of a table at its end in which no
    channel has a value are steps to come, of which something is known in advance.

    Raises:
        UserError: the file is missing, empty, or not what it should be.
    """
    path = _path(source, layout)
    if path.suffix == ".npz":
        arrays = _arrays(path, ("y", "exog"), "y, and perhaps exog")
        y = np.atleast_2d(arrays["y"])
        if y.ndim != 2 or 0 in y.shape or y.dtype.kind not in "iuf":
            raise UserError(f"y in {path} has shape {y.shape} and type {y.dtype}; expected numbers (channels, steps)")
        exog = [np.atleast_2d(arrays["exog"])] if "exog" in arrays else None
        known = _counted(exog[0]) if exog else []
        return Observed(["1"], [y.astype(np.float64)], _counted(y), exog, known, None, [], [Clock(None, None)])
    if path.suffix == ".ts":
        series, _ = _ts(path)
        clocks = [Clock(None, None) for _ in series]
        return Observed(_counted(series), series, _counted(series[0]), None, [], None, [], clocks)
    return _continued(layout.table(path), layout, path)


def _continued(table: pd.DataFrame, layout: Layout, path: Path) -> Observed:
    """From a table with a step in each row."""
    for name in layout.known:
        column(table, name, path, "--known")
    time = layout.time or _first_dates(table, layout)
    taken = {layout.series, time, *layout.known, *layout.static}
    channels = _channels(table, taken, layout, path)
    names: list[str] = []
    series: list[np.ndarray] = []
    known: list[np.ndarray] = []
    static: list[list[float]] = []
    clocks: list[Clock] = []
    for name, rows in _groups(table, layout, path, time):
        values = _stacked(rows, channels, path)  # (C, T + ahead)
        seen = _without_end(values) if layout.known else values
        T = seen.shape[1]
        names.append(name)
        series.append(seen)
        if layout.known:
            known.append(_stacked(rows, layout.known, path))
        static.append([_one_value(rows, one, name, path) for one in layout.static])
        clocks.append(Clock.of(rows[time].iloc[:T], path) if time else Clock(None, None))
    of_all = np.array(static) if layout.static else None
    return Observed(names, series, channels, known or None, list(layout.known), of_all, list(layout.static), clocks)


def _one_value(rows: pd.DataFrame, name: str, series: str, path: Path) -> float:
    """That of a column in the rows of a series."""
    column(rows, name, path, "--static")
    found = numbers(rows, name, path).dropna().unique()
    if len(found) != 1:
        shown = ", ".join(f"{one:g}" for one in found[:2]) or "none"
        raise UserError(f"column {name} of {path} has the values {shown} in series {series}; expected one (--static)")
    return float(found[0])


def _from_steps(table: pd.DataFrame, target: str, layout: Layout, path: Path) -> Labelled:
    """From a table with a step in each row."""
    channels = _channels(table, {target, layout.series, layout.time}, layout, path)
    names, series, labels = [], [], []
    for name, rows in _groups(table, layout, path, layout.time):
        names.append(name)
        values = _stacked(rows, channels, path)
        if layout.irregular:
            values = np.concatenate([values, seconds(rows[layout.time])[None]])
        series.append(values)
        if target:
            if rows[target].nunique(dropna=False) > 1:
                first, second = rows[target].unique()[:2].tolist()  # as Python shows them, without numpy's types
                raise UserError(f"series {name} of {path} has the labels {first!r} and {second!r}; expected one")
            labels.append(rows.index[0])
    return Labelled(names, series, channels, _labels(table.loc[labels], target), target)


def _stacked(rows: pd.DataFrame, names: Sequence[str], path: Path) -> np.ndarray:
    """Some columns, a row of the result each: (C, T)."""
    return np.stack([numbers(rows, name, path).to_numpy() for name in names])


def _channels(table: pd.DataFrame, taken: set[str], layout: Layout, path: Path) -> list[str]:
    names = list(layout.channels) or [name for name in table.columns if name not in taken]
    if not names:
        raise UserError(f"{path} has no columns beside {', '.join(table.columns)}; expected one for each channel")
    for name in names:
        column(table, name, path, "the channel")
    return names


def _groups(table: pd.DataFrame, layout: Layout, path: Path, time: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The name and the rows of each series; in the order of their times, if there is a column of these."""
    if time:
        table = table.assign(**{time: read_times(column(table, time, path, "--time"), path)})
    groups: Any = [("1", table)]
    if layout.series:
        column(table, layout.series, path, "--series")
        groups = table.groupby(layout.series, sort=False, dropna=False)
    for name, rows in groups:
        yield str(name), rows.sort_values(time, kind="stable") if time else rows


def _target_of(table: pd.DataFrame, layout: Layout, path: Path) -> str:
    """The column of the labels, "" where there is none."""
    if layout.target:
        if layout.labelled:
            column(table, layout.target, path, "--target")
        return layout.target
    free = [name for name in table.columns if name not in layout.channels]
    return next((name for label in LABELS for name in free if name.lower() == label), "")


def _labels(table: pd.DataFrame, target: str) -> np.ndarray | None:
    if not target:
        return None
    if (missing := table[target].isna()).any():
        raise UserError(
            f"column {target} has no label in row {first_row(missing)}; fill it in, or leave the series out"
        )
    values = table[target].to_numpy()
    return values if values.dtype.kind in "iufb" else np.array([str(value).strip() for value in values])


def _first_dates(table: pd.DataFrame, layout: Layout) -> str:
    """The first column that is free, where it holds something else than numbers."""
    import pandas as pd

    taken = {layout.series, *layout.known, *layout.static, *layout.channels}
    first = next((name for name in table.columns if name not in taken), "")
    return "" if not first or pd.api.types.is_numeric_dtype(table[first]) else str(first)


def _without_end(values: np.ndarray) -> np.ndarray:
    """(C, T) up to the last step that has a value; series of unequal length stand in a table with empty ends."""
    filled = np.flatnonzero(~np.isnan(values).all(axis=0))
    return values[:, : filled[-1] + 1] if len(filled) else values


def _path(source: str, layout: Layout) -> Path:
    path = Path(source)
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix not in (".npz", ".ts") and kind_of_table(path) not in READERS:
        raise UserError(f"{path} is of no kind that can be read; expected {', '.join(READERS)}, .npz or .ts")
    asked = [name for name in ("series", "time", "irregular", "known", "static") if getattr(layout, name)]
    if asked and path.suffix in (".npz", ".ts"):
        raise UserError(
            f"--{asked[0]} is for tables; {path} has no columns, leave it out or give a .csv or .parquet file"
        )
    return path


def _arrays(path: Path, names: Sequence[str], expected: str) -> dict[str, np.ndarray]:
    """Those of the names that a file has; it needs the first."""
    try:
        with path.open("rb") as opened, np.lib.npyio.NpzFile(opened, allow_pickle=False) as file:
            found = file.files
            arrays = {name: file[name] for name in names if name in found}
    except Exception as error:  # of zip, zlib and of Python's tokens, which numpy reads an array's header as
        raise UserError(f"{path} is no .npz file of plain arrays: {_reason(error)}") from None
    if names[0] not in arrays:
        raise UserError(f"{path} has the arrays {', '.join(found) or 'none'}; expected {expected}")
    return arrays


def _as_series(X: np.ndarray, path: Path, name: str) -> list[np.ndarray]:
    if X.ndim not in (2, 3) or 0 in X.shape or X.dtype.kind not in "iuf":
        raise UserError(
            f"{name} in {path} has shape {X.shape} and type {X.dtype}; expected numbers (series, channels, steps) or "
            "(series, steps)"
        )
    return [_without_end(np.atleast_2d(one).astype(np.float64)) for one in X]


def _ts(path: Path) -> tuple[list[np.ndarray], np.ndarray | None]:
    from aeon.datasets import load_from_ts_file

    try:
        X, y = load_from_ts_file(str(path))[:2]
    except Exception as error:  # aeon raises what its parser happens to meet
        raise UserError(f"{path} is no .ts file: {_reason(error)}") from None
    if not len(X):
        raise UserError(f"{path} has no series")
    return [np.asarray(one, np.float64) for one in X], y if y is not None and len(y) == len(X) else None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else repr(error)


def _counted(things: Sequence[Any] | np.ndarray) -> list[str]:
    return [str(number) for number in range(1, len(things) + 1)]


def _summary(series: list[np.ndarray], channels: list[str]) -> str:
    lengths = [one.shape[1] for one in series]
    steps = f"{min(lengths):,}" if min(lengths) == max(lengths) else f"{min(lengths):,} to {max(lengths):,}"
    shown = ", ".join(channels[:8]) + (", ..." if len(channels) > 8 else "")
    missing = sum(int(np.isnan(one).sum()) for one in series) / sum(one.size for one in series)
    return (
        f"{len(series):,} series of {len(channels)} channel{'s' * (len(channels) > 1)} ({shown}), {steps} steps, "
        + (f"{missing:.1%} of values missing" if missing else "no value missing")
    )
