from __future__ import annotations

import os
from pathlib import Path

from ._check import check
from ._exported import Busy, Exported, check_steps, description, example, finish, unseen
from ._places import appearing, beside
from ._pte_file import check_installed, open_pte, write_pte
from ._source import source_of

AXES = {"B": "sequences: 1, since the shapes of a .pte file are fixed"}


def export_executorch(
    run: str | os.PathLike[str], out: str | os.PathLike[str], *, overwrite: bool = False, busy: Busy = unseen
) -> Exported:
    """Write a run for ExecuTorch, which runs on phones and small boards, and check the file against the run.

    The folder has `step.pte` (one time step of one sequence, with a state in and out), `model.json` and `run.py`, an
    example that needs numpy and executorch. ExecuTorch's Python runtime needs torch; its C++ runtime, which devices
    have, needs neither torch nor Python.

    Args:
        run: folder that `minrnn train` wrote, or `save_estimator`.
        out: folder to write, new or empty.
        overwrite: replace an earlier export.
        busy: told what is under way.

    Raises:
        UserError: as `export_onnx`, of the extra `executorch`; also for runs that have no step graph.

    Example:
        >>> export_executorch("runs/shakespeare", "shakespeare-executorch").record["check"]["step"]
        4.8e-07
    """
    source = source_of(run)
    check_steps(source, "executorch")
    busy("importing executorch")
    check_installed()
    with appearing(Path(out), overwrite) as folder:
        graph, path = source.graphs(exported=True)["step"], folder / "step.pte"
        busy(f"writing {path.name}")
        write_pte(graph, example(source, graph, 1, 1), path)
        busy("comparing with torch")
        found = check(source, {graph.name: open_pte(path, graph)})
        record = description(source, {path: graph}, found, AXES)
        finish(source, folder, source.files() | {"step.py": beside("step_executorch.py")}, record)
    return Exported(Path(out), record)
