"""Runs without minrnn: as ONNX graphs, for ExecuTorch, and as a page that runs in the browser.

exported = export_onnx("runs/shakespeare", "shakespeare-onnx", int8=True)
exported.record["check"]  # how far the graphs are from the run
export_executorch("runs/shakespeare", "shakespeare-executorch")  # one step at a time, on phones and small boards
export_web("runs/shakespeare", "page")  # then: python -m http.server --directory page
"""

from ._executorch import export_executorch
from ._exported import Exported
from ._onnx import export_onnx
from ._web import export_web

__all__ = ["Exported", "export_onnx", "export_executorch", "export_web"]
