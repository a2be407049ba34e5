"""The acts of a submitted form beyond the app's files: handed in by the flows, since later rooms have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from jittask_prefect.dialogs.fields import Json
from jittask_prefect.elements.types import DateFieldType, Meta


@dataclass(frozen=True)
class UpcomingRow:
    """A row's next task, in a preview.

    Attributes:
        due: The due time; aware, in the task's zone.
        row: The row's key.
        moved: Why a holiday has moved the task; empty where none has.
    """

    due: datetime
    row: str
    moved: str = ""


class BegunRow(Protocol):
    """A task that a form has made for a row."""

    @property
    def row(self) -> str:
        """The row's key."""

    @property
    def run_id(self) -> str:
        """Its flow run."""

    @property
    def url(self) -> str:
        """The page of its flow run."""

    @property
    def before(self) -> bool:
        """Whether such a task was there, so that no other was made."""


@dataclass(frozen=True)
class Actions:
    """The actions of forms on ledger, Prefect and rows. Each raises JittaskError where it fails.

    Attributes:
        deploy: Bring the deployment of a task (full name, present instant) to its files.
        end: End a task by its id, or a flow run's; the answer of `forcedEnd`.
        run_row: Make a task of a date-field template for a row, now, beside its occurrences (full name, row key,
            present instant).
        start: Make a task of a template outside its schedule (template, due, function name, arguments);
            the answer of `createTimerTask`, with `before` where such a task was open, so that no other was made.
        retry: Have failed tasks run again (full name or None for all, first instant or None); what happens, in words.
        upcoming_rows: The first tasks of a date-field template between two instants, at most so many.
    """

    deploy: Callable[[str, datetime], None]
    end: Callable[[str], Json]
    run_row: Callable[[str, str | None, datetime], BegunRow]
    start: Callable[[Meta, datetime, str, Json], Json]
    retry: Callable[[str | None, datetime | None], str]
    upcoming_rows: Callable[
        [DateFieldType, datetime, datetime, int], Sequence[UpcomingRow]
    ]
