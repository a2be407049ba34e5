"""New apps and new tasks: folders that work at once, and names made from titles in any language."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from anyascii import anyascii
from sqlalchemy import inspect as sa_inspect

from jittask_prefect.elements.app import App
from jittask_prefect.elements.config import machine_zone
from jittask_prefect.elements.config_texts import display_text
from jittask_prefect.elements.project import refuse_unreadable
from jittask_prefect.errors import ArgumentError, invalid
from jittask_prefect.filters.columns import ColumnKind, column, columns

RESERVED = ("Meta", "NormalType", "DateFieldType")
"""Names of built-in Types, which a task of that name would shadow."""
SCHEDULED = 'def customFunc():\n    log.info("it is time")\n    return "done"\n'
OF_ROWS = (
    'def customFunc(rowData):\n    log.info("due: %s", rowData)\n    return "done"\n'
)


def english_name(title: str, taken: Collection[str] = ()) -> str:
    """An element name for a title in any language, e.g. 合同到期提醒 → HeTongDaoQiTiXing.

    Args:
        title: The title.
        taken: Names in use: such a name gets a number. Compared without case, as some file systems do.
    """
    bare = title.replace("'", "")
    ascii_only = "".join(anyascii(c) if ord(c) > 127 else c for c in bare)
    words = re.findall(r"[A-Za-z0-9]+", ascii_only)
    name = "".join(word[:1].upper() + word[1:] for word in words)[:60] or "Task"
    if name[0].isdigit():
        name = f"Task{name}"[:60]

    used = {other.casefold() for other in taken}
    numbered = itertools.chain([name], (f"{name}{n}" for n in itertools.count(2)))
    return next(found for found in numbered if found.casefold() not in used)


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
        model: The model's full name; absent, the first model with a date.
        field: The date field; absent, the model's first date field.

    Raises:
        ArgumentError: The app has no such model, or the model no such field.
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
        display_text(title)
    except ValueError as error:
        raise invalid("title", repr(title), str(error)) from None

    tasks = app.folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    taken = [*RESERVED, *(path.name for path in tasks.iterdir())]
    folder = tasks / english_name(title, taken)
    folder.mkdir()
    (folder / "inner.py").write_text(code, encoding="utf-8")
    _json(folder / "e.json", config)
    return folder


def init(folder: Path) -> Path:
    """Make a new app in a folder that is empty or missing.

    Raises:
        ArgumentError: The folder is not empty.
        ConfigError: The locale does not know the folder's name.
    """
    refuse_unreadable(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(f"{folder} is not empty; `jittask init` makes a new folder")

    title = folder.resolve().name
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", anyascii(title)).strip("-")[:64]
    app = {
        "name": name or "app",
        "title": title,
        "timezone": machine_zone(),
        "database": "sqlite:///app.db",
    }
    for place, config, code_file, code in (
        ("models/Contract", _CONTRACT, "model.py", _MODEL),
        ("services/NoticeSvc", _NOTICES, "service.py", _SERVICE),
        ("tasks/ContractReminder", _REMINDER, "inner.py", _REMIND),
        ("tasks/DailyReport", _REPORT, "inner.py", _COUNT),
    ):
        (folder / place).mkdir(parents=True)
        _json(folder / place / "e.json", config)
        (folder / place / code_file).write_text(code, encoding="utf-8")

    _json(folder / "app.json", app)
    ignored = ".jittask/\n__pycache__/\n*.db\n*.db-shm\n*.db-wal\n"
    (folder / ".gitignore").write_text(ignored, encoding="utf-8")
    return folder


def _json(file: Path, content: Any) -> None:
    file.write_text(
        json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )


_CONTRACT = {
    "type": "models.NormalType",
    "title": "Contract",
    "rowLabel": "customer",
}
_NOTICES = {"type": "services.NormalType", "title": "Notices"}
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
    "missed": {"lookback": 172800},
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
