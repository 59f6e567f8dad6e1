"""step.pte as a function: one time step, from a state to the next.

logits = Step()(tokens=np.array([[30]]))["logits"]

Needs numpy and executorch, whose Python runtime needs torch. Its C++ runtime, for devices, runs the same file and
needs neither torch nor Python.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

logging.disable(logging.WARNING)  # of libraries for GPUs, which are not used here
from executorch.runtime import Runtime  # noqa: E402

logging.disable(logging.NOTSET)

HERE = Path(__file__).parent


class Step:
    """Called with the inputs of a step by name, for one sequence, it gives the outputs by name and keeps the state."""

    def __init__(self) -> None:
        self.model: dict[str, Any] = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
        graph = self.model["graphs"]["step"]
        self.method = Runtime.get().load_program(HERE / graph["file"]).load_method("forward")
        self.inputs = [part["name"] for part in graph["inputs"]]
        self.outputs = [part["name"] for part in graph["outputs"]]
        self.state = [
            torch.from_numpy(np.full([1, *part["shape"][1:]], part["initial"], part["dtype"]))
            for part in graph["state"]
        ]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        given = [torch.from_numpy(inputs[name]) for name in self.inputs]
        found = self.method.execute([*given, *self.state])  # inputs and outputs in order, the states after them
        self.state = found[len(self.outputs) :]
        return {name: tensor.numpy() for name, tensor in zip(self.outputs, found, strict=False)}
