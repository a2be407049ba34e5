"""The app of the campaign, its deployments, and a Prefect in memory that processes share."""

from __future__ import annotations

import mmap
import struct
import threading
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from multiprocessing.managers import BaseManager
from typing import Any

import httpx

from jittask_prefect.testing import FakePrefect

ZONE = timedelta(hours=8)  # Asia/Shanghai has no other
NAME = "campaign"
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Item(SQLModel, table=True):
    id: int = Field(primary_key=True)
    kind: str
    status: str = "open"
    at: NaiveDatetime | None = None
    note: str = ""
"""
# The effect stands in the task's own transaction. `began` is the machine's monotonic clock, which all processes share.
TYPE = """
import os, time
from sqlalchemy import text
from jittask_prefect import DateFieldType

INSERT = text("INSERT INTO effect (task_id, template, row_id, at, due, began, pid)"
              " VALUES (:task, :template, :row, :at, :due, :began, :pid)")

class LogType(DateFieldType):
    def handle(self, task):
        began, row = time.monotonic_ns(), task.row
        if row.note == "slow":
            time.sleep(20)
        with app.session() as session:
            session.execute(INSERT, {
                "task": task.taskId, "template": task.fullName, "row": row.id, "at": row.at.isoformat(),
                "due": task.dueTime.replace(tzinfo=None).isoformat(), "began": began, "pid": os.getpid(),
            })
        return began
"""
EFFECT = {
    "sqlite": "seq INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "seq BIGSERIAL PRIMARY KEY",
}
COLUMNS = (
    "task_id VARCHAR(36), template VARCHAR(80), row_id INTEGER, at VARCHAR(40), due VARCHAR(40), "
    "began BIGINT, pid INTEGER"
)


def _task(kind: str, timer: dict[str, Any], **keys: Any) -> dict[str, Any]:
    about = {
        "type": "tasks.LogType",
        "title": kind,
        "modelPath": "models.Item",
        "filter": f"Q(Q('kind','=','{kind}'), Q.AND, Q('status','=','open'))",
        "timerCfg": {"startField": "at", **timer},
        "retries": 1,
        "missed": {"lookback": 60 * 86400},
        **keys,
    }
    return {"e.json": about, "inner.py": "def customFunc(row):\n    pass\n"}


def elements(parallel: int = 1) -> dict[str, Any]:
    """The app's elements, with some rows at work at once; the oracle states by hand when each template is due."""
    found = _elements()
    for files in found.values():
        if "modelPath" in files["e.json"]:
            files["e.json"]["parallel"] = parallel
    return found


def _elements() -> dict[str, Any]:
    return {
        "models/Item": {
            "e.json": {"type": "models.NormalType", "title": "Item"},
            "model.py": MODEL,
        },
        "tasks/LogType": {
            "e.json": {"type": "tasks.Meta", "title": "Log"},
            "type.py": TYPE,
        },
        "tasks/Once": _task("once", {}),
        "tasks/Before": _task(
            "once",
            {"startOffset": {"offsetType": -1, "offset": 2, "offsetUnit": "hour"}},
            retries=0,
            missed={"lookback": 86400},
        ),
        "tasks/Office": _task(
            "office",
            {
                "startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "day"},
                "skipHoliday": 1,
                "workdaysOnly": 1,
            },
            dispatch="batch",
        ),
        "tasks/Every": _task(
            "every",
            {"repeat": {"repeatType": "hour", "period": 2}},
            missed={"policy": "all", "lookback": 60 * 86400},
            dispatch="batch",
        ),
        "tasks/Daily": _task(
            "daily",
            {"repeat": {"repeatType": "day"}},
            missed={"policy": "latest", "lookback": 2 * 86400},
            dispatch="batch",
        ),
    }


def app_json(url: str, closed: Iterable[str]) -> dict[str, Any]:
    """app.json: an hour's horizon, and a calendar of the app's own."""
    calendars = {"office": {"closed": list(closed)}}
    return {
        "name": NAME, "timezone": "Asia/Shanghai", "database": url, "horizon": 1, "calendar": "office",
        "calendars": calendars, "maxConcurrency": 100,
    }  # fmt: skip


class Clock:
    """The time of all processes of the campaign, in memory that they share."""

    def __init__(self, local: datetime) -> None:
        self._memory = mmap.mmap(-1, 8)
        self.set(local)

    def set(self, local: datetime) -> None:
        self._memory[:] = struct.pack(
            "d", (local - ZONE).replace(tzinfo=UTC).timestamp()
        )

    def now(self) -> datetime:
        """The instant, aware."""
        return datetime.fromtimestamp(struct.unpack("d", self._memory[:])[0], UTC)

    def local(self) -> datetime:
        """The wall time in the app's zone."""
        return self.now().replace(tzinfo=None) + ZONE

    def advance(self, **delta: float) -> None:
        self.set(self.local() + timedelta(**delta))


class Shared:
    """The Prefect in memory, in a process of its own: one call at a time."""

    def __init__(self) -> None:
        self._prefect, self._lock = FakePrefect(), threading.Lock()

    def call(self, name: str, args: tuple[Any, ...], keys: dict[str, Any]) -> Any:
        with self._lock:
            return getattr(self._prefect, name)(*args, **keys)

    def add(self, template: str) -> None:
        self._prefect.all_deployments[template] = {
            "id": str(uuid.uuid4()),
            "name": template,
            "tags": [f"app:{NAME}"],
            "entrypoint": "jittask_flows.py:LogType",
            "flow": f"{NAME}.tasks.LogType",
        }


class Manager(BaseManager):
    """The process that holds the Prefect in memory."""


Manager.register("Shared", Shared)


class Memory:
    """The `Api` of a Prefect that lives in another process."""

    url, ui_url = FakePrefect.url, FakePrefect.ui_url

    def __init__(self, shared: Any) -> None:
        self._shared = shared
        for name in (
            "ping",
            "deployments",
            "of_flows",
            "variable",
            "create_run",
            "run",
            "runs",
            "count_runs",
            "set_state",
            "mark",
            "delete_run",
            "put_table",
            "table",
        ):
            setattr(self, name, self._method(name))

    def _method(self, name: str) -> Any:
        return lambda *args, **keys: self._shared.call(name, args, keys)


def deploy_to(url: str, templates: Iterable[str]) -> None:
    """Deployments of the app's templates on a real server; what is of no use here (a worker's options) is left out."""
    with httpx.Client(base_url=url, timeout=60) as client:
        _post(
            client,
            "/work_pools/",
            {"name": NAME, "type": "process", "base_job_template": {}},
        )
        flow = _post(client, "/flows/", {"name": f"{NAME}.tasks.LogType"})
        for name in templates:
            body = {
                "name": name,
                "flow_id": flow["id"],
                "work_pool_name": NAME,
                "tags": [f"app:{NAME}"],
            }
            _post(client, "/deployments/", {**body, "enforce_parameter_schema": False})


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    for _ in range(20):
        answer = client.post(path, json=body)
        if (
            answer.status_code != 503
        ):  # its SQLite is locked: it says so while it starts
            break
        time.sleep(0.5)
    if answer.status_code == 409:  # from the campaign before
        return {}
    found: dict[str, Any] = answer.raise_for_status().json()
    return found
