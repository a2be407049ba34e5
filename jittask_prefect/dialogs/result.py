"""The effect of a submitted form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Result:
    """The effect of a form.

    Attributes:
        message: A sentence for the run's state.
        page: The page in Markdown; empty where there is nothing to show.
        name: The task's full name, for the page's key.
        failed: Whether a part is left to do, as the message says.
        links: The addresses that the run's log leads to, by their texts.
        notes: Sentences for the run's log, after the message.
    """

    message: str
    page: str = ""
    name: str = ""
    failed: bool = False
    links: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
