"""The campaign: rows change, syncs and executions run and are killed, and the oracle watches."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from failpoints import BATCH_EXECUTION, BATCH_SYNC, EXECUTION, STOPS, SYNC
from oracle import COUNTERS, KINDS, RETRIES, Effect, Key, Oracle, Row, dues
from sqlalchemy import NullPool, create_engine, select, text

from jittask_prefect.ledger.tables import entries

from . import children
from .children import Context, Op
from .shop import ZONE, Clock

FORK = multiprocessing.get_context("fork")
ENABLED = datetime(2037, 3, 11, 8)  # a Wednesday: nothing before is looked back to
BEGIN = datetime(2037, 3, 16, 8)  # the Monday after
LEASE = 26  # seconds after which a dead process's leases have run out
OPEN = "SELECT task_id, template, row_key, due, status FROM jittask_ledger WHERE status IN ('pending', 'executing')"


class Campaign:
    """Steps of some virtual minutes, until there were enough occurrences and kills.

    Args:
        context: What the child processes share; nothing of it has a connection yet, since a fork would share that, too.
        api: This process's own Prefect.
        clock: The virtual time; the context's `now` reads it.
        url: The business database.
        seed: Of everything but the moments of random kills.
        rows: How many rows there are at a time.
        without: Failpoints to leave out.
        server: Kills the Prefect server, and starts it again; absent where it cannot be killed.
    """

    def __init__(
        self,
        context: Context,
        api: Any,
        clock: Clock,
        url: str,
        seed: int,
        rows: int,
        without: frozenset[str],
        server: tuple[Callable[[], int], Callable[[], None]] | None = None,
    ) -> None:
        self.context, self.api, self.clock, self.size = context, api, clock, rows
        self.engine = create_engine(
            url,
            poolclass=NullPool,
            connect_args={"timeout": 30} if "sqlite" in url else {},
        )
        self.random = random.Random(seed)
        self.oracle = Oracle()
        self.points = [p for p in {**SYNC, **BATCH_SYNC} if p not in without]
        self.deaths = [p for p in {**EXECUTION, **BATCH_EXECUTION} if p not in without]
        self.kills: Counter[str] = Counter()
        self.server = server
        self.beside: defaultdict[str, Counter[str]] = defaultdict(
            Counter
        )  # what was found after which kills
        self._before: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        self.count: Counter[str] = Counter()
        self.took: Counter[str] = Counter()
        self.events: list[str] = []
        self.keys = self.dates = self.steps = 0
        self._read = self._seen = 0
        self._begun: dict[tuple[int, str], list[int]] = {}
        self._open: Counter[str] = Counter()
        self._cancelled: dict[Key, int] = {}
        self.ids = [d.id for d in api.deployments("app:campaign").values()]
        self.errors: list[str] = []

    # Processes

    def start(self, work: Callable[..., Any], *args: Any) -> Any:
        process = FORK.Process(target=children.run, args=(self.context, work, *args))
        process.start()
        return process

    def wait(
        self, process: Any, kind: str, point: str = "", kill_within: float = 0
    ) -> int:
        """Wait for a process, or kill it at a random moment; its exit code."""
        begun = time.monotonic()
        if kill_within:
            process.join(self.random.uniform(0, kill_within))
            point = "random"
            if process.exitcode is None:
                os.kill(process.pid, signal.SIGKILL)
        process.join(240)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            self.errors.append(f"{kind} {point} hung for 240 s")
            process.join()
        code = int(process.exitcode)
        self.took[kind] += time.monotonic() - begun
        if code == -signal.SIGKILL:
            self.kills[f"{kind}:{point}"] += 1
        self.event(f"{kind} {process.pid} {point} -> {code}")
        return code

    def event(self, what: str) -> None:
        self.events.append(f"{self.clock.local():%d %H:%M:%S} {what}")

    def begin(self) -> None:
        """Enable the templates, days before there are rows: what is enabled first looks back to nothing."""
        self.clock.set(ENABLED)
        assert self.wait(self.start(children.one_sync), "sync") == 0
        self.clock.set(BEGIN)
        assert self.wait(self.start(children.one_sync), "sync") == 0
        for number in range(self.size):
            kind = ("once", "once", "once", "office", "every", "daily")[number % 6]
            self._raw(*self._new(kind))

    # Rows

    def date(self, kind: str) -> datetime:
        """A date that no row ever had."""
        self.dates += 1
        r, now = self.random, self.clock.local()
        minutes = timedelta(minutes=r.randint(-40, 200))
        if kind == "office":
            at = now + minutes - timedelta(days=r.randint(1, 4))
        elif kind == "every":
            at = now + timedelta(minutes=r.randint(-420, 60))
        elif kind == "daily":
            at = now + timedelta(minutes=r.randint(-3600, 60))
        elif r.random() < 0.1:
            at = now + timedelta(days=r.choice([-4, -3, -2, 2, 5])) + minutes
        else:
            at = now + minutes
        return at.replace(second=0, microsecond=self.dates)

    def _new(self, kind: str) -> tuple[int, dict[str, Any]]:
        self.keys += 1
        return self.keys, {"kind": kind, "at": self.date(kind), "status": "open"}

    def _applied(
        self, way: str, key: int, values: dict[str, Any] | None, begin: int, end: int
    ) -> None:
        new: dict[str, Any] = (
            {"gone": True}
            if values is None
            else {k: v for k, v in values.items() if k in ("kind", "at")}
        )
        if values and "status" in values:
            new["open"] = values["status"] == "open"
        self.oracle.change(key, begin, end, self.clock.local(), way, **new)

    def _raw(self, key: int, values: dict[str, Any] | None) -> None:
        self._applied("raw", key, values, *children.raw(self.engine, key, values))

    def churn(self) -> tuple[list[Op], list[tuple[int, dict[str, Any] | None]]]:
        """What changes in a step: through the ORM, and by raw SQL; no row in both."""
        r, now = self.random, self.clock.local()
        rows = [row for row in self.oracle.rows.values() if not row.gone]
        r.shuffle(rows)
        orm: list[Op] = []
        sql: list[tuple[int, dict[str, Any] | None]] = []
        # What is about to run, and is not to any more, unseen by hook and sync: only the look at the due moment helps.
        soon = [
            row
            for row in rows
            if row.kind == "once" and row.now.valid and self._soon(row, now)
        ]
        for row in soon[: max(2, self.size // 40)]:
            later = self.date("once").replace(day=now.day, hour=now.hour) + timedelta(
                hours=r.randint(5, 40)
            )
            sql.append(
                (
                    row.id,
                    r.choice([{"at": later}, {"at": later}, {"status": "paid"}, None]),
                )
            )
        rows = [row for row in rows if row.id not in {key for key, _ in sql}]
        rows.sort(key=lambda row: not self.oracle.spent(row, now) or r.random() < 0.3)
        for row in rows[: max(10, self.size // 8)]:
            at, what = row.now.at, r.random()
            changes: list[dict[str, Any] | None]
            if what < 0.6 or not row.now.valid:
                changes = [{"at": self.date(row.kind), "status": "open"}]
            elif what < 0.66:
                changes = [None]
            elif what < 0.72:
                changes = [{"at": None}]
            elif what < 0.82:
                changes = [
                    {"status": "paid"},
                    *([{"status": "open"}] if r.random() < 0.5 else []),
                ]
            elif what < 0.9:
                changes = [{"note": f"touched {self.dates}"}]
            else:
                changes = [{"at": self.date(row.kind)}, {"at": at}]
            back = len(changes) == 2 and "at" in (changes[0] or {})
            # A date that is due and comes back by raw SQL is nothing that anybody could see.
            if r.random() < 0.5 and not (
                back and at and at <= now + timedelta(hours=12)
            ):
                sql += [(row.id, change) for change in changes]
                continue
            way = r.choice(["orm", "orm", "savepoint", "flushes"])
            if r.random() < 0.15:
                orm.append(
                    {"way": "rollback", "rows": [(row.id, {"at": self.date(row.kind)})]}
                )
            orm += [{"way": way, "rows": [(row.id, change)]} for change in changes]
        paid = [
            op
            for op in orm
            if op["rows"][0][1] == {"status": "paid"} and op["way"] == "orm"
        ]
        for op in paid:
            op |= {"way": "bulk", "values": {"status": "paid"}}
        for _ in range(max(0, self.size - len(rows) - len(soon))):
            fresh = self._new(
                r.choice(["once", "once", "once", "office", "every", "daily"])
            )
            if r.random() < 0.5:
                sql.append(fresh)
            else:
                orm.append({"way": "orm", "rows": [fresh]})
        return orm, sql

    def _soon(self, row: Row, now: datetime) -> bool:
        """Whether a row has become due in the last minutes, or will within two, and nothing has run yet."""
        assert row.now.at is not None
        found = {
            (t, due)
            for t in KINDS[row.kind]
            for due in dues(t, row.now.at, now + timedelta(minutes=2))
        }
        known = {
            (t, due)
            for t, due in found
            if (t, row.id, row.now.version, due) in self.oracle.effects
        }
        return any(due > now - timedelta(minutes=10) for _, due in found - known)

    def saved(self, process: Any, ops: list[Op], begun: int) -> None:
        """Take up what a process saved through the ORM."""
        code = self.wait(process, "saves")
        for _, number, begin, end in self.notes("saved", process.pid, begun):
            op = ops[number]
            for key, values in op["rows"] if op["way"] != "rollback" else []:
                self._applied(op["way"], key, op.get("values", values), begin, end)
        if code:
            self.errors.append(f"a save failed with exit code {code}")

    def notes(self, kind: str, pid: int, after: int) -> list[tuple[Any, ...]]:
        """What a process wrote into the journal from a place on."""
        with self.context.journal.open() as file:
            file.seek(after)
            lines = [json.loads(line) for line in file]
        return [tuple(line[1:]) for line in lines if line[0] == pid and line[1] == kind]

    def size_of_journal(self) -> int:
        return (
            self.context.journal.stat().st_size if self.context.journal.exists() else 0
        )

    # Steps

    def step(self) -> None:
        self.steps += 1
        r = self.random
        self.clock.advance(seconds=r.randint(60, 600))
        orm, sql = self.churn()
        together = r.random() < 0.5
        running: list[tuple[Any, str, str, float]] = []
        if together:
            running += self._executors()
            running += self._syncs(r.randint(1, 3))
        begun = self.size_of_journal()
        saver = self.start(children.saves, orm)
        for key, change in sql:
            self._raw(key, change)
        self.saved(saver, orm, begun)
        if not together and r.random() < 0.5:
            running += self._executors()  # before any sync has seen what changed
        for process in running:
            self.wait(*process)
        if r.random() < 0.25:
            self._stopped()
        for _ in range(r.randint(2, 4)):
            self.clock.advance(seconds=LEASE + r.randint(0, 20))
            for process in self._syncs(1):
                self.wait(*process)
        if not together:
            running = self._executors()
            if r.random() < 0.5:
                self._force()
            for process in running:
                self.wait(*process)
        if r.random() < 0.4:
            self._meddle()
        if self.server and self.steps % 16 == 8:
            self._server_killed(*self.server)
        if self.steps % 4 == 0:
            self.settle()

    def _syncs(self, number: int) -> list[tuple[Any, str, str, float]]:
        """Syncs at once, most of them to be killed."""
        found = []
        for _ in range(number):
            how = self.random.random()
            if how < 0.55:
                point = self.random.choice(self.points)
                nth = self.random.choice([1, 1, 1, 2, 3, 7])
                found.append(
                    (self.start(children.one_sync, point, nth), "sync", point, 0.0)
                )
            elif how < 0.85:
                found.append((self.start(children.one_sync), "sync", "random", 0.4))
            elif how < 0.95:
                found.append(
                    (
                        self.start(
                            children.one_sync, None, 1, self.random.randint(1, 10**6)
                        ),
                        "sync",
                        "lossy",
                        0.0,
                    )
                )
            else:
                found.append((self.start(children.one_sync), "sync", "", 0.0))
        return found

    def _executors(self) -> list[tuple[Any, str, str, float]]:
        """Workers, each with its share, or two with the same runs; some to be killed."""
        of, found = self.random.choice([1, 2, 2]), []
        twice = self.random.random() < 0.15
        for part in range(of):
            share = (0, 1) if twice else (part, of)
            how = self.random.random()
            if how < 0.45:
                point = self.random.choice(self.deaths)
                args = (*share, point, self.random.randint(1, 6))
                found.append(
                    (
                        self.start(children.executor, self.ids, *args),
                        "executor",
                        point,
                        0.0,
                    )
                )
            else:
                kill = 0.6 if how < 0.6 else 0.0
                found.append(
                    (
                        self.start(children.executor, self.ids, *share),
                        "executor",
                        "",
                        kill,
                    )
                )
        return found

    def _stopped(self) -> None:
        """A sync that stands still while its lease runs out, another takes over, and then it goes on."""
        first = self.start(
            children.one_sync, self.random.choice(STOPS), 1, 0, signal.SIGSTOP
        )
        while first.exitcode is None and not _stopped(first.pid):
            first.join(0.01)
        if first.exitcode is None:
            self.count["stopped"] += 1
        self.clock.advance(seconds=LEASE)
        self.wait(self.start(children.one_sync), "sync", "beside a stopped one")
        for key, change in self.churn()[1]:
            self._raw(key, change)
        if first.exitcode is None:
            os.kill(first.pid, signal.SIGCONT)
        self.wait(first, "sync", "stopped")

    def _server_killed(
        self, kill: Callable[[], int], restart: Callable[[], None]
    ) -> None:
        """The Prefect server is killed beside a sync and two workers."""
        running = [(self.start(children.one_sync), "sync")]
        running += [
            (self.start(children.executor, self.ids, part, 2), "executor")
            for part in range(2)
        ]
        time.sleep(self.random.uniform(0, 0.8))
        self.kills["server:random"] += kill()
        for process, kind in running:
            self.wait(process, kind, "server killed")
        restart()

    def _tasks(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(OPEN)))

    def _key(self, task: Any) -> Key | None:
        due = (
            task.due
            if isinstance(task.due, datetime)
            else datetime.fromisoformat(task.due)
        )
        return self.oracle.key_of(task.template, int(task.row_key), due + ZONE)

    def _force(self) -> None:
        """Forced ends of some tasks, executing ones among them, beside the executors."""
        tasks = self._tasks()
        dead = [t for t in tasks if t.status == "executing"][:1]
        chosen = dead + self.random.sample(tasks, min(2, len(tasks)))
        known = {t.task_id: self._key(t) for t in chosen}
        begun = self.size_of_journal()
        process = self.start(children.end, list(known))
        self.wait(process, "forcedEnd")
        for _, task, changed, moment in self.notes("forced", process.pid, begun):
            if changed:
                self.count["forced"] += 1
                self.oracle.ended[task] = moment
                if key := known[task]:
                    self.oracle.closed[key] = moment
                    self.oracle.rows[key[1]].log.append(
                        f"{self.clock.local():%d %H:%M} forced end of {task}, {key}"
                    )

    def _meddle(self) -> None:
        """Somebody works in the UI: runs are deleted, marked as crashed, cancelled."""
        api = self.api
        where = {
            "deployment_id": {"any_": self.ids},
            "state": {"type": {"any_": ["SCHEDULED"]}},
        }
        runs = api.runs(flow_runs=where, limit=50)
        tasks = {t.task_id: t for t in self._tasks() if t.status == "pending"}
        self.random.shuffle(runs)
        for number, run in enumerate(runs[:5]):
            task = tasks.get(run.parameters.get("taskId"))
            if task is None:
                if "due" in run.parameters:
                    self._meddle_with_batch(run.id, number)
                continue
            log = self.oracle.rows[int(task.row_key)].log
            if number == 0:
                api.set_state(run.id, "CANCELLING")
                if key := self._key(task):
                    self._cancelled[key] = len(self.oracle.rows[key[1]].spans)
                    self.oracle.free.add(key)
                log.append(
                    f"{self.clock.local():%d %H:%M} run {run.id} of {task.task_id} cancelled"
                )
                self.count["cancelled"] += 1
            elif number < 3:
                api.delete_run(run.id)
                log.append(
                    f"{self.clock.local():%d %H:%M} run {run.id} of {task.task_id} deleted"
                )
                self.count["deleted"] += 1
            else:
                api.set_state(run.id, "CRASHED")
                log.append(
                    f"{self.clock.local():%d %H:%M} run {run.id} of {task.task_id} crashed"
                )
                self.count["crashed"] += 1

    def _meddle_with_batch(self, run_id: str, number: int) -> None:
        if number % 2:
            self.api.delete_run(run_id)
        else:
            self.api.set_state(run_id, "CRASHED")
        self.count["batches deleted" if number % 2 else "batches crashed"] += 1

    def slow(self) -> None:
        """A forced end of a function that is at work: its process must be gone, and nothing of it stay."""
        key, values = self._new("once")
        at = self.clock.local().replace(second=0, microsecond=self.dates)
        self._raw(key, {**values, "at": at, "note": "slow"})
        self.clock.advance(seconds=LEASE)
        self.wait(self.start(children.one_sync), "sync")
        with self.engine.connect() as connection:
            query = text(OPEN + " AND row_key = :key AND template = 'tasks.Once'")
            task = connection.execute(query, {"key": str(key)}).first()
        if task is None:
            return
        runs = children.due_runs(self.api, self.ids, self.clock.now())
        run = next(
            (r for r in runs if r.parameters.get("taskId") == task.task_id), None
        )
        if run is None:
            return
        worker = self.start(children.one_run, run)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and not any(
            t.task_id == task.task_id and t.status == "executing" for t in self._tasks()
        ):
            time.sleep(0.05)
        begun = self.size_of_journal()
        ender = self.start(children.end, [task.task_id])
        self.wait(ender, "forcedEnd")
        for _, _, changed, moment in self.notes("forced", ender.pid, begun):
            if changed:
                self.count["forced while executing"] += 1
                self.oracle.ended[task.task_id] = moment
                if known := self._key(task):
                    self.oracle.closed[known] = moment
        self.wait(worker, "executor", "forced end")
        self._raw(key, {"note": ""})

    # The end of some steps

    def settle(self) -> None:
        """Syncs and workers that live, until nothing is due; then the oracle looks."""
        until = self.clock.local()
        for round_ in range(12):
            self.clock.advance(seconds=LEASE)
            code = self.wait(self.start(children.one_sync), "sync", "settling")
            running = [
                self.start(children.executor, self.ids, part, 2) for part in range(2)
            ]
            for process in running:
                if self.wait(process, "executor", "settling"):
                    self.errors.append("an executor failed")
            if code == 0 and round_ > 1 and not self._is_work_left():
                break
        else:
            self.errors.append(f"{until}: not settled after 12 rounds")
        self.check(until)

    def _is_work_left(self) -> bool:
        """Whether a flow run is due, or a task that waits in the ledger for its turn without a run."""
        now = self.clock.now()
        due = (entries.c.status == "pending", entries.c.due <= now)
        with self.engine.connect() as connection:
            waits = connection.execute(select(entries.c.task_id).where(*due)).first()
        return bool(waits or children.due_runs(self.api, self.ids, now))

    def check(self, until: datetime) -> None:
        self._journal()
        with self.engine.connect() as connection:
            there = {
                r.id: (r.at, r.status == "open")
                for r in connection.execute(text("SELECT id, at, status FROM item"))
            }
            query = text("SELECT * FROM effect WHERE seq > :seen ORDER BY seq")
            effects = list(connection.execute(query, {"seen": self._seen}))
            tasks = (
                {
                    t.task_id: t
                    for t in connection.execute(text(OPEN.split(" WHERE ")[0]))
                }
                if self._open
                else {}
            )
        held = {
            k: (row.now.at, row.now.open)
            for k, row in self.oracle.rows.items()
            if not row.gone
        }
        found = {
            k: (datetime.fromisoformat(at) if isinstance(at, str) else at, o)
            for k, (at, o) in there.items()
        }
        if held != found:
            raise AssertionError(
                f"the oracle's rows are not the database's: {set(held.items()) ^ set(found.items())}"
            )
        for e in effects:
            self._seen = e.seq
            moments = [
                ns for ns in self._begun.get((e.pid, e.task_id), []) if ns <= e.began
            ]
            at, due = datetime.fromisoformat(e.at), datetime.fromisoformat(e.due)
            effect = Effect(
                e.task_id, e.template, e.row_id, at, due, e.began, max(moments)
            )
            self.oracle.effect(effect, self.clock.local())
        for task, times in self._open.items():
            if task not in tasks or times <= RETRIES.get(tasks[task].template, 1):
                continue
            if (key := self._key(tasks[task])) and key not in self.oracle.effects:
                self.count["died"] += key not in self.oracle.free
                self.oracle.free.add(key)
        for key, spans in list(self._cancelled.items()):
            if len(self.oracle.rows[key[1]].spans) == spans:
                self.oracle.closed.setdefault(key, time.monotonic_ns())
            del self._cancelled[key]
        self.oracle.settle(until)
        self._blame()

    def _blame(self) -> None:
        """Count what was found beside each kill since the last time, of which one is to blame."""
        kills, count = self._before
        self._before = self.kills.copy(), self.oracle.count.copy()
        if found := self.oracle.count - count:
            for name in (self.kills - kills) or {"nothing:": 0}:
                self.beside[name].update(found)

    def matrix(self) -> list[tuple[object, ...]]:
        """What was killed, where, how often, and what was found after it."""
        rows: list[tuple[object, ...]] = []
        for name in sorted(self.kills | self.beside):
            what, _, where = name.partition(":")
            counts = self.beside.get(name, Counter())
            of = {"executor": "child"}.get(what, what)
            rows.append(
                (
                    of,
                    where,
                    self.kills[name],
                    *(counts[counter] for counter in COUNTERS),
                )
            )
        return rows

    def _journal(self) -> None:
        with self.context.journal.open() as file:
            file.seek(self._read)
            lines = file.readlines()
            self._read = file.tell()
        for line in lines:
            pid, kind, *rest = json.loads(line)
            if kind == "begin":
                self._begun.setdefault((pid, rest[0]), []).append(rest[1])
                self._open[rest[0]] += 1
            elif kind == "end":
                self._open[rest[0]] -= 1
            elif kind in ("exception", "problem"):
                self.count[kind] += 1
                if self.count[kind] <= 5 or kind == "exception":
                    print(kind, *rest, sep=": ", file=sys.stderr, flush=True)

    def history(self, row: int) -> str:
        """All that is known about a row."""
        known = self.oracle.rows[row]
        with self.engine.connect() as connection:
            query = text(
                "SELECT task_id, template, due, generation, status, outcome, message, attempt, dirty,"
                " flow_run_id, created FROM jittask_ledger WHERE row_key = :key ORDER BY template, generation, due"
            )
            found = list(connection.execute(query, {"key": str(row)}))
        ledger = [" ".join(map(str, r)) for r in found]
        runs = [
            (r.flow_run_id, self.api.run(r.flow_run_id))
            for r in found
            if r.status == "pending" and r.flow_run_id
        ]
        effects = [
            f"{k} by {e.task_id}" for k, e in self.oracle.effects.items() if k[1] == row
        ]
        parts = {
            "changes": known.log,
            "ledger": ledger,
            "runs": [f"{i} {r.state_type if r else None}" for i, r in runs],
            "effects": effects,
            "last events": self.events[-60:],
        }
        return "\n".join(
            f"{name}:\n  " + "\n  ".join(lines) for name, lines in parts.items()
        )


def _stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"
