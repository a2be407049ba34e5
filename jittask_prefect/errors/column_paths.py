"""Paths of columns as users write them: relationships, then a column, joined by two underscores."""

from __future__ import annotations

MAX_NAMES = 8
"""Names of a path: relationships, and the column at the end."""
PATH = "a column's name, or relationship__column, no part beginning with _"


def read_path(text: str) -> list[str]:
    """The names of a path's relationships, then its column's: `customer__owner_id` → customer, owner_id.

    Raises:
        ValueError: The text is no path.
    """
    return checked_path(text.split("__"))


def checked_path(names: list[str]) -> list[str]:
    """The names of a path, as they are.

    Raises:
        ValueError: A name is no public attribute's, or there are too many names.
    """
    public = all(name.isidentifier() and not name.startswith("_") for name in names)
    if not public or len(names) > MAX_NAMES:
        raise ValueError(PATH)
    return names
