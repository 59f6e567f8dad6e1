"""Forecast from the end of a series, with sequence.onnx:  python run.py series.csv

A row of the file is a step, with a value for each channel; an empty one is missing. What is known in advance, where the
model reads such things, is taken as its mean here. Needs numpy and onnxruntime alone.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from values import read  # type: ignore[import-not-found]

HERE = Path(__file__).parent
model = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
values = read(sys.argv[1:], model["channels"]["count"])  # (T, C)
past = np.full((1, values.shape[1], model["context"]), np.nan)  # a series that is shorter has NaN before it
newest = values[-model["context"] :].T
past[0, :, past.shape[2] - newest.shape[1] :] = newest
inputs = {"past": past}
for known in model["graphs"]["sequence"]["inputs"][1:]:
    inputs[known["name"]] = np.full([1, *known["shape"][1:]], np.nan)
(answers,) = onnxruntime.InferenceSession(HERE / "sequence.onnx").run(None, inputs)  # (1, C, answers, N)
print("channel", "step", *(name.replace(" ", "_") for name in model["answers"]))
for channel, of_channel in enumerate(answers[0]):
    for ahead, row in enumerate(of_channel.T, 1):
        print(channel, ahead, *(f"{value:.9g}" for value in row))
