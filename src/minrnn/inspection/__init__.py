"""What a trained network keeps of what it read: how long, with which gates, and how large its states grow.

with watching(run.model) as layers:
    run.model(tokens)
for layer in layers:
    print(layer.name, layer.half_lives().median())
"""

from ._memory import LAYERS_WITH, Layer, watching
from ._page import page

__all__ = ["LAYERS_WITH", "Layer", "watching", "page"]
