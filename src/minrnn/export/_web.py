from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..training._files import write_json
from ._exported import Busy, Exported, check_steps, description, finish, unseen
from ._graph_file import check_installed
from ._onnx import AXES, write_checked
from ._places import appearing, beside
from ._runtime import copy_runtime
from ._source import source_of

PAGES = {"language": "text", "classify": "series", "regress": "series"}


def export_web(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    runtime: str | os.PathLike[str] | None = None,
    example: np.ndarray | None = None,
    overwrite: bool = False,
    busy: Busy = unseen,
) -> Exported:
    """Write a run as a page that runs it in the browser, with all its files: nothing is asked of another address.

    Language models write from a prompt; classifiers and regressors that read from the start alone answer after each
    step of a series.

    Args:
        run: folder that `minrnn train` wrote, or `save_estimator`.
        out: folder to write, new or empty.
        runtime: folder of the unpacked npm package onnxruntime-web; by default npm fetches it, once.
        example: series (C, T) that the page begins with; random values by default.
        overwrite: replace an earlier export.
        busy: told what is under way.

    Raises:
        UserError: as `export_onnx`; also for runs that have no step graph, and where onnxruntime-web is not to be had.

    Example:
        >>> export_web("runs/shakespeare", "page")  # then: python -m http.server --directory page
    """
    check_installed()
    source = source_of(run)
    check_steps(source, "web")
    page = PAGES[source.task]
    with appearing(Path(out), overwrite) as folder:
        busy("fetching onnxruntime-web")
        copy_runtime(folder / "runtime", runtime)
        written, found = write_checked(source, folder, busy)
        kept = {path: graph for path, graph in written.items() if graph.name == "step"}
        record = description(source, kept, found, AXES)
        for path in written.keys() - kept:
            path.unlink()
        files = {"index.html": f"{page}.html", "page.js": f"{page}.js", "style.css": "style.css", "step.js": "step.js"}
        if page == "text":
            files["tokens.js"] = "tokens.js"
        else:
            values = source.random(np.random.default_rng(0), 1, 100)["values"][0] if example is None else example.T
            write_json(folder / "example.json", [[None if np.isnan(x) else float(x) for x in row] for row in values])
        finish(source, folder, {name: beside(f"web/{file}") for name, file in files.items()}, record)
    return Exported(Path(out), record)
