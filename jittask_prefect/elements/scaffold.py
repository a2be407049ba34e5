"""New apps and new tasks: folders that work at once, and names made from titles in any language."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from anyascii import anyascii
from sqlalchemy import inspect as sa_inspect

from jittask_prefect.elements.app import App
from jittask_prefect.elements.config import machine_zone, safe_text
from jittask_prefect.errors import ArgumentError, ConfigError, Problem
from jittask_prefect.filters.columns import ColumnKind, column, columns

RESERVED = (
    "Meta",
    "NormalType",
    "DateFieldType",
)  # names of Types, which a task would stand in front of
SCHEDULED = 'def customFunc():\n    log.info("it is time")\n    return "done"\n'
OF_ROWS = (
    'def customFunc(rowData):\n    log.info("due: %s", rowData)\n    return "done"\n'
)


def english_name(title: str, taken: Collection[str] = ()) -> str:
    """An element name for a title in any language, e.g. 合同到期提醒 → HeTongDaoQiTiXing.

    Args:
        title: The title.
        taken: Names that are in use; a number is added to one of them. Compared without case, as some file systems do.
    """
    words = re.findall(
        r"[A-Za-z0-9]+",
        "".join(anyascii(c) if ord(c) > 127 else c for c in title.replace("'", "")),
    )
    name = "".join(word[:1].upper() + word[1:] for word in words)[:60] or "Task"
    if name[0].isdigit():
        name = f"Task{name}"[:60]
    used = {t.casefold() for t in taken}
    number = 2
    found = name
    while found.casefold() in used:
        found, number = f"{name}{number}", number + 1
    return found


def new_scheduled(app: App, title: str, now: datetime) -> Path:
    """Make the folder of a scheduled task: daily at nine, from tomorrow on.

    Args:
        app: The app.
        title: The display name.
        now: The present instant.
    """
    start = (now.astimezone(app.zone) + timedelta(days=1)).strftime("%Y-%m-%d 09:00:00")
    config = {
        "type": "tasks.NormalType",
        "title": title,
        "timerCfg": {
            "startTime": start,
            "repeat": {"repeatType": "day", "period": 1},
            "skipHoliday": 0,
        },
    }
    return _write(app, title, config, SCHEDULED)


def new_date_field(
    app: App, title: str, model: str | None = None, field: str | None = None
) -> Path:
    """Make the folder of a date-field task: on the day, at nine.

    Args:
        app: The app.
        title: The display name.
        model: The model's full name; absent, the first one that has a date.
        field: The date field; absent, the model's first one.

    Raises:
        ArgumentError: There is no such model or field.
    """
    dates = {name: date_fields(cls) for name, cls in app.models().items()}
    usable = {name: fields for name, fields in dates.items() if fields}
    if model is None:
        if not usable:
            raise ArgumentError(
                "a date-field task needs a model with a date or datetime column; this app has none"
            )
        model = sorted(usable)[0]
    if model not in usable:
        raise ArgumentError(
            f"model {model!r}; allowed: {', '.join(sorted(usable)) or 'none has a date column'}"
        )
    field = field or usable[model][0]
    if field not in usable[model]:
        raise ArgumentError(f"field {field!r}; allowed: {', '.join(usable[model])}")
    config = {
        "type": "tasks.DateFieldType",
        "title": title,
        "modelPath": model,
        "filter": "",
        "timerCfg": {
            "startField": field,
            "startOffset": {"offsetType": 0, "time": "09:00"},
            "endTimeType": 0,
            "repeat": {"repeatType": "normal"},
            "skipHoliday": 0,
        },
    }
    return _write(app, title, config, OF_ROWS)


def date_fields(model: Any) -> list[str]:
    """The names of a model's date and datetime columns."""
    return [
        name
        for name in columns(sa_inspect(model))
        if column(model, name).kind in (ColumnKind.DATE, ColumnKind.DATETIME)
    ]


def _write(app: App, title: str, config: dict[str, Any], code: str) -> Path:
    try:
        safe_text(title)
    except ValueError as error:
        raise ConfigError(Problem("", "title", title, str(error))) from None
    if not title.strip() or len(title) > 200 or any(ord(c) < 32 for c in title):
        raise ConfigError(
            Problem("", "title", repr(title), "one line of 1 to 200 characters")
        )
    tasks = app.path / "tasks"
    tasks.mkdir(exist_ok=True)
    folder = tasks / english_name(
        title, [*RESERVED, *(p.name for p in tasks.iterdir())]
    )
    folder.mkdir()
    (folder / "inner.py").write_text(code, encoding="utf-8")
    _json(folder / "e.json", config)
    return folder


def init(folder: Path) -> Path:
    """Make a new app in a folder that is empty or not there yet.

    Raises:
        ArgumentError: The folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(f"{folder} is not empty; `jittask init` makes a new folder")
    for place in (
        "models/Contract",
        "services/NoticeSvc",
        "tasks/ContractReminder",
        "tasks/DailyReport",
    ):
        (folder / place).mkdir(parents=True)
    name = (
        re.sub(r"[^A-Za-z0-9_-]+", "-", anyascii(folder.resolve().name)).strip("-")[:64]
        or "app"
    )
    _json(
        folder / "app.json",
        {
            "name": name,
            "title": folder.resolve().name,
            "timezone": machine_zone(),
            "database": "sqlite:///app.db",
        },
    )
    _json(
        folder / "models/Contract/e.json",
        {"type": "models.NormalType", "title": "Contract"},
    )
    (folder / "models/Contract/model.py").write_text(_MODEL, encoding="utf-8")
    _json(
        folder / "services/NoticeSvc/e.json",
        {"type": "services.NormalType", "title": "Notices"},
    )
    (folder / "services/NoticeSvc/service.py").write_text(_SERVICE, encoding="utf-8")
    _json(folder / "tasks/ContractReminder/e.json", _REMINDER)
    (folder / "tasks/ContractReminder/inner.py").write_text(_REMIND, encoding="utf-8")
    _json(folder / "tasks/DailyReport/e.json", _REPORT)
    (folder / "tasks/DailyReport/inner.py").write_text(_COUNT, encoding="utf-8")
    (folder / ".gitignore").write_text(
        ".jittask/\n__pycache__/\n*.db\n*.db-shm\n*.db-wal\n", encoding="utf-8"
    )
    return folder


def _json(file: Path, content: Any) -> None:
    file.write_text(
        json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )


_MODEL = """from datetime import date

from sqlmodel import Field, SQLModel


class Contract(SQLModel, table=True):
    __tablename__ = "contract"

    id: int | None = Field(default=None, primary_key=True)
    customer: str
    endDate: date = Field(index=True)
    status: str = "active"
    reminders: int = 0
"""
_SERVICE = """from jittask_prefect import NormalService


class NoticeSvc(NormalService):
    def send(self, recipient: str, text: str) -> str:
        log.info("to %s: %s", recipient, text)
        return f"sent to {recipient}"
"""
_REMINDER = {
    "type": "tasks.DateFieldType",
    "title": "Contract reminder",
    "modelPath": "models.Contract",
    "filter": "Q('status', '=', 'active')",
    "timerCfg": {
        "startField": "endDate",
        "startOffset": {
            "offsetType": -1,
            "offset": 7,
            "offsetUnit": "day",
            "time": "09:00",
        },
        "repeat": {"repeatType": "normal"},
    },
}
_REMIND = """def customFunc(rowData):
    rowData.reminders += 1
    notices = app.getElement("services.NoticeSvc")
    return notices.send(rowData.customer, f"Your contract ends on {rowData.endDate}.")
"""
_REPORT = {
    "type": "tasks.NormalType",
    "title": "Daily report",
    "timerCfg": {
        "startTime": "2026-01-01 09:00:00",
        "repeat": {"repeatType": "day", "period": 1},
    },
}
_COUNT = """from sqlmodel import func, select


def customFunc():
    Contract = app.getElement("models.Contract")
    with app.session() as s:
        active = s.exec(select(func.count()).where(Contract.status == "active")).one()
    return {"active contracts": active}
"""
