"""TaskSvc: the facade, a short method for each use case. Names and results are the contract's."""

from __future__ import annotations

import json
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jittask_prefect.elements.app import App
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.original.jit_rows import plain_rows
from jittask_prefect.elements.signatures import check_arguments
from jittask_prefect.elements.types import NormalService
from jittask_prefect.errors import (
    ArgumentError,
    JittaskError,
    PrefectApiError,
)
from jittask_prefect.ledger import guard, hindrance
from jittask_prefect.ledger.entry import new_entry
from jittask_prefect.ledger.keys import key_of
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import of_app
from jittask_prefect.records import listing
from jittask_prefect.records.record import run_url
from jittask_prefect.rows.background_handover import nudge
from jittask_prefect.rows.flow_runs import due_name
from jittask_prefect.rows.follow import follow_row
from jittask_prefect.rows.plan import Action
from jittask_prefect.running import by_hand
from jittask_prefect.running.end import force_end
from jittask_prefect.schedule import clock
from jittask_prefect.task_svc.arguments import arguments as arguments_of
from jittask_prefect.task_svc.arguments import (
    differs,
    in_a_session,
    instant,
    opening_at,
    row_of,
    storable,
    text,
)
from jittask_prefect.validation import quoted

Result = dict[str, Any]
P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("jittask")
# For each action of a plan: its name in the results.
DONE = {
    "create": "created",
    "reschedule": "rescheduled",
    "end": "ended",
    "skip": "unchanged",
}


def _only_jittask_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Raise a `JittaskError` for every error within, with the error itself as its cause.

    Database errors in the caller's own session pass unchanged: the caller may try its transaction again.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # Asked before: a failed flush takes the row out of its session.
        callers = in_a_session([*args, *kwargs.values()])
        try:
            return method(*args, **kwargs)
        except JittaskError:
            raise
        except Exception as error:
            if callers and isinstance(error, SQLAlchemyError):
                raise

            said = getattr(error, "orig", None) or error
            raise JittaskError(
                f"{method.__name__} failed: {type(said).__name__}: {said}"
            ) from error

    return call


class TaskSvc(NormalService):
    """The task service (`services.TaskSvc`).

    Args:
        app: The app of the service.
        api: Prefect; absent, the server that the environment or `jittask up` names, found at first use.
    """

    def __init__(self, app: App, api: Api | None = None) -> None:
        self.app = app
        self._api = api

    @property
    def api(self) -> Api:
        """The Prefect server."""
        if self._api is None:
            self._api = guard.connect(self.app)
        return self._api

    def connect(self, api: Api) -> None:
        """Talk to this Prefect from now on."""
        self._api = api

    def _api_or_away(self) -> Api:
        """The Prefect server, also one that gives no answer: an end is the ledger's, and the next sync tells Prefect."""
        try:
            return self.api
        except PrefectApiError as error:
            # A process that only saves rows pays for no HTTP client.
            from jittask_prefect.server import selection

            log.warning("Prefect is told by the next sync: %s", error)
            return selection.connect(self.app.path)

    @_only_jittask_errors
    def getTaskTmplList(self, queryStr: str = "") -> list[Result]:
        """The task templates whose title or full name contains a text, whatever its case; all templates for an empty text."""
        if not isinstance(queryStr, str):
            raise ArgumentError(f"queryStr {quoted(queryStr)}; allowed: a text")

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

    @_only_jittask_errors
    def createTimerTask(
        self,
        fullName: str,
        startTime: str | datetime,
        funcName: str,
        taskType: str,
        argDict: Mapping[str, Any] | None = None,
        window: bool = False,
    ) -> Result:
        """Make a single execution of a template's function, outside its schedule.

        Args:
            fullName: The template's full name, of either Type.
            startTime: When; text or a naive datetime in the task's zone, or an aware datetime. The past runs at once.
            funcName: A function of the template's inner.py, or `services.X.method`.
            taskType: The template's Type.
            argDict: Keyword arguments for the function; kept in the ledger, never sent to Prefect.
            window: Whether the template's opening hours hold: outside them the execution, and each retry, waits for the
                next opening.

        Returns:
            `{taskId, fullName, status, startTime, url}`.

        Raises:
            UnknownElement: The app has no such template or function.
            InvalidTime: The time cannot be read.
            ArgumentError: The template has another Type, or no opening hours where `window` asks for them; or the
                function does not take these arguments.
            PrefectApiError: Prefect cannot be reached; nothing is kept.
        """
        template = self.app.template(fullName)
        if taskType != template.taskType:
            raise ArgumentError(
                f"taskType {quoted(taskType)}; {fullName} is of type {template.taskType}"
            )

        due = instant(startTime, template)
        opening = opening_at(template, due, window)
        due = opening or due
        arguments = arguments_of(argDict)
        function, own = template.function(text("funcName", funcName)), template.declared
        name = funcName if own is None else own.function.__name__
        check_arguments(function, arguments, name)
        api, now = self.api, clock.now()
        deployment = by_hand.deployment_of(self.app, api, fullName)
        entry = new_entry(
            task_id=str(uuid.uuid4()), app=self.app.name, template=fullName, due=due, created=now,
            func_name=funcName, arg_dict=json.dumps(arguments, ensure_ascii=False), not_before=opening,
        )  # fmt: skip
        named = due_name(self.app, template.fullName, due)
        tags = [of_app(self.app.name, fullName)]
        run_id = by_hand.begin(self.app, DEFAULT, api, deployment, entry, named, tags)
        return {
            "taskId": run_id,
            "fullName": fullName,
            "status": "pending",
            "startTime": due.astimezone(template.timer.zone).isoformat(),
            "url": run_url(api.ui_url, run_id),
        }

    @_only_jittask_errors
    def forcedEnd(self, taskId: str) -> Result:
        """End a task: a pending task never runs; the process of an executing task is gone when this returns.

        Args:
            taskId: A task's id, or a flow run's.

        Returns:
            `{taskId, previousStatus, status, changed}`; a task that has ended already stays as it is.

        Raises:
            UnknownTask: No task and no flow run has the id.
            PrefectApiError: Prefect cannot be reached, and the task is a run of the schedule that has not begun. The
                ledger ends all other tasks; the next sync ends their runs.
            JittaskError: The process did not end in time.
        """
        task_id = text("taskId", taskId)
        return force_end(self.app, self._api_or_away, task_id, clock.now)

    @_only_jittask_errors
    def saveDateFieldTask(self, rowObj: Mapping[str, Any]) -> Result:
        """Bring a saved row's tasks to the row's present state, as the database has the row.

        Args:
            rowObj: `{prevData, postData}`, each a model instance or a dict; `prevData` may be absent.

        Returns:
            `{created, rescheduled, ended, unchanged, tasks: [{fullName, taskId, dueTime, action}]}`.

        Raises:
            ArgumentError: `rowObj` names no row of a model of the app.
            LedgerError: The ledger cannot be read or written; the caller's transaction goes on.
        """
        rowObj = plain_rows(rowObj)
        model, row, session = row_of(self.app, rowObj, "postData", "prevData")
        before = rowObj.get("prevData")
        now = clock.now()
        with self._transaction(session, model) as connection:
            key = _key(row, connection)
            moved = before is None or differs(before, row)
            actions = follow_row(self.app, connection, model, key, now, moved=moved)

        counts = Counter(DONE[action.action] for action in actions)
        return {
            **{done: counts[done] for done in DONE.values()},
            "tasks": [self._shown(action) for action in actions],
        }

    @_only_jittask_errors
    def deleteDateFieldTask(self, rowObj: Mapping[str, Any]) -> Result:
        """End the open tasks of a row that was deleted.

        Args:
            rowObj: `{prevData}`, a model instance or a dict.

        Returns:
            `{ended, tasks}`.

        Raises:
            ArgumentError: `rowObj` names no row of a model of the app.
            LedgerError: The ledger cannot be read or written; the caller's transaction goes on.
        """
        rowObj = plain_rows(rowObj)
        model, row, session = row_of(self.app, rowObj, "prevData", "postData")
        with self._transaction(session, model) as connection:
            key, now = _key(row, connection), clock.now()
            actions = follow_row(self.app, connection, model, key, now, ended=True)

        return {"ended": len(actions), "tasks": [self._shown(a) for a in actions]}

    @_only_jittask_errors
    def getTaskRecords(
        self,
        fullName: str | None = None,
        status: str | None = None,
        startTime: str | datetime | None = None,
        endTime: str | datetime | None = None,
        limit: int = 200,
        offset: int = 0,
        row: str | None = None,
    ) -> list[Result]:
        """Execution records, newest due time first.

        With an `endTime` beyond the horizon, the tasks of rows that are due there are among the pending ones: planned
        from the rows as they are now, each with its future taskId (if nothing changes), and without a url. Without an
        `endTime` nothing bounds the future: then the records are those of the ledger and of Prefect.

        Args:
            fullName: Of this template only.
            status: Of this status only: `pending`, `executing`, `overdue`, `completed`, `error` or `ended`.
            startTime: Due at this time or later; text or a naive datetime in the zone of the task, else of the app.
            endTime: Due earlier.
            limit: How many at most.
            offset: How many of the newest to pass over.
            row: Of rows with this key only, as text; without a `fullName` rows of any model.

        Returns:
            A list of `{taskId, fullName, title, status, dueTime, startTime, endTime, duration, lateness, row, result,
            message, url}`, and `label` where the row has one; times as ISO 8601, duration and lateness in seconds, `row`
            is its key as text.

        Raises:
            UnknownElement: The app has no such template.
            InvalidTime: A time cannot be read.
            ArgumentError: The status is unknown, limit or offset is no count, or the row's key is no text.
            PrefectApiError: Prefect cannot be reached.
        """
        template = self.app.template(fullName) if fullName not in (None, "") else None
        wanted = listing.RecordFilter(
            name=template.fullName if template else None,
            status=None if status == "" else status,
            row=None if row == "" else row,
            start=instant(startTime, template or self.app)
            if startTime not in (None, "")
            else None,
            end=instant(endTime, template or self.app)
            if endTime not in (None, "")
            else None,
        )
        found = listing.records(
            self.app, self.api, clock.now(), wanted, limit=limit, offset=offset
        )
        return [record.as_dict(ui_url=self.api.ui_url) for record in found]

    def _shown(self, action: Action) -> Result:
        zone = self.app.template(action.template).timer.zone
        return {
            "fullName": action.template,
            "taskId": action.task_id,
            "dueTime": action.due.astimezone(action.zone or zone).isoformat(),
            "action": DONE[action.action],
        }

    @contextmanager
    def _transaction(self, session: Session | None, model: str) -> Iterator[Connection]:
        """The row's own transaction where the row has a session, else a new transaction."""
        if session is not None:
            if (
                not session._flushing
            ):  # in afterSave and afterDelete nothing is left to flush
                session.flush()

            connection = session.connection(
                bind_arguments={"mapper": sa_inspect(self.app.getElement(model))}
            )
            hindrance.require(connection, "the row's database")
            yield connection
            return

        database = self.app.database_of(model)
        with self.app.engine(database).begin() as connection:
            hindrance.require(connection, database or "the app's database")
            yield connection

        nudge(self.app, database)


def _key(row: Any, connection: Connection) -> str:
    """The row's key, before the row's entries are written."""
    try:
        return storable("rowObj: a key", key_of(row, connection.dialect.name))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"rowObj: {str(error)[:200]}") from None
