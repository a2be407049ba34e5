"""The app of the campaign: rows that write once, rows that wait, a schedule of every minute, and timer tasks."""

from __future__ import annotations

from typing import Any

WRITES, WAITS, MINUTE, TIMER = (
    "tasks.FaultWrites",
    "tasks.FaultWaits",
    "tasks.FaultMinute",
    "tasks.FaultTimer",
)
RETRIES = 30
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class FaultRow(SQLModel, table=True):
    id: int = Field(primary_key=True)
    kind: str
    at: NaiveDatetime | None = None
    done: int = 0
"""
TABLE = """
CREATE TABLE IF NOT EXISTS fault_effect (
    seq BIGSERIAL PRIMARY KEY, task_id VARCHAR(36), template VARCHAR(80), row_id INTEGER, at TIMESTAMP,
    due TIMESTAMPTZ, began TIMESTAMPTZ DEFAULT clock_timestamp()
)
"""
# Each execution leaves a record; a row's record stands in the transaction of the row's task.
TYPE = """
import time
from datetime import UTC
from sqlalchemy import text
from jittask_prefect import {base}

INSERT = text("INSERT INTO fault_effect (task_id, template, row_id, at, due)"
              " VALUES (:task, :template, :row, :at, :due)")

class {name}({base}):
    def handle(self, task):
        row = task.row
        about = {{"task": task.taskId, "template": task.fullName, "row": None, "at": None, "due": task.dueTime.astimezone(UTC)}}
        if row is not None:
            about |= {{"row": row.id, "at": row.at}}
            row.done += 1
        with app.session() as session:
            session.execute(INSERT, about)
            if row is None:
                session.commit()
        if task.fullName == "tasks.FaultWaits":
            time.sleep(0.1)
"""


def elements() -> dict[str, Any]:
    """The app's elements."""
    types = {
        f"tasks/{name}": {
            "e.json": {"type": "tasks.Meta", "title": name},
            "type.py": TYPE.format(name=name, base=base),
        }
        for name, base in (
            ("FaultRowType", "DateFieldType"),
            ("FaultPlainType", "NormalType"),
        )
    }
    return {
        "models/FaultRow": {
            "e.json": {"type": "models.NormalType", "title": "Row"},
            "model.py": MODEL,
        },
        **types,
        "tasks/FaultWrites": _rows("writes", dispatch="batch"),
        "tasks/FaultWaits": _rows("waits", dispatch="row"),
        "tasks/FaultMinute": _scheduled("minute", retries=0),
        "tasks/FaultTimer": _scheduled("year", retries=RETRIES),
    }


def _rows(kind: str, **keys: Any) -> dict[str, Any]:
    about = {
        "type": "tasks.FaultRowType",
        "title": kind,
        "modelPath": "models.FaultRow",
        "filter": f"Q(kind='{kind}')",
        "timerCfg": {"startField": "at"},
        "retries": RETRIES,
        "retryDelay": 1,
        **keys,
    }
    return {"e.json": about, "inner.py": "def customFunc(row):\n    pass\n"}


def _scheduled(repeat: str, retries: int) -> dict[str, Any]:
    about = {
        "type": "tasks.FaultPlainType",
        "title": repeat,
        "retries": retries,
        "missed": {"policy": "all"},
        "timerCfg": {
            "startTime": "2001-01-01 00:00:00",
            "repeat": {"repeatType": repeat},
        },
    }
    return {"e.json": about, "inner.py": "def customFunc():\n    pass\n"}
