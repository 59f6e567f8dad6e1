"""Answer after each step of a series:  python run.py series.csv

A row of the file is a step, with a value for each channel; an empty one is missing. What it needs stands in step.py.
"""

import sys

import numpy as np
from step import Step  # type: ignore[import-not-found]

step = Step()
values = np.atleast_2d(np.genfromtxt(sys.argv[1], delimiter=","))  # (T, C)
for row in values.reshape(-1, step.model["channels"]["count"]):
    found = step(values=row[None])
    if "classes" in step.model:
        chances = found["probabilities"][0]
        print(step.model["classes"][int(chances.argmax())], *(f"{chance:.6f}" for chance in chances), flush=True)
    else:
        print(f"{found['answer'][0]:.9g}", flush=True)
