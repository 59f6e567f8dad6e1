"""The character n-gram: what counting alone achieves on a text, and so the least that a network has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ._codes import code_points

Smoothing = Literal["witten-bell", "kneser-ney"]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


def best_ngram(
    train: str, held_out: str, orders: Iterable[int] = range(1, 7), *, smoothing: Smoothing = "witten-bell"
) -> tuple[int, float]:
    """The order that predicts `held_out` best when counted on `train`, and its bits per character.

    An order of n sees n - 1 characters back, for the first held-out ones into the training text. It mixes the share
    of the character among those that followed the same history h with the prediction q of the next lower order:

        witten-bell:  (c(h x) + t(h) q(x)) / (c(h) + t(h))          t(h): how many different characters followed h
        kneser-ney:   (c(h x) - D(c(h x)) + d(h) q(x)) / c(h)       D: discounts for counts of 1, 2 and above;
                                                                    d(h): all that was discounted after h

    and order 0 is even over all characters of both parts. Witten-Bell is method C of Witten and Bell, 1991, the usual
    n-gram; Kneser-Ney is the interpolated modified form of Chen and Goodman, 1998, whose lower orders count in how
    many different places, rather than how often, a character follows: a far stronger baseline.

    Example: `best_ngram(text.train, text.held_out)` on tiny Shakespeare is `(5, 2.4076)`, by Kneser-Ney `(6, 2.1966)`

    Raises ValueError for empty parts, and for orders below 1 or none that `train` is long enough for.
    """
    wanted = set(orders)
    if not train or not held_out:
        raise ValueError(f"best_ngram: {'held_out' if train else 'train'} is empty; give it at least one character")
    if not wanted or min(wanted) < 1 or min(wanted) > len(train):
        raise ValueError(f"best_ngram: orders {sorted(wanted)}; give some between 1 and the length of train")
    highest = min(max(wanted), len(train))
    bits = {
        order: float(-np.log2(probabilities).mean())
        for order, probabilities in enumerate(predictions(train, held_out, highest, smoothing), start=1)
        if order in wanted
    }
    best = min(bits, key=lambda order: bits[order])
    return best, bits[best]


def predictions(train: str, held_out: str, highest: int, smoothing: Smoothing) -> Iterator[Floats]:
    """The probability (N,) of each of the N characters of `held_out`, for the orders 1 to `highest` in turn."""
    alphabet, symbols = np.unique(code_points(train + held_out), return_inverse=True)
    size = len(alphabet)
    grams = np.zeros(len(symbols) + 1, np.int64)  # order 0: the same empty gram everywhere
    lower = np.full(len(held_out), 1 / size)
    for order in range(1, highest + 1):
        # A gram is the gram that ended one character earlier, its history, and a character. Numbering the distinct
        # ones anew at each order keeps the numbers small, however large the alphabet is.
        distinct, grams = np.unique(grams[:-1] * size + symbols[order - 1 :], return_inverse=True)
        history = distinct // size
        here = grams[-len(held_out) :]
        counted = grams[: -len(held_out)]
        counts = np.bincount(counted, minlength=len(distinct))
        if smoothing == "witten-bell":
            lower = _mix(counts, (counts > 0).astype(np.float64), history, here, lower)
            yield lower
        else:
            given = _discounts(counts)
            yield _mix(counts - given, given, history, here, lower)
            before = np.unique(counted[1:] * size + symbols[: len(counted) - 1])  # each gram with what preceded it
            places = np.bincount(before // size, minlength=len(distinct))
            given = _discounts(places)
            lower = _mix(places - given, given, history, here, lower)


def _mix(kept: Integers | Floats, given: Floats, history: Integers, here: Integers, lower: Floats) -> Floats:
    """The probabilities (N,) of the grams `here`: their own share, and as much of `lower` as their history gives.

    `kept`, `given` and `history` have one entry for each distinct gram; a history never seen gives all.
    """
    mass = np.bincount(history, weights=kept + given)[history[here]]
    share = np.bincount(history, weights=given)[history[here]]
    return np.where(mass > 0, (kept[here] + share * lower) / np.where(mass > 0, mass, 1), lower)


def _discounts(counts: Integers) -> Floats:
    """What to take from each count, estimated from how many counts are 1 to 4 (Chen and Goodman, section 4.1)."""
    n1, n2, n3, n4 = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    discounts = np.full(4, 0.5)  # for texts too small to estimate from
    if min(n1, n2, n3, n4):
        y = n1 / (n1 + 2 * n2)
        estimate = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        discounts[1:] = estimate if estimate.min() > 0 else 0.5
    discounts[0] = 0
    taken: Floats = discounts[np.minimum(counts, 3)]
    return taken
