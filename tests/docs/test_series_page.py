"""The examples of docs/series.md run, one after the other, and what they say of shapes is so."""

import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "series.md").read_text()


def test_examples() -> None:
    found: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(example, found)
    assert found["probabilities"].shape == (40, 2)
    assert found["timed"].predict(found["events"]).shape == (40,)
    assert found["path"].shape == (1, 24)
    assert (found["low"] <= found["high"]).all()
    assert abs(found["middle"] - found["y"][576:]).mean() < 10
    assert found["paths"].shape == (5, 1, 12)
    assert (found["again"].predict(found["X"]) == found["labels"]).all()
    assert found["answer"].mean.shape == (1, 12) and found["answer"].quantiles.shape == (1, 3, 12)
    assert found["surprise"] > 3 > found["answer"].score
