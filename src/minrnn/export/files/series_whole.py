"""Answer to a whole series, with sequence.onnx:  python run.py series.csv

A row of the file is a step, with a value for each channel; an empty one is missing. Needs numpy and onnxruntime alone.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from values import read  # type: ignore[import-not-found]

HERE = Path(__file__).parent
model = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
values = read(sys.argv[1:], model["channels"]["count"])[None]  # (1, T, C)
sequence = onnxruntime.InferenceSession(HERE / "sequence.onnx")
(answers,) = sequence.run(None, {"values": values, "lengths": np.array([values.shape[1]])})
if "classes" in model:
    chances = answers[0]
    print(model["classes"][int(chances.argmax())], *(f"{chance:.6f}" for chance in chances))
else:
    print(f"{answers[0]:.9g}")
