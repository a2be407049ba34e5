"""The golden cases of `tests/golden/`, and the dates in them."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "golden"


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file of the folder, by its name without the ending."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())[
        "cases"
    ]
    return found


def row_date(text: str | None) -> date | None:
    """A date, a wall time, or an instant."""
    if text is None:
        return None
    return (date if len(text) == 10 else datetime).fromisoformat(text)
