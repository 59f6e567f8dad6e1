from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from minrnn.errors import UserError

from ..training._files import read_json
from ..training._folder import RunFolder


def is_run(folder: Any) -> bool:
    """Whether this is a run folder of minrnn, whose files have the names that transformers uses for others."""
    if not isinstance(folder, str | os.PathLike):
        return False
    try:
        record = read_json(RunFolder(Path(folder)).config)
    except UserError:
        return False
    return isinstance(record, dict) and {"format", "minrnn"} <= record.keys()
