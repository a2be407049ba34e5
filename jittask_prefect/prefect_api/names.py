"""Names and tags of deployments and flow runs, in a form that Prefect takes."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from functools import lru_cache
from hashlib import sha256
from unicodedata import bidirectional

from jittask_prefect.errors.printable import ISOLATES, JOINERS

LONGEST = 120
"""Characters of a name."""
LONGEST_RUN = 200
"""Characters of a run's name without its due time: a title, a label, a model and a key, each with a limit of its own."""
_REFUSED = "/%&<>"
LONGEST_TAG = 400
"""Characters of a tag: the longest names of an app and a model, and a row's key."""


def app_tag(app_name: str) -> str:
    """The tag that every deployment of an app carries."""
    return f"app:{app_name}"


def of_app(app_name: str, name: str) -> str:
    """The name of an app's flow, or the tag of an app's element: `shop.tasks.NormalType`.

    A server may hold several apps with elements of equal names.

    Args:
        app_name: The app's name, which has no dot.
        name: The element's full name, or that of the sync or a dialog.
    """
    return f"{app_name}.{name}"


def task_queue(app_name: str) -> str:
    """The work queue of an app's tasks, where nobody has chosen another queue."""
    return app_name


def first_queue(app_name: str) -> str:
    """The work queue of an app's sync and dialogs, whose short runs come before all overdue tasks."""
    return of_app(app_name, "first")


def queues_of(app_name: str) -> tuple[str, str]:
    """The work queues of an app, that of its short runs first."""
    return first_queue(app_name), task_queue(app_name)


@lru_cache(maxsize=4096)
def slug(text: str) -> str:
    """A text of `a-z`, `0-9` and single `-`, as Prefect demands of an artifact's key; two texts may share a slug."""
    return re.sub("[^a-z0-9]+", "-", text.lower())


def app_slug(app_name: str) -> str:
    """An app's name in artifacts' keys and in the name of a variable; no two apps share one."""
    plain = slug(app_name)
    if plain == app_name:
        return plain
    return f"{plain}-{sha256(app_name.encode()).hexdigest()[:6]}"


def prefect_name(text: str, longest: int = LONGEST) -> str:
    """A text as Prefect takes names and tags: one line without `/ % & < >`, placeholders and marks that a reader obeys.

    Source: `prefect/_internal/schemas` refuses these characters and resolves `{{ … }}` and `__prefect_kind`.

    Args:
        text: Any text.
        longest: The length at which the text is cut, in characters.
    """
    text = re.sub(r"\{(?=\{)|\}(?=\})", r"\g<0> ", text)
    text = text.replace("__prefect_kind", "_ _prefect_kind")
    return "".join(map(_allowed, text))[:longest]


def _allowed(character: str) -> str:
    """A character of a name: a blank for any other blank, `_` for what a name cannot have."""
    if character in _REFUSED or ord(character) < 32:
        return "_"
    if character.isprintable() or character in JOINERS + ISOLATES:
        return character
    return " " if character.isspace() else "_"


def isolated(text: str) -> str:
    """A text whose direction of writing does not reorder the text around it, as Arabic before a date would.

    Source: Unicode Standard Annex 9, first strong isolates.
    """
    right_to_left = any(bidirectional(c) in ("R", "AL", "AN") for c in text)
    return f"\u2068{text}\u2069" if right_to_left else text


def timed_name(text: str, due: datetime, zone: tzinfo | None) -> str:
    """The name of a flow run: a text and its due time, e.g. `Contract 42 · 2026-12-01 09:00`.

    Args:
        text: The title, the row or both that the run is about.
        due: The due time, aware.
        zone: The task's zone; None for the machine's.
    """
    return f"{prefect_name(text, LONGEST_RUN)} · {due.astimezone(zone):%Y-%m-%d %H:%M}"
