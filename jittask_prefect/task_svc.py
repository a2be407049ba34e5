"""TaskSvc: the facade, one short method for each use case. Names and results are the contract's."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from dateutil.parser import isoparse
from sqlalchemy import Connection, delete, update
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Session, object_session

from . import clock, records
from .elements.app import App, owner_of
from .elements.types import Meta, NormalService, check_arguments
from .errors import ArgumentError, InvalidTime, JittaskError, UnknownTask
from .prefect_api import TERMINAL, Api, connect
from .rows import hooks, ledger, sync
from .rows.ledger import Entry, entries
from .rows.nudge import nudge
from .rows.plan import Action
from .running.execute import after_return, locate, next_of_row

END_SECONDS = 40.0  # the stock worker: 8 s until it sees the end, 30 s of grace for the process
Result = dict[str, Any]


class TaskSvc(NormalService):
    """The task service (`services.TaskSvc`).

    Args:
        app: The app that it serves.
        api: Prefect; absent, the server that the environment or `jittask up` names, found at first use.
    """

    def __init__(self, app: App, api: Api | None = None) -> None:
        self.app = app
        self._api = api

    @property
    def api(self) -> Api:
        """The Prefect server."""
        if self._api is None:
            self._api = connect(self.app.path)
        return self._api

    def getTaskTmplList(self, queryStr: str = "") -> list[Result]:
        """The task templates whose title or full name contains a text, whatever its case; all where it is empty."""
        if not isinstance(queryStr, str):
            raise ArgumentError(f"queryStr {queryStr!r}; allowed: a text")
        wanted = queryStr.casefold()
        return [
            {
                "title": t.title,
                "taskType": t.taskType,
                "repeatType": t.timer.cfg.repeat.repeat_type,
                "fullName": t.fullName,
                "enable": int(t.enable),
            }
            for t in self.app.templates()
            if wanted in t.title.casefold() or wanted in t.fullName.casefold()
        ]

    def createTimerTask(
        self,
        fullName: str,
        startTime: str | datetime,
        funcName: str,
        taskType: str,
        argDict: Mapping[str, Any] | None = None,
    ) -> Result:
        """Make one execution of a template's function, outside its schedule.

        Args:
            fullName: The template's full name, of either Type.
            startTime: When; text or a naive datetime in the task's zone, or an aware datetime. The past runs at once.
            funcName: A function of the template's inner.py, or `services.X.method`.
            taskType: The template's Type.
            argDict: Keyword arguments for the function; kept in the ledger, never sent to Prefect.

        Returns:
            `{taskId, fullName, status, startTime, url}`.

        Raises:
            UnknownElement: There is no such template or function.
            InvalidTime: The time cannot be read.
            ArgumentError: The Type is another one, or the function does not take these arguments.
            PrefectApiError: Prefect cannot be reached; nothing is kept then.
        """
        template = self.app.template(fullName)
        if taskType != template.taskType:
            raise ArgumentError(f"taskType {taskType!r}; {fullName} is of type {template.taskType}")
        due = instant(startTime, template)
        arguments = _arguments(argDict)
        check_arguments(template.function(_text("funcName", funcName)), arguments, funcName)
        api, now = self.api, clock.now()
        deployment = api.deployments(sync.app_tag(self.app)).get(fullName)
        if deployment is None:
            raise UnknownTask(f"{fullName} has no deployment on {api.url}: run `jittask deploy`")
        entry = Entry(
            task_id=str(uuid.uuid4()), template=fullName, due=due, created=now, dirty=False,
            func_name=funcName, arg_dict=json.dumps(arguments, ensure_ascii=False),
        )  # fmt: skip
        with self.app.engine().begin() as connection:
            ledger.require(connection, "the app's database")
            ledger.insert_once(connection, entries, entry.model_dump())
        mine = entries.c.task_id == entry.task_id
        try:
            run = api.create_run(
                deployment["id"],
                key=entry.task_id,
                name=sync.plain(template.title) + f" · {due.astimezone(template.timer.zone):%Y-%m-%d %H:%M}",
                due=due,
                tags=[fullName],
                parameters={"template": fullName, "taskId": entry.task_id},
            )
        except JittaskError:
            with self.app.engine().begin() as connection:
                connection.execute(delete(entries).where(mine))
            raise
        with self.app.engine().begin() as connection:
            connection.execute(update(entries).where(mine).values(flow_run_id=run["id"]))
        return {
            "taskId": run["id"],
            "fullName": fullName,
            "status": "pending",
            "startTime": due.astimezone(template.timer.zone).isoformat(),
            "url": records.run_url(api, run["id"]),
        }

    def forcedEnd(self, taskId: str) -> Result:
        """End one task: a pending one never runs, an executing one's process is gone when this returns.

        Args:
            taskId: A task's id, or a flow run's.

        Returns:
            `{taskId, previousStatus, status, changed}`; a task that has ended already is left as it is.

        Raises:
            UnknownTask: There is no such task.
            PrefectApiError: Prefect cannot be reached, or the process did not end in time.
        """
        found = locate(self.app, _text("taskId", taskId))
        now = clock.now()
        if found is None:
            return self._end_unclaimed(taskId, now)
        database, entry = found
        before = "overdue" if entry.status == "pending" and entry.due < now else entry.status
        if entry.status in ledger.FINAL:
            return {"taskId": taskId, "previousStatus": before, "status": entry.status, "changed": False}
        if entry.status == "executing":
            self._stop(entry)
        with self.app.engine(database).begin() as connection:
            changed = ledger.close(
                connection,
                entry.task_id,
                outcome="forced",
                message="ended: forced end",
                now=clock.now(),
                within=ledger.OPEN,
            )
        if changed and entry.status == "executing":
            self._await_gone(entry)
        ended = ledger_entry(self.app, database, entry.task_id)
        if changed:
            after_return(self.app, database, entry.task_id)
            next_of_row(self.app, database, entry, clock.now())
            self._hand_over(database)
        return {"taskId": taskId, "previousStatus": before, "status": ended.status, "changed": changed}

    def _end_unclaimed(self, task_id: str, now: datetime) -> Result:
        """End a run that the template's own schedule made and that has not begun."""
        run = self.api.run(task_id) if _is_uuid(task_id) else None
        name = (run.get("parameters") or {}).get("template") if run else None
        if run is None or name not in self.app.names("tasks"):
            raise UnknownTask(f"there is no task {task_id!r}")
        before = records.status_of_run(run, now)
        if run.get("state_type") in TERMINAL:
            return {"taskId": task_id, "previousStatus": before, "status": before, "changed": False}
        # The ledger first: a worker that takes the run at this very moment finds it ended.
        due = datetime.fromisoformat(run["expected_start_time"])
        entry = Entry(
            task_id=task_id, template=str(name), due=due, created=now, status="ended", outcome="forced",
            message="ended: forced end", finished=now, flow_run_id=task_id, dirty=True,
        )  # fmt: skip
        with self.app.engine().begin() as connection:
            ledger.require(connection, "the app's database")
            fresh = ledger.insert_once(connection, entries, entry.model_dump())
        if not fresh:
            return self.forcedEnd(task_id)
        self.api.set_state(task_id, "CANCELLING", message=entry.message)
        self._await_gone(entry)
        with self.app.engine().begin() as connection:
            connection.execute(update(entries).where(entries.c.task_id == task_id).values(dirty=False))
        after_return(self.app, "", task_id)
        return {"taskId": task_id, "previousStatus": before, "status": "ended", "changed": True}

    def _stop(self, entry: Entry) -> None:
        if entry.flow_run_id:
            self.api.set_state(entry.flow_run_id, "CANCELLING", message="ended: forced end")

    def _await_gone(self, entry: Entry) -> None:
        """Wait until the process is gone: it watches for its end itself, and the worker kills it."""
        if not entry.flow_run_id:
            return
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            run = self.api.run(entry.flow_run_id)
            here = _process(entry)
            if (run is None or run.get("state_type") in TERMINAL) and here is not True:
                return
            if here is False or (here is None and _lease_over(entry)):
                self.api.set_state(entry.flow_run_id, "CANCELLED", message="ended: forced end", force=True)
                return
            if (
                entry.owner is None
                and run is not None
                and run.get("state_type") in ("SCHEDULED", "PENDING", "CANCELLING")
            ):
                # Never begun, and the ledger lets nobody begin it.
                self.api.set_state(entry.flow_run_id, "CANCELLED", message="ended: forced end", force=True)
                return
            time.sleep(0.2)
        raise JittaskError(
            f"task {entry.task_id} is ended, but its process ({entry.owner}) was still there after {END_SECONDS:g} s"
        )

    def _hand_over(self, database: str) -> None:
        sync.hand_over(self.app, database, self.api, clock.now(), sync.Report())

    def saveDateFieldTask(self, rowObj: Mapping[str, Any]) -> Result:
        """Bring a saved row's tasks to what the row is now.

        Args:
            rowObj: `{prevData, postData}`, each a model instance or a dict; `prevData` may be absent.

        Returns:
            `{created, rescheduled, ended, unchanged, tasks: [{fullName, taskId, dueTime, action}]}`.

        Raises:
            ArgumentError: `rowObj` names no row of a model of the app.
        """
        model, row, session = self._row(rowObj, "postData", "prevData")
        before = rowObj.get("prevData")
        now = clock.now()
        with self._transaction(session, model) as connection:
            moved = before is None or _differs(before, row)
            actions = hooks.save_row(self.app, connection, row, model, now, moved=moved)
        counts = {kind: sum(a.action == kind for a in actions) for kind in ("create", "reschedule", "end", "skip")}
        return {
            "created": counts["create"],
            "rescheduled": counts["reschedule"],
            "ended": counts["end"],
            "unchanged": counts["skip"],
            "tasks": [self._shown(a) for a in actions],
        }

    def deleteDateFieldTask(self, rowObj: Mapping[str, Any]) -> Result:
        """End the open tasks of a row that was deleted.

        Args:
            rowObj: `{prevData}`, a model instance or a dict.

        Returns:
            `{ended, tasks}`.

        Raises:
            ArgumentError: `rowObj` names no row of a model of the app.
        """
        model, row, session = self._row(rowObj, "prevData", "postData")
        with self._transaction(session, model) as connection:
            actions = hooks.delete_row(self.app, connection, ledger.key_of(row), model, clock.now())
        return {"ended": len(actions), "tasks": [self._shown(a) for a in actions]}

    def getTaskRecords(
        self,
        fullName: str | None = None,
        status: str | None = None,
        startTime: str | datetime | None = None,
        endTime: str | datetime | None = None,
        limit: int = 200,
        offset: int = 0,
    ) -> list[Result]:
        """Execution records, newest due time first; arguments as in the contract, all optional.

        Raises:
            UnknownElement: There is no such template.
            InvalidTime: A time cannot be read.
            ArgumentError: The status is unknown, or limit or offset is no count.
            PrefectApiError: Prefect cannot be reached.
        """
        template = self.app.template(fullName) if fullName else None
        return records.records(
            self.app,
            self.api,
            clock.now(),
            name=template.fullName if template else None,
            status=status or None,
            start=instant(startTime, template or self.app) if startTime else None,
            end=instant(endTime, template or self.app) if endTime else None,
            limit=limit,
            offset=offset,
        )

    def _shown(self, action: Action) -> Result:
        zone = self.app.template(action.template).timer.zone
        done = {"create": "created", "reschedule": "rescheduled", "end": "ended", "skip": "unchanged"}[action.action]
        return {
            "fullName": action.template,
            "taskId": action.task_id,
            "dueTime": action.due.astimezone(zone).isoformat(),
            "action": done,
        }

    @contextmanager
    def _transaction(self, session: Session | None, model: str) -> Iterator[Connection]:
        """The row's own transaction where it has a session, else one of its own."""
        if session is not None:
            session.flush()
            connection = session.connection(bind_arguments={"mapper": sa_inspect(self.app.getElement(model))})
            ledger.require(connection, "the row's database")
            yield connection
            return
        database = self.app.database_of(model)
        with self.app.engine(database).begin() as connection:
            ledger.require(connection, database or "the app's database")
            yield connection
        nudge(self.app, database)

    def _row(self, rowObj: Mapping[str, Any], first: str, second: str) -> tuple[str, Any, Session | None]:
        """The model, the row, and the session that the row is in."""
        if not isinstance(rowObj, Mapping) or rowObj.get(first) is None:
            raise ArgumentError(f"rowObj needs {first}: a model instance, or a dict of its fields")
        data, other = rowObj[first], rowObj.get(second)
        model = (
            _model_of(data)
            or _model_of(other)
            or (rowObj.get("model") if isinstance(rowObj.get("model"), str) else None)
        )
        if model not in self.app.names("models"):
            raise ArgumentError(
                f"rowObj.{first} is {type(data).__name__}, of no model of the app; a dict needs the key `model`"
            )
        if not isinstance(data, Mapping):
            return str(model), data, object_session(data)
        return str(model), self._built(str(model), data), None

    def _built(self, model: str, data: Mapping[str, Any]) -> Any:
        """A row from a dict of its fields: what the dict leaves out is read from the database."""
        cls = self.app.getElement(model)
        mapper = sa_inspect(cls)
        fields = {k: v for k, v in data.items() if k != "model"}
        unknown = sorted(set(fields) - set(mapper.column_attrs.keys()))
        if unknown:
            raise ArgumentError(
                f"{model} has no field {', '.join(unknown)}; it has {', '.join(mapper.column_attrs.keys())}"
            )
        keys = [mapper.get_property_by_column(c).key for c in mapper.primary_key]
        if any(fields.get(k) is None for k in keys):
            raise ArgumentError(
                f"a row of {model} is named by {', '.join(keys)}; found {', '.join(fields) or 'nothing'}"
            )
        values = {k: _value(mapper.column_attrs[k].columns[0], k, v) for k, v in fields.items()}
        with Session(self.app.engine(self.app.database_of(model))) as session:
            there = session.get(cls, tuple(values[k] for k in keys))
            stored = {k: getattr(there, k) for k in mapper.column_attrs.keys()} if there is not None else {}  # noqa: SIM118
        return cls(**{**stored, **values})


def ledger_entry(app: App, database: str, task_id: str) -> Entry:
    """A ledger entry that is known to exist."""
    with app.engine(database).connect() as connection:
        found = ledger.find(connection, task_id)
    if found is None:
        raise UnknownTask(f"there is no task {task_id!r}")
    return found


def instant(value: str | datetime, of: Meta | App) -> datetime:
    """A time from outside as an instant.

    Args:
        value: Text (`yyyy-MM-dd[ HH:mm[:ss]]`, ISO 8601) or a datetime; without an offset it is in the task's zone.
        of: The template, or the app, whose zone counts.

    Raises:
        InvalidTime: It is neither.
    """
    found = value
    if isinstance(value, str):
        try:
            found = isoparse(value.strip().replace(" ", "T", 1))
        except (ValueError, OverflowError):
            raise InvalidTime(f"{value!r} is no time; allowed: yyyy-MM-dd HH:mm:ss, or ISO 8601") from None
    if not isinstance(found, datetime):
        raise InvalidTime(f"{value!r} is no time; allowed: yyyy-MM-dd HH:mm:ss, ISO 8601, or a datetime")
    from .schedule.instants import resolve

    zone = of.timer.zone if isinstance(of, Meta) else of.zone
    try:
        return found if found.tzinfo else resolve(found, zone)
    except OverflowError:
        raise InvalidTime(f"{value!r} is out of range") from None


def _arguments(argDict: Mapping[str, Any] | None) -> dict[str, Any]:
    if argDict is not None and not isinstance(argDict, Mapping):
        raise ArgumentError(f"argDict {type(argDict).__name__}; allowed: a dict of keyword arguments")
    found = dict(argDict or {})
    try:
        json.dumps(found)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"argDict holds what JSON cannot: {error}") from None
    if not all(isinstance(k, str) for k in found):
        raise ArgumentError("argDict: its keys are names of arguments")
    return found


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{name} {value!r}; allowed: a text")
    return value


def _model_of(data: Any) -> str | None:
    if isinstance(data, Mapping):
        return data["model"] if isinstance(data.get("model"), str) else None
    found = owner_of(type(data)) if data is not None else None
    return found[1] if found else None


def _value(column: Any, key: str, value: Any) -> Any:
    """A dict's value as the column's type: dates may come as text."""
    kind = column.type.python_type
    if isinstance(value, str) and kind.__name__ in ("date", "datetime"):
        try:
            return kind.fromisoformat(value.strip())
        except ValueError:
            raise InvalidTime(f"{key} {value!r}; allowed: ISO 8601") from None
    return value


def _differs(before: Any, row: Any) -> bool:
    """Whether a row is not what it was; an instance that was only changed in place tells nothing, so it differs."""
    if before is row:
        return True
    if isinstance(before, Mapping):
        return any(getattr(row, k, None) != v for k, v in before.items() if k != "model")
    return any(getattr(before, k, None) != getattr(row, k, None) for k in sa_inspect(type(row)).column_attrs.keys())  # noqa: SIM118


def _process(entry: Entry) -> bool | None:
    """Whether the process that executes is there: None where it is on another host, or none is known."""
    host, _, rest = (entry.owner or "").partition(":")
    if host != socket.gethostname():
        return None
    pid = int(rest.partition(":")[0])
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _lease_over(entry: Entry) -> bool:
    return entry.owner is not None and entry.lease_until is not None and entry.lease_until < clock.now()


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
