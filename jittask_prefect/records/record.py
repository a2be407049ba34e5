"""A record: a task as people see it, from the ledger, from Prefect, or from a row's dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.prefect_api import links
from jittask_prefect.rows.opening import timer_of_task
from jittask_prefect.rows.row_labels import row_labels

FIELDS = (
    "taskId",
    "fullName",
    "title",
    "status",
    "dueTime",
    "startTime",
    "endTime",
    "duration",
    "lateness",
    "row",
    "result",
    "message",
    "url",
)
"""The fields of `getTaskRecords`, in the order of the CSV's columns."""
PENDING_FIELDS = (
    "fullName",
    "row",
    "taskId",
    "status",
    "dueTime",
    "nominal",
    "movedBy",
    "inLedger",
)
"""The fields of `jittask pending --json`."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A task, or an occurrence that does not take place.

    Attributes:
        template: The template's full name.
        due: The due time, in the task's zone; None where the occurrence does not take place.
        as_of: The instant at which the record was read.
        state: The status in the ledger; `none` where the occurrence does not take place.
        title: The template's title.
        row: The row's key; None for a scheduled task.
        label: The text that names the row for people; empty where the model states none.
        task_id: None for an occurrence of a schedule until Prefect has made its flow run.
        nominal: The occurrence before the holiday move.
        moved: Why the due day is not the nominal day, as far as the calendar says so.
        level: The name of the due time, where the template has several for a row.
        notes: Further explanations, as sentences.
        started: The start of the execution.
        finished: The end of the execution.
        result: The value that the function returned.
        message: The reason of a failure or an end.
        outcome: How the task ended, in the ledger's words.
        generation: The count of the row's tasks of this nominal time.
        flow_run_id: The flow run that executes the task.
        ledger_due: The due time that the ledger holds; None where the ledger has no entry.
        opening: The opening that a late task waits for, or waited for: it is late from then on.
    """

    template: str
    due: datetime | None
    as_of: datetime
    state: str = "pending"
    title: str = ""
    row: str | None = None
    label: str = ""
    task_id: str | None = None
    nominal: datetime | None = None
    moved: str | None = None
    level: str | None = None
    notes: tuple[str, ...] = ()
    started: datetime | None = None
    finished: datetime | None = None
    result: Any = None
    message: str = ""
    outcome: str | None = None
    generation: int | None = None
    flow_run_id: str | None = None
    ledger_due: datetime | None = None
    opening: datetime | None = None

    @property
    def late_from(self) -> datetime | None:
        """The instant after which the task is late: its due time, or the opening for which the task waits or waited."""
        return self.opening or self.due

    @property
    def status(self) -> str:
        """The status for people: a pending task is overdue after its due time, or after the opening for which the task waits."""
        late = self.late_from is not None and self.late_from < self.as_of
        return "overdue" if late and self.state == "pending" else self.state

    @property
    def row_text(self) -> str:
        """The row for people: `Wang Fang (42)`, or its key alone, and the level; empty for a scheduled task."""
        return ", ".join(
            filter(None, (named_row(self.row or "", self.label), self.level))
        )

    def as_dict(
        self, fields: Sequence[str] = FIELDS, ui_url: str = ""
    ) -> dict[str, Any]:
        """The named fields as JSON values, `label` where the row has one, and `level` where the task has one.

        Args:
            fields: Names of fields, in the order of the answer.
            ui_url: The address of Prefect's UI, for `url`.
        """
        shown = self.due or self.nominal or self.as_of
        end = self.finished or (self.as_of if self.state == "executing" else None)
        begin = self.started or (self.as_of if self.status == "overdue" else None)

        def iso(at: datetime | None) -> str | None:
            return at.astimezone(shown.tzinfo).isoformat() if at else None

        values = {
            "taskId": self.task_id,
            "fullName": self.template,
            "title": self.title,
            "status": self.status,
            "dueTime": iso(self.due),
            "nominal": iso(self.nominal),
            "movedBy": self.moved,
            "startTime": iso(self.started),
            "endTime": iso(self.finished),
            "duration": _seconds(self.started, end),
            "lateness": _seconds(self.late_from, begin),
            "row": self.row,
            "result": self.result,
            "message": self.message,
            "url": run_url(ui_url, self.flow_run_id),
            "inLedger": self.ledger_due is not None,
            "outcome": self.outcome,
            "generation": self.generation,
            "flowRun": self.flow_run_id,
            "why": list(self.notes),
        }
        named = {"label": self.label} if self.label else {}
        named |= {"level": self.level} if self.level else {}
        return {name: values[name] for name in fields} | named


def of_entry(app: App, entry: Entry, now: datetime) -> Record:
    """The record of a ledger entry.

    Args:
        app: The app.
        entry: The entry.
        now: The present instant.
    """
    template = find_template(app, entry.template)
    zone = template.zone_of(entry.zone_value) if template else ZoneInfo(app.timezone)
    return Record(
        template=entry.template,
        title=template.title if template else entry.template,
        due=entry.due.astimezone(zone),
        as_of=now,
        state=entry.status,
        row=entry.row_key or None,
        task_id=entry.known_id,
        nominal=entry.nominal.astimezone(zone) if entry.nominal else None,
        moved=_mover(template, entry) if template else None,
        started=entry.started,
        finished=entry.finished,
        result=entry.returned_value,
        message=_message(template, entry),
        outcome=entry.outcome,
        generation=entry.generation,
        flow_run_id=entry.flow_run_id,
        ledger_due=entry.due,
        level=entry.level,
        opening=entry.not_before,
    )


def of_occurrence(
    template: Meta,
    now: datetime,
    due: datetime | None,
    nominal: datetime,
    moved: str | None,
    **more: Any,
) -> Record:
    """The record of an occurrence to come.

    Args:
        template: The template.
        now: The present instant.
        due: The due time; None where the occurrence does not take place.
        nominal: The occurrence before the holiday move.
        moved: The reason of the move.
        more: Further fields of the record.
    """
    return Record(
        template=template.fullName,
        title=template.title,
        due=due,
        as_of=now,
        nominal=nominal,
        moved=moved,
        **more,
    )


def named_row(key: str, label: str) -> str:
    """A row for people: `Wang Fang (42)`, or its key alone."""
    return f"{label} ({key})" if label else key


def labelled(app: App, found: Sequence[Record]) -> list[Record]:
    """The same records with the labels of their rows."""
    rows = [(record.template, record.row or "") for record in found]
    labels = row_labels(app, rows)
    if not labels:
        return list(found)
    return [
        replace(record, label=labels.get(row, ""))
        for record, row in zip(found, rows, strict=True)
    ]


def find_template(app: App, name: str) -> Meta | None:
    """The template of that name; None where the app has none that loads."""
    try:
        return app.template(name)
    except JittaskError:
        return None


def run_url(ui_url: str, run_id: str | None) -> str | None:
    """The address of a flow run in Prefect's UI."""
    return links.run(run_id, links.base(ui_url)) if run_id else None


def _mover(template: Meta, entry: Entry) -> str | None:
    """The reason for a due time other than the nominal time, by today's calendar."""
    timer = timer_of_task(template, entry)
    moving = timer.moves.active or timer.windows.active
    if entry.nominal is None or entry.nominal == entry.due or not moving:
        return None
    return timer.moved_by(entry.nominal)


def _message(template: Meta | None, entry: Entry) -> str:
    """The message of a task, with the reason why the row's own zone or calendar did not count."""
    parts = [entry.message]
    if isinstance(template, DateFieldType) and not entry.outside_schedule:
        parts += template.own_notes(entry.zone_value, entry.calendar_value)
    return "; ".join(filter(None, parts))


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return round(max(0.0, (end - start).total_seconds()), 3)
