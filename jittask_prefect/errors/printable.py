"""Texts of users on their way to people: what a terminal, a CSV file or a spreadsheet would obey is written out."""

from __future__ import annotations

import re
from typing import Any

# C0 without tab and line feed, DEL and C1; the ends of lines and the marks of direction that only Unicode has;
# halves of surrogate pairs, which UTF-8 cannot hold.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)
_HALVES = re.compile(r"[\ud800-\udfff]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def escape_controls(text: str) -> str:
    """A text without what a terminal obeys: `\\x1b` and its like stand as Python writes them; lines and tabs stay."""
    return _OBEYED.sub(lambda found: repr(found[0])[1:-1], text)


def escape_controls_json(text: str) -> str:
    """The same for JSON, which stays the same JSON: `\\u009b`, and not `\\x9b`."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def has_controls(text: str) -> bool:
    """Whether a text holds control characters other than tabs and ends of lines, or half a surrogate pair."""
    return _CONTROLS.search(text) is not None


def has_surrogates(text: str) -> bool:
    """Whether a text holds half a surrogate pair, which neither UTF-8 nor any database takes."""
    return _HALVES.search(text) is not None


def csv_cell(value: Any) -> Any:
    """A value as a cell of a CSV file: a text that a spreadsheet would compute begins with an apostrophe.

    Numbers, and texts that are plain numbers, stay what they are.
    Source: OWASP, CSV injection.
    """
    if not isinstance(value, str):
        return value
    text = escape_controls(value)
    return (
        f"'{text}"
        if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
        else text
    )
