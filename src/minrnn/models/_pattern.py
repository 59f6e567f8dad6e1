"""Stacks as text: `"mingru*6"`, `"(mingru*3 minlstm)*2"`, `"mingru:expansion=2,activation=tanh"`."""

from __future__ import annotations

import re
from typing import Any

Part = tuple[str, dict[str, Any]]

MOST = 10_000  # blocks; more is a slip of the keyboard, and would fill the memory before anything fails

_TOKEN = re.compile(r"\s*(?:(?P<name>[a-z_][a-z_0-9]*)(?::(?P<options>[^\s()*]+))?|(?P<times>\*\s*\d+)|(?P<mark>[()]))")
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}


def parse_pattern(pattern: str) -> list[Part]:
    """The mixers of a stack from bottom to top, as (name, options).

    A pattern is a row of names separated by spaces; `*N` repeats the name or the parentheses before it;
    `:key=value,key=value` gives a name options, whose values are numbers, true, false, none or words.

    Raises:
        ValueError: the pattern cannot be read; the message points at the place.

    Example:
        >>> parse_pattern("(mingru*2 minlstm:expansion=2)*1")
        [('mingru', {}), ('mingru', {}), ('minlstm', {'expansion': 2})]
    """
    groups: list[list[Part]] = [[]]  # open parentheses, the outermost first
    opened: list[int] = []
    newest: list[Part] = []  # what a following *N repeats
    repeatable = False
    at = 0
    while at < len(pattern.rstrip()):
        match = _TOKEN.match(pattern, at)
        if match is None:
            at += len(pattern[at:]) - len(pattern[at:].lstrip())
            raise _error(pattern, at, "expected a mixer's name, *N, ( or )")
        start, at = match.end() - len(match.group().lstrip()), match.end()
        if match["name"]:
            newest = [(match["name"], _options(pattern, match.start("options"), match["options"]))]
            groups[-1] += newest
            repeatable = True
        elif match["times"]:
            if not repeatable:
                raise _error(pattern, start, "expected a mixer's name or ) before *N")
            times = int(match["times"][1:])
            if times < 1:
                raise _error(pattern, start, "expected a number of 1 or more after *")
            if len(groups[-1]) + len(newest) * (times - 1) > MOST:
                raise _error(pattern, start, f"expected at most {MOST} blocks in all")
            groups[-1] += newest * (times - 1)
            repeatable = False
        elif match["mark"] == "(":
            groups.append([])
            opened.append(start)
            repeatable = False
        else:
            if not opened:
                raise _error(pattern, start, "this ) closes nothing")
            if not groups[-1]:
                raise _error(pattern, start, "expected a mixer's name between ( and )")
            opened.pop()
            newest = groups.pop()
            groups[-1] += newest
            repeatable = True
    if opened:
        raise _error(pattern, opened[-1], "this ( is not closed")
    if not groups[0]:
        raise _error(pattern, 0, 'expected at least one mixer, such as "mingru*6"')
    return groups[0]


def _options(pattern: str, at: int, text: str | None) -> dict[str, Any]:
    options = {}
    for option in text.split(",") if text else ():
        key, equals, value = option.partition("=")
        if not (key and equals and value):
            raise _error(pattern, at, f"expected key=value, got {option!r}")
        if key in options:
            raise _error(pattern, at, f"option {key!r} is given twice")
        options[key] = _value(value)
        at += len(option) + 1
    return options


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return _WORDS.get(text.lower(), text)


def _error(pattern: str, at: int, problem: str) -> ValueError:
    return ValueError(f"pattern {pattern!r}, character {at + 1}: {problem}")
