"""Ledger → Prefect and back: flow runs made, cancelled, and what happened to them taken up.

Each step may stop anywhere and be done again: a flow run's idempotency key is its task's id, and what is not recorded
as handed over is handed over again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import bindparam, func, literal, or_, select, tuple_, update

from ..elements.app import DEFAULT, App
from ..elements.types import DateFieldType
from ..errors import JittaskError, PrefectApiError
from ..prefect_api import LIVE, PAGE, TERMINAL, Api
from . import batches, ledger
from .ending import came_to_nothing, ending_of, never_begun, settle
from .ledger import Entry, entries
from .plan import Report

BATCH = 20  # runs made before they are recorded together; what was made and not recorded is found again by its key
CHUNK = 1000  # entries held in memory
PATIENCE = 30.0  # seconds that failing calls may take in one hand-over; the rest is left to the next sync
PROBLEMS = 100  # refused runs that one report names
FEW = PAGE  # runs that are all asked for at each sync
NEAR = timedelta(minutes=15)
NEAR_AT_ONCE = 2000  # runs that one sync asks for by id; where more are due, the next sync asks for the next
FAR_AT_ONCE = 5000
GAP = timedelta(minutes=5)  # since the last sync: one of the databases may be an older copy, and the numbers agree
AGAIN = timedelta(hours=1)  # a difference that stays is looked into again
FAR, NEXT = "handover:far", "handover:next"  # names in jittask_state
log = logging.getLogger("jittask")
Keep = Callable[[], None]
T = TypeVar("T")


def hand_over(app: App, database: str, api: Api, now: datetime, report: Report, keep: Keep | None = None) -> None:
    """Bring Prefect to what the ledger says: make the runs that are missing, cancel those that are closed.

    Raises:
        PrefectApiError: Prefect cannot be reached, or calls failed for half a minute; the ledger keeps what is left.
    """
    limit = now + timedelta(hours=app.cfg.horizon)
    todo = or_(entries.c.status != "pending", entries.c.due <= limit)
    with app.engine(database).connect() as connection:
        together = batches.groups(app, connection, limit)
    work: _Work | None = _Work(app, database, api, now, report, keep) if together else None
    for group in together:
        assert work is not None
        work.share(group)
    for chunk in _chunks(app, database, CHUNK, entries.c.dirty.is_(True), todo, entries.c.status != "executing"):
        work = work or _Work(app, database, api, now, report, keep)
        work.do([ledger.to_entry(record) for record in chunk])
    if work is not None:
        work.tell()


def _chunks(
    app: App, database: str, size: int, *where: Any, start: tuple[datetime, str] | None = None
) -> Iterator[Any]:
    """Entries in the order of due time and id, some at a time; the database is free while these are worked on."""
    place = (entries.c.due, entries.c.task_id)
    while True:
        query = select(entries).where(*where).order_by(*place).limit(size)
        if start is not None:
            at = tuple_(*(literal(value, column.type) for value, column in zip(start, place, strict=True)))
            query = query.where(entries.c.due >= start[0], tuple_(*place) > at)
        with app.engine(database).connect() as connection:
            chunk = connection.execute(query).all()
        if chunk:
            yield chunk
        if len(chunk) < size:
            return
        start = (chunk[-1].due, chunk[-1].task_id)


class _Work:
    """One hand-over."""

    def __init__(self, app: App, database: str, api: Api, now: datetime, report: Report, keep: Keep | None) -> None:
        self.app, self.database, self.api, self.now, self.report = app, database, api, now, report
        self.keep = keep or (lambda: None)
        self.deployments = api.deployments(app_tag(app))
        self.waiting: dict[str, str] = {}
        self.refused, self.failing = 0, 0.0
        self.made: list[tuple[Entry, str]] = []
        self.ended: list[Entry] = []

    def share(self, group: batches.Group) -> None:
        """Hand over tasks that are due together, in batches."""
        if (deployment := self._deployment(group.template)) is None:
            return
        engine = self.app.engine(self.database)
        with engine.connect() as connection:
            shares = list(batches.shares(connection, group))
        for share in shares:
            self.keep()
            run_id = share.run_id or self._tried(group.template, partial(self._make_batch, deployment, group, share))
            if run_id is None:
                continue
            for dead in share.before - {run_id}:
                said = "its worker died: the rows that are left go on in another run"
                self._tried(group.template, partial(end_run, self.api, dead, said, "CRASHED"))
            with engine.begin() as connection:
                batches.handed_over(connection, share, run_id)

    def _make_batch(self, deployment: Mapping[str, Any], group: batches.Group, share: batches.Share) -> str:
        while True:
            run = self.api.create_run(
                deployment["id"],
                key=batches.key(self.app, group, share.batch),
                name=batch_name(self.app, group, share.batch),
                due=group.due,
                tags=[group.template],
                parameters={"template": group.template, "due": group.due.isoformat()},
            )
            if run.get("state_type") not in TERMINAL and run["id"] not in share.before:
                self.report.created += 1
                return str(run["id"])
            share.batch += 1  # what stands under this key is spent

    def do(self, chunk: Sequence[Entry]) -> None:
        unrecorded = self._unrecorded([e for e in chunk if e.status != "pending" and not e.flow_run_id])
        try:
            for number, entry in enumerate(chunk):
                if number % BATCH == BATCH - 1:
                    self.keep()
                try:
                    if entry.status == "pending":
                        self._make(entry)
                    else:
                        self._end(entry, entry.flow_run_id or unrecorded.get(_key(entry)))
                finally:
                    if len(self.made) + len(self.ended) >= BATCH:
                        self._record()
        finally:
            self._record()

    def tell(self) -> None:
        """Report what waits, and for what."""
        self.report.problems += [f"{name}: {what}" for name, what in sorted(self.waiting.items())]
        if self.refused > PROBLEMS:
            self.report.problems.append(f"{self.refused - PROBLEMS} more runs that Prefect refused")

    def _unrecorded(self, closed: Sequence[Entry]) -> dict[str, str]:
        """The runs of closed tasks that were made by somebody who died before recording it, by key."""
        found: dict[str, str] = {}
        for start in range(0, len(closed), PAGE):
            keys = [_key(e) for e in closed[start : start + PAGE]]
            runs = self.api.runs(flow_runs={"idempotency_key": {"any_": keys}})
            found |= {run["idempotency_key"]: run["id"] for run in runs}
        return found

    def _deployment(self, template: str) -> Mapping[str, Any] | None:
        deployment = self.deployments.get(template)
        if deployment is None:
            self.waiting[template] = "no deployment of that name; run `jittask deploy`"
        elif not _works(self.app, template):
            # Its runs would fail and be made again, every minute.
            self.waiting[template] = "its tasks wait until it loads; `jittask check` says what is wrong"
            return None
        return deployment

    def _make(self, entry: Entry) -> None:
        deployment = self._deployment(entry.template)
        if deployment is None:
            return

        def make() -> dict[str, Any]:
            if entry.flow_run_id:
                end_run(self.api, entry.flow_run_id, "its worker died: the task is tried again", "CRASHED")
            return self.api.create_run(
                deployment["id"],
                key=_key(entry),
                name=run_name(self.app, entry),
                due=entry.due,
                tags=run_tags(entry),
                parameters={"template": entry.template, "taskId": entry.task_id},
            )

        while (run := self._tried(f"{entry.template}, row {entry.row_key}", make)) is not None and came_to_nothing(run):
            entry.flow_run_id = run["id"]  # what stands under this key is spent: on to the next key
        if run is None:
            return
        if (ending := ending_of(run)) is None:
            self.made.append((entry, run["id"]))
            self.report.created += 1
            return
        with self.app.engine(self.database).begin() as connection:
            if settle(connection, entry.task_id, run, ending, self.now):
                self.report.died.append((self.database, entry))

    def _end(self, entry: Entry, run_id: str | None) -> None:
        # Cancelling asks a process to end. One that never began the task, and cannot any more, does not answer.
        asked = "CANCELLING" if entry.started else "CANCELLED"
        kind = asked if entry.status == "ended" else "CRASHED"
        who = f"{entry.template}, row {entry.row_key}"
        if entry.batch is not None and entry.status == "ended":
            ended: bool | None = False  # the others of its batch go on
        else:
            ended = self._tried(who, lambda: end_run(self.api, run_id, entry.message, kind)) if run_id else False
        if ended is not None:
            self.report.ended += ended
            self.ended.append(entry)

    def _tried(self, what: str, call: Callable[[], T]) -> T | None:
        """What a call gives; None where it is this run that is refused, and the others go on."""
        begun = time.monotonic()
        try:
            return call()
        except PrefectApiError as error:
            self.failing += time.monotonic() - begun
            self.api.ping()  # raises where it is not this run that is refused
            if self.failing > PATIENCE:
                raise
            self.refused += 1
            if self.refused <= PROBLEMS:
                self.report.problems.append(f"{what}: {error}")
            return None

    def _record(self) -> None:
        made, ended, self.made, self.ended = self.made, self.ended, [], []
        if made:
            _handed_over(self.app, self.database, made)
        if ended:
            # One that began again meanwhile (a failed task is tried again by hand) is not marked.
            mine = (entries.c.task_id.in_([e.task_id for e in ended]), entries.c.status.in_(ledger.FINAL))
            with self.app.engine(self.database).begin() as connection:
                connection.execute(update(entries).where(*mine).values(dirty=False))
                runs = {e.flow_run_id for e in ended if e.batch is not None and e.flow_run_id}
                empty = batches.empty(connection, sorted(runs))
            for run_id in empty:
                self._tried(run_id, partial(drop_run, self.api, run_id, "superseded: none of its rows is due any more"))


def _works(app: App, template: str) -> bool:
    try:
        app.template(template)
    except JittaskError:
        return False
    return True


def _key(entry: Entry) -> str:
    """The idempotency key of a task's next flow run: another one after each run that came to nothing."""
    return "/".join(
        [entry.task_id, *([str(entry.attempt)] if entry.attempt else []), *filter(None, [entry.flow_run_id])]
    )


def end_run(api: Api, run_id: str, message: str, kind: str) -> bool:
    """Propose the end of a flow run that has not ended; whether there was one to end."""
    run = api.run(run_id)
    if run is None or run.get("state_type") in TERMINAL:
        return False
    api.set_state(run_id, kind, message=message)
    return True


def drop_run(api: Api, run_id: str, message: str) -> None:
    """Cancel a flow run that has not begun."""
    run = api.run(run_id)
    if run is not None and run.get("state_type") == "SCHEDULED":
        api.set_state(run_id, "CANCELLING", message=message)


def _handed_over(app: App, database: str, made: Sequence[tuple[Entry, str]]) -> None:
    # Another attempt than ours has another run, and says so itself.
    mine = (entries.c.task_id == bindparam("task"), entries.c.attempt == bindparam("tried"))
    of = [{"task": entry.task_id, "tried": entry.attempt, "run": run_id} for entry, run_id in made]
    with app.engine(database).begin() as connection:
        connection.execute(update(entries).where(*mine).values(flow_run_id=bindparam("run")), of)
        # A task that was closed meanwhile stays dirty: its run is cancelled next.
        connection.execute(update(entries).where(*mine, entries.c.status == "pending").values(dirty=False), of)


def reconcile(app: App, database: str, api: Api, now: datetime, keep: Keep) -> list[Entry]:
    """Take up what happened in Prefect: a cancelled run closes its task, a deleted or crashed one is made again.

    Up to 200 runs are asked for by id. Of more, those that are due within a quarter of an hour, or past, are, 2,000 at
    once; of all others only the number is. Where Prefect has as many as the ledger, none was cancelled or deleted;
    where it has not, all are asked for by id, once for each difference that is found and once an hour while it stays;
    so they are where no sync was for five minutes.

    Returns:
        The tasks that were closed.
    """
    limit = now + NEAR
    waiting = (entries.c.status == "pending", entries.c.dirty.is_(False), entries.c.flow_run_id.is_not(None))
    with app.engine(database).connect() as connection:
        known, place = ledger.get(connection, FAR), ledger.get(connection, NEXT)
    closed: list[Entry] = []
    near: Sequence[Any] = next(_chunks(app, database, FEW + 1, *waiting), [])
    if len(near) > FEW:
        start = _place(place) if place else None
        near = next(_chunks(app, database, NEAR_AT_ONCE, *waiting, entries.c.due < limit, start=start), [])
    closed += _look(app, database, api, near, now, keep)
    more = f"{near[-1].due.isoformat()} {near[-1].task_id}" if len(near) == NEAR_AT_ONCE else None

    difference, looked, seen = _far(known)
    found = _difference(app, database, api, limit)
    if found != difference or abs(now - seen) > GAP or (found and now - looked >= AGAIN):
        for chunk in _chunks(app, database, FAR_AT_ONCE, *waiting, entries.c.due >= limit):
            closed += _look(app, database, api, chunk, now, keep)
        if found > 0:
            _look_back(app, database, api, limit, keep)
        found, looked = _difference(app, database, api, limit), now
    with app.engine(database).begin() as connection:
        ledger.put(connection, FAR, f"{found} {looked.isoformat()} {now.isoformat()}")
        if more != place:
            ledger.put(connection, NEXT, more)
    return closed


def _place(text: str) -> tuple[datetime, str]:
    due, _, task_id = text.partition(" ")
    return datetime.fromisoformat(due), task_id


def _far(known: str | None) -> tuple[int, datetime, datetime]:
    """The difference that the last sync left, when it was looked into, and when the last sync was."""
    if known is None:
        return 0, datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    found, looked, seen = known.split(" ")
    return int(found), datetime.fromisoformat(looked), datetime.fromisoformat(seen)


def _difference(app: App, database: str, api: Api, limit: datetime) -> int:
    """How many runs Prefect has more than the ledger (fewer: negative) of those due from an instant on."""
    before = _expected(app, database, limit)
    there = api.count_runs(**_live(app, database, limit))
    least, most = before
    if not least <= there <= most:
        # What others made or cancelled since the first look at the ledger may be counted or not.
        after = _expected(app, database, limit)
        least, most = min(least, after[0]), max(most, after[1])
    return min(there - least, 0) or max(there - most, 0)


def _live(app: App, database: str, limit: datetime) -> dict[str, Any]:
    """The filter for the runs that are due from an instant on, and that we made."""
    return {
        "deployments": {"name": {"any_": templates_in(app, database)}},
        "flow_runs": {
            "state": {"type": {"any_": list(LIVE)}},
            "expected_start_time": {"after_": limit.isoformat()},
            "created_by": {"is_null_": True},  # a schedule's own runs name their deployment there
        },
    }


def _look_back(app: App, database: str, api: Api, limit: datetime, keep: Keep) -> None:
    """Find the runs that wait for tasks that are ended, as in an older copy of Prefect: they are cancelled again."""
    offset = 0
    while page := api.runs(limit=PAGE, offset=offset, sort="ID_DESC", **_live(app, database, limit)):
        mine = (entries.c.flow_run_id.in_([run["id"] for run in page]), entries.c.status == "ended")
        with app.engine(database).begin() as connection:
            connection.execute(update(entries).where(*mine).values(dirty=True))
        offset += len(page)
        keep()


def templates_in(app: App, database: str) -> list[str]:
    """The templates whose tasks stand in a database's ledger; scheduled ones' in the default one."""
    rows = {t.fullName: app.database_of(t.model_name) for t in app.templates() if isinstance(t, DateFieldType)}
    return [name for name in app.names("tasks") if rows.get(name, DEFAULT) == database]


def _expected(app: App, database: str, limit: datetime) -> tuple[int, int]:
    """The least and the most runs that Prefect may have: without, and with, those that change just now."""
    count = select(func.count()).select_from(entries).where(entries.c.due >= limit)
    own = count.where(entries.c.batch.is_(None))
    runs = select(func.count(entries.c.flow_run_id.distinct())).where(entries.c.due >= limit)
    shared = runs.where(entries.c.batch.is_not(None), entries.c.status == "pending", entries.c.dirty.is_(False))
    with app.engine(database).connect() as connection:
        waiting = connection.execute(own.where(entries.c.status == "pending")).scalar_one()
        dirty = connection.execute(count.where(entries.c.dirty.is_(True))).scalar_one()
        new = connection.execute(own.where(entries.c.dirty.is_(True), entries.c.status == "pending")).scalar_one()
        begun = connection.execute(count.where(entries.c.status == "executing")).scalar_one()
        least = waiting - new + connection.execute(shared).scalar_one()
    return least, least + dirty + begun


def _look(app: App, database: str, api: Api, waiting: Sequence[Any], now: datetime, keep: Keep) -> list[Entry]:
    """Ask for the runs of some tasks by id, and take up what became of them; the tasks that were closed."""
    closed = []
    for first in range(0, len(waiting), PAGE):
        part = waiting[first : first + PAGE]
        ids = sorted({e.flow_run_id for e in part})
        runs = {r["id"]: r for r in api.runs(flow_runs={"id": {"any_": ids}})}
        batched = [e for e in part if e.batch is not None]
        own = [e for e in part if e.batch is None]
        spent, endings = _of_batches(app, database, api, batched, runs, now)
        spent += [e for e in own if came_to_nothing(run := runs.get(e.flow_run_id)) or never_begun(run, e.due, now)]
        endings += [(e, ending) for e in own if (run := runs.get(e.flow_run_id)) and (ending := ending_of(run))]
        if spent or endings:
            with app.engine(database).begin() as connection:
                for record in spent:
                    same = (entries.c.task_id == record.task_id, entries.c.flow_run_id == record.flow_run_id)
                    again = update(entries).where(*same, entries.c.status == "pending")
                    connection.execute(again.values(dirty=True))
                for record, ending in endings:
                    if settle(connection, record.task_id, runs[record.flow_run_id], ending, now):
                        closed.append(ledger.to_entry(record))
        keep()
    return closed


def _of_batches(
    app: App, database: str, api: Api, waiting: Sequence[Any], runs: Mapping[str, Mapping[str, Any]], now: datetime
) -> tuple[list[Any], list[tuple[Any, batches.Ending]]]:
    """Of tasks in batches, those that need another flow run, and those that have ended."""
    spent, endings = [], []
    for run_id in {e.flow_run_id for e in waiting}:
        mine, run = [e for e in waiting if e.flow_run_id == run_id], runs.get(run_id)
        with app.engine(database).connect() as connection:
            found = batches.fate(connection, run, mine[0].due, now)
        results = batches.results_of(api.table(run_id)) if found is True and run else {}
        for entry in mine:
            if (ending := results.get(entry.task_id) or found) is True:
                spent.append(entry)
            elif isinstance(ending, tuple):
                endings.append((entry, ending))
    return spent, endings


def recover(app: App, database: str, now: datetime) -> list[Entry]:
    """Executions whose lease ran out: their worker died. With retries left they begin again, else they are errors.

    Returns:
        Those that ended as errors.
    """
    query = select(entries).where(entries.c.status == "executing", entries.c.lease_until < now)
    ended = []
    with app.engine(database).begin() as connection:
        for record in connection.execute(query).all():
            entry = ledger.to_entry(record)
            mine = (entries.c.task_id == entry.task_id, entries.c.status == "executing", entries.c.owner == entry.owner)
            retries = _retries(app, entry)
            if entry.attempt <= retries:
                # The flow run's id stays until the next one is made: the dead one is marked as crashed then.
                again = {"status": "pending", "owner": None, "lease_until": None, "dirty": True}
                connection.execute(update(entries).where(*mine).values(**again))
                log.warning("%s %s: its worker died; it is tried again", entry.template, entry.task_id)
                continue
            died = {
                "status": "error",
                "outcome": "died",
                "message": "error: worker died",
                "finished": now,
                "owner": None,
                "dirty": True,
            }
            if connection.execute(update(entries).where(*mine).values(**died)).rowcount:
                ended.append(entry)
    return ended


def _retries(app: App, entry: Entry) -> int:
    try:
        return app.template(entry.template).cfg.retries
    except JittaskError:
        return 0


def app_tag(app: App) -> str:
    """The tag that every deployment of the app carries."""
    return f"app:{app.name}"


def run_name(app: App, entry: Entry) -> str:
    """A flow run's name: model, key and due time in the task's zone, e.g. `Contract 42 · 2026-12-01 09:00`."""
    try:
        zone: Any = app.template(entry.template).timer.zone
    except JittaskError:
        zone = None
    what = (entry.model or entry.template).partition(".")[2]
    return plain(f"{what} {entry.row_key}".strip()) + f" · {entry.due.astimezone(zone):%Y-%m-%d %H:%M}"


def batch_name(app: App, group: batches.Group, number: int) -> str:
    """A batch's name: template, due time in its zone, and from the second one on its number."""
    template = app.template(group.template)
    more = f" ({number})" if number > 1 else ""
    return plain(template.title) + f" · {group.due.astimezone(template.timer.zone):%Y-%m-%d %H:%M}{more}"


def run_tags(entry: Entry) -> list[str]:
    """A flow run's tags: template, model, and row."""
    return [entry.template, *([entry.model, plain(f"{entry.model}:{entry.row_key}")] if entry.model else [])]


def plain(text: str) -> str:
    """A text as Prefect takes it in names and tags: no `/ % & < >`, no placeholder, at most 120 characters."""
    for bad, good in (("{{", "{ {"), ("}}", "} }"), ("__prefect_kind", "prefect_kind")):
        text = text.replace(bad, good)
    return "".join("_" if c in "/%&<>" or ord(c) < 32 else c for c in text)[:120]
