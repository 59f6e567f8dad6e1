"""Patterns: what they mean, and errors that point at the place."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minrnn.models import Stack, parse_pattern

Part = tuple[str, dict[str, object]]
A: Part = ("a", {})
B: Part = ("b", {})


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("a", [A]),
        ("a b", [A, B]),
        ("a*3", [A, A, A]),
        ("a*1 b", [A, B]),
        ("(a*2 b)*2", [A, A, B, A, A, B]),
        ("((a b)*2 a)*2", [A, B, A, B, A] * 2),
        ("(a)(b)", [A, B]),
        ("  a *2\tb ", [A, A, B]),
        ("a:k=1", [("a", {"k": 1})]),
        ("a:k=1.5,m=word,n=true,o=FALSE,p=none,q=-3", [("a", dict(k=1.5, m="word", n=True, o=False, p=None, q=-3))]),
        ("a:k=2*2 b", [("a", {"k": 2}), ("a", {"k": 2}), B]),
        ("a_2 a", [("a_2", {}), A]),
    ],
)
def test_meaning(pattern: str, parts: list[Part]) -> None:
    assert parse_pattern(pattern) == parts


@pytest.mark.parametrize(
    ("pattern", "character", "problem"),
    [
        ("", 1, 'expected at least one mixer, such as "mingru*6"'),
        ("   ", 1, "expected at least one mixer"),
        ("*3", 1, "expected a mixer's name or ) before *N"),
        ("a*2*3", 4, "expected a mixer's name or ) before *N"),
        ("a*0", 2, "expected a number of 1 or more after *"),
        ("a*", 2, "expected a mixer's name, *N, ( or )"),
        ("a*-1", 2, "expected a mixer's name, *N, ( or )"),
        ("a*2.5", 4, "expected a mixer's name, *N, ( or )"),
        ("a MinGRU", 3, "expected a mixer's name, *N, ( or )"),
        ("a, b", 2, "expected a mixer's name, *N, ( or )"),
        ("a b)", 4, "this ) closes nothing"),
        ("(a (b)", 1, "this ( is not closed"),
        ("a ()", 4, "expected a mixer's name between ( and )"),
        ("a:", 2, "expected a mixer's name, *N, ( or )"),
        ("a:k", 3, "expected key=value, got 'k'"),
        ("a:k=1,m", 7, "expected key=value, got 'm'"),
        ("a:k=1,,m=2", 7, "expected key=value, got ''"),
        ("a:k=1,k=2", 7, "option 'k' is given twice"),
        ("a*1000000000000", 2, "expected at most 10000 blocks in all"),
        ("((a*9000)*9000)*9000", 10, "expected at most 10000 blocks in all"),
    ],
)
def test_errors_point_at_the_character(pattern: str, character: int, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"pattern {pattern!r}, character {character}: {problem}")) as raised:
        parse_pattern(pattern)
    assert "\n" not in str(raised.value)


def test_depth_of_parentheses_is_no_matter() -> None:
    assert parse_pattern("(" * 5000 + "a" + ")" * 5000) == [A]


@given(st.text(alphabet="ab(): *=,13.", max_size=20))
def test_any_text_gives_parts_or_a_value_error(pattern: str) -> None:
    try:
        assert parse_pattern(pattern)
    except ValueError as error:
        assert str(error).startswith(f"pattern {pattern!r}, character ")


def test_none_in_a_pattern_leaves_attention_without_positions() -> None:
    (block,) = Stack(8, "attention:positions=none").blocks
    assert block.mixer.positions is None  # type: ignore[union-attr]
