from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._memory import Layer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; }
div { overflow-x: auto; }
"""

Rows = Sequence[Sequence[str]]


def page(title: str, words: str, sections: Sequence[tuple[str, str, Rows | bytes]]) -> str:
    """A page of HTML that needs no other file: heading, an opening, and sections.

    Args:
        sections: of each the heading, what is said of it, and a table (its first row names the columns) or a picture
            (PNG).
    """
    parts = [
        f"<section><h2>{html.escape(heading)}</h2><p>{html.escape(said)}</p>"
        f"<div>{_shown(heading, content)}</div></section>"
        for heading, said, content in sections
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(words)}</p>{''.join(parts)}</html>\n"
    )


def _shown(heading: str, content: Rows | bytes) -> str:
    if isinstance(content, bytes):
        return f'<img alt="{html.escape(heading)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
    head, *rows = (("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)) for tag, row in _tagged(content))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _tagged(rows: Rows) -> list[tuple[str, Sequence[str]]]:
    return [("td" if number else "th", row) for number, row in enumerate(rows)]


def png(figure: Figure) -> bytes:
    """The bytes of a picture."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def draw_memory(figure: Figure, layers: Sequence[Layer]) -> None:
    """Half-lives of each layer's numbers, the share of gates that are saturated, and the size of states over time."""
    import numpy as np
    from matplotlib.ticker import LogLocator, NullFormatter

    left, middle, right = figure.subplots(1, 3)
    names = [_label(layer, layers) for layer in layers]
    places = np.arange(len(layers))
    colours = [f"C{number % 10}" for number in places]
    for at, layer in enumerate(layers):
        half_lives = layer.half_lives().clamp(max=1e6).sort().values
        share = np.arange(1, len(half_lives) + 1) / len(half_lives)
        left.plot(half_lives, 100 * share, color=colours[at], label=names[at])
        right.plot(np.arange(1, len(layer.sizes) + 1), layer.sizes, color=colours[at], label=names[at])
    left.set(xscale="log", xlabel="half-life, steps", ylabel="% of the state's numbers below")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter(NullFormatter())
    forgets = np.array([100 * layer.forgets for layer in layers])
    keeps = np.array([100 * layer.keeps for layer in layers])
    middle.barh(places, forgets, color="#c8452c", label="forgets (below 0.05)")
    middle.barh(places, 100 - forgets - keeps, left=forgets, color="#d9d9d9", label="between")
    middle.barh(places, keeps, left=100 - keeps, color="#1f5a94", label="keeps (above 0.95)")
    middle.set(yticks=places, yticklabels=names, xlabel="% of what steps keep", xlim=(0, 100))
    middle.invert_yaxis()
    right.set(xlabel="step", ylabel="root mean square of the state", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    middle.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=0.8, handlelength=1)


def _label(layer: Layer, layers: Sequence[Layer]) -> str:
    """Its name, and its state's where it has several."""
    several = sum(other.name == layer.name for other in layers) > 1
    return f"{layer.name} {layer.state}" if several else layer.name
