"""Answer to a whole series, with sequence.onnx:  python run.py series.csv

A row of the file is a step, with a value for each channel; an empty one is missing. Needs numpy and onnxruntime alone.
"""

import json
import os
import sys

import numpy as np
import onnxruntime

values = np.atleast_2d(np.genfromtxt(sys.argv[1], delimiter=","))  # (T, C)
os.chdir(os.path.dirname(os.path.abspath(__file__)))
with open("model.json", encoding="utf-8") as file:
    model = json.load(file)
values = values.reshape(1, -1, model["channels"]["count"])
sequence = onnxruntime.InferenceSession("sequence.onnx")
(answers,) = sequence.run(None, {"values": values, "lengths": np.array([values.shape[1]])})
if "classes" in model:
    chances = answers[0]
    print(model["classes"][int(chances.argmax())], *(f"{chance:.6f}" for chance in chances))
else:
    print(f"{answers[0]:.9g}")
