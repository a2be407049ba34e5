"""Names and tags of deployments and flow runs, in a form that Prefect takes."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo

LONGEST = 120
"""Characters of a name or tag."""


def app_tag(app_name: str) -> str:
    """The tag that every deployment of an app carries."""
    return f"app:{app_name}"


def prefect_name(text: str) -> str:
    """A text as Prefect takes names and tags: without `/ % & < >` and placeholders, at most 120 characters.

    Source: `prefect/_internal/schemas` refuses these characters and resolves `{{ … }}` and `__prefect_kind`.
    """
    text = re.sub(r"\{(?=\{)|\}(?=\})", r"\g<0> ", text)
    text = text.replace("__prefect_kind", "_ _prefect_kind")
    allowed = ("_" if c in "/%&<>" or ord(c) < 32 else c for c in text)
    return "".join(allowed)[:LONGEST]


def timed_name(text: str, due: datetime, zone: tzinfo | None) -> str:
    """The name of a flow run: a text and its due time, e.g. `Contract 42 · 2026-12-01 09:00`.

    Args:
        text: The row or the title that the run is about.
        due: The due time, aware.
        zone: The task's zone; None for the machine's.
    """
    return f"{prefect_name(text)} · {due.astimezone(zone):%Y-%m-%d %H:%M}"
