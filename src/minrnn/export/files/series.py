"""Answer after each step of a series:  python run.py series.csv

A row of the file is a step, with a value for each channel; an empty one is missing. What it needs stands in step.py.
"""

import sys

from step import Step  # type: ignore[import-not-found]
from values import read  # type: ignore[import-not-found]

step = Step()
for row in read(sys.argv[1:], step.model["channels"]["count"]):  # (T, C)
    found = step(values=row[None])
    if "classes" in step.model:
        chances = found["probabilities"][0]
        print(step.model["classes"][int(chances.argmax())], *(f"{chance:.6f}" for chance in chances), flush=True)
    else:
        print(f"{found['answer'][0]:.9g}", flush=True)
