"""Texts of users on their way to people: characters that a terminal, a CSV file or a spreadsheet obeys are escaped."""

from __future__ import annotations

import re
from typing import Any

_SURROGATES = r"\ud800-\udfff"
"""Halves of surrogate pairs, which UTF-8 cannot hold."""
_DIRECTIONS = r"\u202a-\u202e\u2066-\u2069"
"""Unicode's marks of direction."""
JOINERS = "\u200c\u200d"
"""Marks between letters, of Persian words and of emoji of several people: without them a text reads otherwise."""
ISOLATES = "\u2068\u2069"
"""Marks around a text whose direction of writing must not reorder the text beside."""
# C0 without tab and line feed, DEL and C1; the ends of lines that only Unicode has.
_OBEYED = re.compile(
    rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}{_SURROGATES}]"
)
_CONTROLS = re.compile(
    rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029{_SURROGATES}]"
)
_HALVES = re.compile(f"[{_SURROGATES}]")
_ADDRESS = re.compile(r"( object)? at 0x[0-9A-Fa-f]+")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def escape_controls(text: str) -> str:
    """A text with control characters as Python writes them, `\\x1b`; lines and tabs stay."""
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


def without_addresses(text: str) -> str:
    """A text that Python made of objects, without their places in memory: `<function f>`."""
    return _ADDRESS.sub("", text)


def csv_cell(value: Any) -> Any:
    """A value as a cell of a CSV file: a text that a spreadsheet would compute begins with an apostrophe.

    Numbers, and texts that are plain numbers, stay as they are.
    Source: OWASP, CSV injection.
    """
    if not isinstance(value, str):
        return value
    text = escape_controls(value)
    formula = value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
    return f"'{text}" if formula else text
