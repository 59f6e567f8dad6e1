from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..training import _folder


def is_run(folder: Any) -> bool:
    """Whether this is a run folder of minrnn, whose files have the names that transformers uses for others."""
    return isinstance(folder, str | os.PathLike) and _folder.is_run(Path(folder))
