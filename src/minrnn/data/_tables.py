"""Tables in files (CSV, TSV, Parquet), with what is wrong in them said in one line."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from minrnn.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

READERS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".parquet": ""}
UNNAMED = "Unnamed: "
"""What pandas calls a column without a name, with its place."""


def kind_of_table(path: Path) -> str:
    """The suffix, without that of gzip."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def read_table(path: Path) -> pd.DataFrame:
    """The table in a file, gzip'd or not, with a name for each column. Raises UserError where it is none."""
    import pandas as pd

    suffix = kind_of_table(path)
    try:
        if suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, sep=READERS[suffix], skipinitialspace=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path} is empty; expected a line of column names and a line for each row") from None
    except (ValueError, ImportError, EOFError, zlib.error) as error:  # of the parser, UTF-8, Arrow and gzip
        raise UserError(f"{path} is no {suffix[1:].upper()} table: {str(error).splitlines()[0]}") from None
    if suffix != ".parquet" and not isinstance(table.index, pd.RangeIndex):
        raise UserError(
            f"a row of {path} has more values than its first line has names; give each column a name, and end no row "
            f"with {READERS[suffix]!r}"
        )
    if isinstance(table.index, pd.DatetimeIndex) and table.index.name is None:
        table.index.name = "index"
    named = [name for name in table.index.names if name is not None and name not in table.columns]
    table = table.reset_index(level=named).reset_index(drop=True)  # a row is named by its place in the file
    table.columns = [str(name).strip() for name in table.columns]
    if twice := [name for name, again in zip(table.columns, table.columns.duplicated(), strict=True) if again]:
        raise UserError(f"{path} has two columns {twice[0]!r}; give each a name of its own")
    if not len(table):
        raise UserError(f"{path} has column names and no rows")
    if suffix != ".parquet":
        _check_header(table, path)
    return table


def _check_header(table: pd.DataFrame, path: Path) -> None:
    names = list(table.columns)
    if sum(_is_number(name) for name in names) > len(names) / 2 and not _are_steps(names):
        raise UserError(f"the first line of {path} holds numbers; expected names of the columns")
    first = table[names[0]].astype(str).str.strip() == names[0]
    for row in table.index[first]:
        if all(_same(str(value).strip(), name) for value, name in zip(table.loc[row], names, strict=True)):
            raise UserError(f"line {row + 2} of {path} is the header once more; delete it")


def _are_steps(names: list[str]) -> bool:
    """Whether the numbers among the names count: 0, 1, 2, ..."""
    numbers = [name for name in names if _is_number(name)]
    return numbers in ([str(at) for at in range(start, start + len(numbers))] for start in (0, 1))


def without_unnamed(table: pd.DataFrame, asked_for: set[str], path: Path) -> pd.DataFrame:
    """Without columns that have neither a name nor a value. Raises UserError for one that may be a count of the rows,
    from which a network would learn the order of the file; dates without a name are taken, and what is asked for.
    """
    import pandas as pd

    unnamed = [name for name in table.columns if name.startswith(UNNAMED) and name not in asked_for]
    table = table.drop(columns=[name for name in unnamed if table[name].isna().all()])
    for name in unnamed:
        if name in table.columns and pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(
                f"{path} has a column without a name ({name!r}), as the numbers of the rows are written; give it one, "
                f"delete it, or leave it out in training (--ignore {name!r})"
            )
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _same(value: str, name: str) -> bool:
    """Whether both are the same word or the same number."""
    return value == name or (_is_number(value) and _is_number(name) and float(value) == float(name))


def column(table: pd.DataFrame, name: str, path: Path, option: str) -> pd.Series:
    """A column that a person asked for."""
    if name not in table.columns:
        shown = ", ".join(table.columns[:12]) + (", ..." if len(table.columns) > 12 else "")
        raise UserError(f"{option} {name} is no column of {path}; the columns are {shown}")
    return table[name]


def numbers(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """A column as float64, NaN where nothing stands. Raises UserError that names the first entry that is no number."""
    import pandas as pd

    if table[name].dtype.kind in "mM":  # which pandas takes for the number of their nanoseconds
        raise UserError(
            f"column {name} of {path} holds times, no numbers; name the column of the times (--time), or leave this "
            f"one out (--ignore {name})"
        )
    values = pd.to_numeric(table[name], errors="coerce").astype("float64")
    wrong = values.isna() & table[name].notna()
    if wrong.any():
        raise UserError(
            f"column {name} of {path} has {table[name][wrong].iloc[0]!r} in row {first_row(wrong)}, which is no "
            "number; mend it, leave it empty where a value is missing, or leave the column out"
        )
    return values


def first_row(marked: pd.Series) -> int:
    """The first row of the file that is marked, counted from 1 after the column names."""
    return int(marked.index[marked].min()) + 1
