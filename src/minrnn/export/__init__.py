"""Runs without minrnn and torch: as ONNX graphs, and as a page that runs in the browser.

exported = export_onnx("runs/shakespeare", "shakespeare-onnx", int8=True)
exported.record["check"]  # how far the graphs are from the run
export_web("runs/shakespeare", "page")  # then: python -m http.server --directory page
"""

from ._onnx import Exported, export_onnx
from ._web import export_web

__all__ = ["Exported", "export_onnx", "export_web"]
