"""Write text with step.onnx:  python run.py "Once upon" 200 0.8     (prompt, tokens, temperature; 0: the likeliest)

Needs numpy and onnxruntime alone. The state has one size, however much is written.
"""

import codecs
import json
import os
import sys

import numpy as np
import onnxruntime
from tokens import Tokens  # type: ignore[import-not-found]

os.chdir(os.path.dirname(os.path.abspath(__file__)))
prompt, count, temperature = (sys.argv[1:] + ["", "200", "1.0"][len(sys.argv) - 1 :])[:3]
with open("model.json", encoding="utf-8") as file:
    model = json.load(file)
step, tokens, rng = onnxruntime.InferenceSession("step.onnx"), Tokens(), np.random.default_rng()
names = [output.name for output in step.get_outputs()]
state = {}
for part in model["graphs"]["step"]["state"]:  # B = 1
    shape = [1, *part["shape"][1:]]
    state[part["name"]] = np.broadcast_to(np.array(part["initial"], part["dtype"]), shape)


def read(token: int) -> np.ndarray:
    """The logits of the next token, (V,)."""
    found = dict(zip(names, step.run(names, {"tokens": np.array([[token]]), **state}), strict=True))
    state.update({part["name"]: found[part["next"]] for part in model["graphs"]["step"]["state"]})
    return np.asarray(found["logits"][0])


for token in model["beginning"] + tokens.encode(prompt):  # a text begins after a newline
    logits = read(token)
decoder = codecs.getincrementaldecoder("utf-8")("replace")
print(prompt, end="")
for _ in range(int(count)):
    token = int(np.argmax(logits))
    if float(temperature) > 0:
        token = int(np.argmax(logits / float(temperature) + rng.gumbel(size=logits.shape)))
    print(decoder.decode(tokens.bytes_of(token)), end="", flush=True)
    logits = read(token)
print(decoder.decode(b"", final=True))
