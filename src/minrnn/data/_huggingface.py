"""Text of a Hugging Face data set, through the `datasets` library."""

from __future__ import annotations

import importlib
from typing import Any

from minrnn.errors import UserError

PREFIX = "hf:"
STRINGS = ("string", "large_string")


def load_huggingface(source: str) -> str:
    """The text column of `hf:NAME` or `hf:NAME:CONFIG`, rows joined by newlines.

    Takes the split `train`, or the first where there is none; the column `text`, or the first that holds strings.
    Raises UserError where `datasets` is missing, cannot load NAME, or finds no such column.
    """
    name, _, config = source.removeprefix(PREFIX).partition(":")
    if not name:
        raise UserError(f"{source!r} names no data set; write {PREFIX}NAME or {PREFIX}NAME:CONFIG")
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise UserError(f"{source} needs the datasets library: pip install 'minrnn[data]'") from error
    try:
        splits: dict[str, Any] = datasets.load_dataset(name, config or None)
    except Exception as error:  # as many kinds as there are file formats and ways for a network to fail
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"cannot load {source} ({type(error).__name__}: {reason}); check the name and the network"
        ) from error
    rows = splits["train"] if "train" in splits else next(iter(splits.values()))
    columns = [column for column, kind in rows.features.items() if getattr(kind, "dtype", "") in STRINGS]
    if not columns:
        raise UserError(f"{source} has no text among its columns {', '.join(rows.features)}; give another data set")
    return "\n".join(row or "" for row in rows["text" if "text" in columns else columns[0]])
