"""One value at a time: an answer at once, from a state of constant size.

answers = stream("runs/load")  # a run of minrnn train --task forecast
for value in sensor:
    answer = answers.push([value])
    if answer.score > 3:
        ...
answers.save("load.safetensors")  # stream("runs/load").restore("load.safetensors") goes on from here
"""

from ._stream import Stream, stream

__all__ = ["Stream", "stream"]
