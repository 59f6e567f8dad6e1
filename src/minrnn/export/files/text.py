"""Write text:  python run.py "Once upon" 200 0.8     (prompt, tokens, temperature; 0: the likeliest)

What it needs stands in step.py. The state has one size, however much is written.
"""

import codecs
import sys

import numpy as np
from step import Step  # type: ignore[import-not-found]
from tokens import Tokens  # type: ignore[import-not-found]

prompt, count, temperature = (sys.argv[1:] + ["", "200", "1.0"][len(sys.argv) - 1 :])[:3]
step, tokens, rng = Step(), Tokens(), np.random.default_rng()


def read(token: int) -> np.ndarray:
    """The logits of the next token, (V,)."""
    return np.asarray(step(tokens=np.array([[token]]))["logits"][0])


for token in step.model["beginning"] + tokens.encode(prompt):  # a text begins after a newline
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
