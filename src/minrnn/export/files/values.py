"""The values of a file: a row is a step, with a value for each channel; an empty one is missing."""

import csv
import sys
from math import isfinite, isnan, nan

import numpy as np


def read(arguments: list[str], channels: int) -> np.ndarray:
    """(T, C), without a first row of names. Ends the program where the file has something else."""
    if len(arguments) != 1:
        sys.exit("give one file of values:  python run.py series.csv")
    try:
        with open(arguments[0], encoding="utf-8-sig", newline="") as file:
            words = [row for row in csv.reader(file) if row]
    except (OSError, ValueError) as error:
        sys.exit(f"cannot read {arguments[0]}: {error}")
    rows = [[number(word.strip()) for word in row] for row in words]
    if rows and None in rows[0] and all(value is None or isnan(value) for value in rows[0]):
        del rows[0], words[0]
    widths = {len(row) for row in rows}
    if len(rows) == channels and len(widths) == 1 and 1 in (len(rows), *widths):  # all of one channel, or of one step
        rows, words = ([list(column) for column in zip(*table, strict=True)] for table in (rows, words))
    for step, row in enumerate(rows, 1):
        if len(row) != channels:
            place = f" at step {step}" if len(widths) > 1 else ""
            sys.exit(f"the file has {many(len(row), 'column')}{place}; the model reads {many(channels, 'channel')}")
        if None in row:
            sys.exit(f"the file has {words[step - 1][row.index(None)]!r} at step {step}; expected a number")
    if not rows:
        sys.exit(f"{arguments[0]} has no values")
    return np.array(rows, np.float64)


def number(word: str) -> float | None:
    """NaN where a value is missing, None for what is no number."""
    if word.lower() in ("", "na", "nan"):
        return nan
    try:
        value = float(word)
    except ValueError:
        return None
    return value if isfinite(value) else None


def many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
