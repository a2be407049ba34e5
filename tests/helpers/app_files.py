"""The plain elements that the tests of this folder start from, and break."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from jittask_prefect import App
from jittask_prefect.errors import Problem

APP = {
    "name": "test",
    "timezone": "Asia/Shanghai",
    "database": "sqlite:///test.db",
    "calendar": "CN",
}
DAILY: dict[str, Any] = {
    "type": "tasks.NormalType",
    "title": "Daily",
    "timerCfg": {"startTime": "2026-01-05 09:00:00", "repeat": {"repeatType": "day"}},
}
REMIND: dict[str, Any] = {
    "type": "tasks.DateFieldType",
    "title": "Remind",
    "modelPath": "models.Contract",
    "timerCfg": {"startField": "endDate", "repeat": {"repeatType": "normal"}},
}
MODEL = """
from datetime import date, datetime

from sqlmodel import Field, SQLModel


class Contract(SQLModel, table=True):
    __tablename__ = "contract"

    id: int | None = Field(default=None, primary_key=True)
    customer: str = ""
    status: str = "active"
    endDate: date | None = None
    closedAt: datetime | None = None
    reminders: int = 0
"""
SERVICE = """
from jittask_prefect import NormalService


class NoticeSvc(NormalService):
    def send(self):
        return "sent"

    def remind(self, rowData):
        rowData.reminders += 1

    def both(self, a, b):
        return a
"""
PLAIN: dict[str, Any] = {
    "app.json": APP,
    "models/Contract/e.json": {"type": "models.NormalType", "title": "Contract"},
    "models/Contract/model.py": MODEL,
    "services/NoticeSvc/e.json": {"type": "services.NormalType", "title": "Notices"},
    "services/NoticeSvc/service.py": SERVICE,
    "tasks/Daily/e.json": DAILY,
    "tasks/Daily/inner.py": "def customFunc():\n    return 1\n",
    "tasks/Remind/e.json": REMIND,
    "tasks/Remind/inner.py": "def customFunc(rowData):\n    rowData.reminders += 1\n",
}


def write(folder: Path, **changed: Any) -> App:
    """The plain app with some files changed (None: left out), loaded; file names as keywords need `**{…}`."""
    return write_files(folder, PLAIN | changed)


def write_files(folder: Path, files: dict[str, Any]) -> App:
    """An app of exactly these files."""
    for name, content in files.items():
        if content is None:
            continue
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(
                content if isinstance(content, str) else json.dumps(content),
                encoding="utf-8",
            )
    return App(folder)


def patched(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A copy with dotted keys set; `...` as the value takes the key away."""
    copy = deepcopy(base)
    for path, value in patch.items():
        *parents, last = path.split(".")
        holder = copy
        for name in parents:
            holder = holder.setdefault(name, {})
        if value is ...:
            del holder[last]
        else:
            holder[last] = value
    return copy


def only(problems: list[Problem]) -> Problem:
    """The one problem that there is."""
    assert len(problems) == 1, "\n".join(map(str, problems))
    return problems[0]
