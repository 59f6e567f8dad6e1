"""Answer after each step of a series, with step.onnx:  python run.py series.csv

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
values = values.reshape(-1, model["channels"]["count"])
step = onnxruntime.InferenceSession("step.onnx")
names = [output.name for output in step.get_outputs()]
state = {}
for part in model["graphs"]["step"]["state"]:  # B = 1
    shape = [1, *part["shape"][1:]]
    state[part["name"]] = np.broadcast_to(np.array(part["initial"], part["dtype"]), shape)
for row in values:
    found = dict(zip(names, step.run(names, {"values": row[None], **state}), strict=True))
    state = {part["name"]: found[part["next"]] for part in model["graphs"]["step"]["state"]}
    if "classes" in model:
        chances = found["probabilities"][0]
        print(model["classes"][int(chances.argmax())], *(f"{chance:.6f}" for chance in chances), flush=True)
    else:
        print(f"{found['answer'][0]:.9g}", flush=True)
