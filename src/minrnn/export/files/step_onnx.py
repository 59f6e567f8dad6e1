"""step.onnx as a function: one time step, from a state to the next. Needs numpy and onnxruntime alone.

logits = Step()(tokens=np.array([[30]]))["logits"]
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).parent


class Step:
    """Called with the inputs of a step by name, for one sequence, it gives the outputs by name and keeps the state."""

    def __init__(self) -> None:
        self.model: dict[str, Any] = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
        graph = self.model["graphs"]["step"]
        self.session = onnxruntime.InferenceSession(HERE / graph["file"])
        self.names = [part["name"] for part in graph["outputs"]]
        self.names += [part["next"] for part in graph["state"]]
        self.parts: list[dict[str, Any]] = graph["state"]
        self.state = {
            part["name"]: np.full([1, *part["shape"][1:]], part["initial"], part["dtype"]) for part in self.parts
        }

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        found = dict(zip(self.names, self.session.run(self.names, inputs | self.state), strict=True))
        self.state = {part["name"]: found.pop(part["next"]) for part in self.parts}
        return found
