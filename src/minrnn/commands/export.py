"""minrnn export"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from minrnn.errors import UserError

from ._parse import parse

FORECASTS = 200  # of each series, that weights of eight bits are measured on


@dataclass(frozen=True)
class ExportOptions:
    """Write a run for places that have neither minrnn nor torch.

    Example:  minrnn export runs/shakespeare --format onnx --out shakespeare-onnx

    Then:  python shakespeare-onnx/run.py "ROMEO:"    (needs numpy and onnxruntime alone)

    For phones and small boards:  minrnn export runs/shakespeare --format executorch --out shakespeare-executorch

    As a page that runs in the browser:  minrnn export runs/shakespeare --format web --out page

    Before it says that it is done it compares what it wrote with the run, on random input of several lengths.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that minrnn train wrote."""
    out: str
    """Folder to write, new or empty."""
    format: Literal["onnx", "executorch", "web"] = "onnx"
    """onnx: step.onnx (one step, with a state in and out), sequence.onnx (whole sequences), model.json that describes
    them, and an example. executorch: step.pte, model.json and an example. web: a folder with a page that any web server
    serves and any browser runs."""
    int8: bool = False
    """Also write the graphs with weights of eight bits, and measure what that costs; for --format onnx."""
    runtime: str = ""
    """Folder of the unpacked npm package onnxruntime-web, for --format web; by default npm fetches it once."""
    overwrite: bool = False
    """Replace the export that the folder --out holds already."""


def main(arguments: Sequence[str]) -> int:
    """Write the folder, and say what is in it and how far it is from the run."""
    options = parse(ExportOptions, "export", arguments)
    if options.int8 and options.format != "onnx":
        raise UserError(f"--int8 is for --format onnx; --format {options.format} runs in float32")
    if options.runtime and options.format != "web":
        raise UserError(f"--runtime is for --format web; --format {options.format} takes what pip installs")

    from minrnn.training._progress import display

    show = display()
    try:
        record = _export(options, show.busy)
    finally:
        show.close()
    for graph in record["graphs"].values():
        print(f"{graph['file']}: {graph['bytes']:,} bytes")
    if reason := record.get("no_step"):
        print(f"no step.onnx: {reason}")
    print(_differences(record["check"]))
    if small := record.get("int8"):
        for graph in small["graphs"].values():
            print(
                f"{graph['file']}: {graph['bytes']:,} bytes, {graph['bytes'] / graph['bytes_float32']:.0%} of float32"
            )
        print(
            f"eight bits: {small['measured']}, {small['on']}: {small['int8']:.4g}, in float32 {small['float32']:.4g}"
            f" (difference {small['difference']:+.2g})"
        )
    if options.format == "web":
        print(f"it is in {options.out}; next: python -m http.server --directory {options.out} 8000")
        print("and open http://localhost:8000 in a browser")
    else:
        series = "" if record["task"] == "language" else " series.csv"
        print(f"it is in {options.out}; next: python {Path(options.out) / 'run.py'}{series}")
    return 0


def _export(options: ExportOptions, busy: Callable[[str], None]) -> dict[str, Any]:
    """What model.json holds."""
    from minrnn.export import export_executorch, export_onnx, export_web

    run, out, overwrite = options.run, options.out, options.overwrite
    if options.format == "executorch":
        return export_executorch(run, out, overwrite=overwrite, busy=busy).record
    if options.format == "web":
        runtime, example = options.runtime or None, _example(run)
        return export_web(run, out, runtime=runtime, example=example, overwrite=overwrite, busy=busy).record
    held_out = _held_out(run) if options.int8 else None
    return export_onnx(run, out, int8=options.int8, held_out=held_out, overwrite=overwrite, busy=busy).record


def _differences(check: dict[str, Any]) -> str:
    """In a line."""
    line = "largest difference on random input:"
    if check["sequence"] is None:
        return f"{line} step from torch {check['step']:.1e}"
    line += f" sequence from torch {check['sequence']:.1e}"
    return line if check["step"] is None else f"{line}, step from sequence {check['step']:.1e}"


def _held_out(run: str) -> Any:
    """What was held out in training, where it is at hand and as it was; None elsewhere."""
    from minrnn.training._folder import is_of_series

    try:
        return _held_out_series(run) if is_of_series(run) else _held_out_text(run)
    except UserError:  # the file is gone; a folder that is no run is told of by the export itself
        return None


def _example(run: str) -> Any:
    """A series that was held out, where one is at hand."""
    held_out = _held_out(run)
    return held_out[0][0] if isinstance(held_out, tuple) else None


def _held_out_text(run: str) -> Any:
    from minrnn.training import load_run
    from minrnn.training._corpus import load_corpus
    from minrnn.training._folder import RunFolder, Settings

    trained = load_run(run)
    corpus = load_corpus(trained.config, trained.tokenizer)
    same = corpus.sha256 == Settings.load(RunFolder(Path(run))).text_sha256
    return corpus.held_out if same else None


def _held_out_series(run: str) -> Any:
    """Series and labels, or windows of a forecaster and what came after them; None where nothing was held out."""
    import numpy as np

    from minrnn.training._files import file_digest

    from ._forecasts import Forecasts
    from ._labelled import Labelled
    from ._series import of_run

    estimator, data = of_run(run, "")
    if data.noted.get("sha256") != file_digest(Path(data.noted["data"])):
        return None
    if isinstance(data, Labelled):
        return data.part("val")
    assert isinstance(data, Forecasts)
    K, N = estimator.context_, estimator.horizon
    windows, targets = [], []
    for at, one in enumerate(data.data.series):
        first, last = max(data._cut(one), K), one.shape[1] - N
        for origin in np.unique(np.linspace(first, last, FORECASTS, dtype=int)) if first <= last else ():
            window = {"past": one[None, :, origin - K : origin].astype(np.float64)}
            if data.data.known is not None:
                window["covariates"] = data.data.known[at][None, :, origin - K : origin + N].astype(np.float64)
            if data.data.static is not None:
                window["static"] = data.data.static[at][None].astype(np.float64)
            windows.append(window)
            targets.append(one[:, origin : origin + N])
    return (windows, np.stack(targets)) if windows else None
