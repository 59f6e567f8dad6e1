"""The counts against a dictionary, the probabilities against 1, the figures against those that are known."""

import hashlib
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minrnn.data import best_ngram, load_text
from minrnn.data._ngram import predictions

SMOOTHINGS = ["witten-bell", "kneser-ney"]
SHAKESPEARE = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
PYTHON_DOCS_3_11_7 = "2a95af4ac93f"


def grams(text, order):
    return [text[i : i + order] for i in range(len(text) - order + 1)]


def discount(counts, count):
    n1, n2, n3, n4 = (sum(value == times for value in counts.values()) for times in (1, 2, 3, 4))
    if count == 0:
        return 0
    if not (n1 and n2 and n3 and n4):
        return 0.5
    y = n1 / (n1 + 2 * n2)
    estimates = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return estimates[min(count, 3) - 1] if min(estimates) > 0 else 0.5


def definition(train, history, character, alphabet, order, smoothing, top=True):
    """The recursion of the docstring, word by word."""
    if order == 0:
        return 1 / alphabet
    lower = definition(train, history, character, alphabet, order - 1, smoothing, top=False)
    history = history[len(history) - order + 1 :]
    counts = Counter(grams(train, order))
    if smoothing == "kneser-ney" and not top:
        counts = Counter(gram[1:] for gram in set(grams(train, order + 1)))
    following = {gram: count for gram, count in counts.items() if gram[:-1] == history}
    count, total = counts[history + character], sum(following.values())
    if total == 0:
        return lower
    if smoothing == "witten-bell":
        return (count + len(following) * lower) / (total + len(following))
    spread = sum(discount(counts, value) for value in following.values())
    return (count - discount(counts, count) + spread * lower) / total


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@given(text=st.text("abc\u4e2d\U0001f642", min_size=8, max_size=60), cut=st.floats(0.5, 0.9))
@settings(max_examples=50, deadline=None)
def test_equals_the_definition(smoothing, text, cut):
    cut = int(cut * len(text))
    train, held_out = text[:cut], text[cut:]
    highest = min(4, len(train))
    for order, found in enumerate(predictions(train, held_out, highest, smoothing), start=1):
        expected = [
            definition(train, text[:i], text[i], len(set(text)), order, smoothing) for i in range(cut, len(text))
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("history", ["", "exp", "zzz", "the "])
def test_probabilities_of_all_characters_sum_to_one(smoothing, history):
    train = load_text().train[:20_000]
    alphabet = sorted(set(train))
    assert set(history) <= set(alphabet)
    each = [list(predictions(train, history + character, 6, smoothing)) for character in alphabet]
    for order in range(6):
        assert sum(found[order][-1] for found in each) == pytest.approx(1, abs=1e-12)


def test_a_text_in_circles_is_predicted_from_before_the_cut():
    order, bits = best_ngram("abc" * 1000, "abcabc")
    assert order >= 2 and bits < 0.01


def test_characters_that_training_lacks_cost_a_finite_number_of_bits():
    order, bits = best_ngram("ab" * 100, "xyz", orders=[3])
    assert order == 3 and 2 < bits < math.inf


def test_a_large_alphabet_does_not_overflow():
    text = "".join(map(chr, range(0x4E00, 0x9E00))) * 2
    assert best_ngram(text, text[:100], orders=[2, 6])[1] < 2


def test_only_the_orders_asked_for():
    text = load_text()
    train, held_out = text.train[:50_000], text.held_out[:1000]
    assert best_ngram(train, held_out, orders=[2])[0] == 2
    assert best_ngram(train, held_out)[1] <= best_ngram(train, held_out, orders=[1, 2, 3])[1]


@pytest.mark.parametrize(
    ("train", "held_out", "orders", "message"),
    [
        ("", "a", [1], "train is empty"),
        ("a", "", [1], "held_out is empty"),
        ("a", "a", [], "orders"),
        ("a", "a", [0], "orders"),
        ("ab", "a", [3], "orders"),
    ],
)
def test_what_cannot_be_counted_is_refused(train, held_out, orders, message):
    with pytest.raises(ValueError, match=message):
        best_ngram(train, held_out, orders)


@pytest.mark.parametrize(("smoothing", "expected"), [("witten-bell", (5, 1.9045)), ("kneser-ney", (6, 1.6724))])
def test_python_docs(smoothing, expected):
    text = load_text("python-docs")
    if hashlib.sha256(text.text.encode()).hexdigest()[:12] != PYTHON_DOCS_3_11_7:
        pytest.skip("the figure is for the documentation of CPython 3.11.7")
    order, bits = best_ngram(text.train, text.held_out, smoothing=smoothing)
    assert (order, round(bits, 4)) == expected


@pytest.mark.parametrize(("smoothing", "expected"), [("witten-bell", (5, 2.4076)), ("kneser-ney", (6, 2.1966))])
def test_shakespeare(smoothing, expected):
    if not SHAKESPEARE.is_file():
        pytest.skip("shared/data/tinyshakespeare.txt is not beside this repository")
    text = load_text(str(SHAKESPEARE))
    order, bits = best_ngram(text.train, text.held_out, smoothing=smoothing)
    assert (order, round(bits, 4)) == expected
