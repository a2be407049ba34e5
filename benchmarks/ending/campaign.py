"""The campaign: tasks are made, ended at random moments by various means, with all alive or right after a kill."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlmodel import Session

from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger.entry import Entry, find_entry, to_entry
from jittask_prefect.ledger.tables import OPEN, entries
from jittask_prefect.prefect_api.answers import TERMINAL, FlowRun
from jittask_prefect.rows.sync import RETURN_AFTER
from jittask_prefect.schedule import clock

from . import server
from .ground import Ground, until
from .shop import AGAIN, BATCH, EVERY, MADE, ROW, WAYS
from .signs import Signs

CARRIERS = {ROW: 4, BATCH: 3, MADE: 3, EVERY: 1}
MOMENTS = {"before": 1, "waiting": 1, "claim": 2, "executing": 5, "late": 2}
MEANS = {"facade": 6, "run": 1, "command": 1, "cancel": 3}
TOGETHER = 10  # tasks that are made and ended beside each other
PHASE = 8  # tasks that are at work when a worker or a server is killed
SYNC_SECONDS = 10.0
CANCELLING_SECONDS = 16.0
LONG = 60.0  # seconds that functions go on for which are to be found at work
NS = 1_000_000_000


@dataclass
class Target:
    """A task, or a batch, that is to be ended."""

    number: int
    carrier: str
    way: str
    moment: str
    means: str
    length: float
    killed: str = ""  # what was killed just before: `worker`, `server`
    tasks: list[str] = field(
        default_factory=list
    )  # the first one is the one that is ended
    rows: list[int] = field(default_factory=list)
    run_id: str | None = None
    due: datetime | None = None
    asked: int = 0
    said: int = 0
    answer: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    at_work: bool = False  # when its end was asked for

    @property
    def whole(self) -> bool:
        """Whether the flow run is ended, with all that it has to do."""
        return self.means in ("cancel", "run")

    def __str__(self) -> str:
        killed = f", {self.killed} killed" if self.killed else ""
        return f"{self.number}: {self.carrier} {self.way} {self.moment} by {self.means}{killed}, {self.tasks[:1]}"


class Campaign:
    """Ends, one group of tasks after the other.

    Args:
        ground: App, server and workers.
        signs: What functions leave.
        seed: Of what is made and ended how; the moments are the machine's as well.
        lite: The business database is SQLite.
    """

    def __init__(self, ground: Ground, signs: Signs, seed: int, *, lite: bool) -> None:
        self.ground, self.signs, self.seed, self.lite = ground, signs, seed, lite
        self.targets: list[Target] = []
        self.again: dict[
            str, list[str]
        ] = {}  # tasks whose child, worker or server was killed, and that nobody ended
        self.kills: Counter[str] = Counter()
        self.problems: list[str] = []
        self._taken: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    # What is made

    def target(self, number: int, **keys: Any) -> Target:
        """What is ended, and how; the same for the same number."""
        chance = random.Random(f"{self.seed}-{number}")

        def one(of: dict[str, int]) -> str:
            return chance.choices(list(of), list(of.values()))[0]

        carrier, moment, means = one(CARRIERS), one(MOMENTS), one(MEANS)
        if carrier == EVERY:
            # Its runs begin at whole minutes, one each: few are waited for.
            moment = "waiting" if number % 5 else chance.choice(["claim", "executing"])
            means = "facade" if means == "run" else means
        if moment == "before":
            means, carrier = "facade", carrier if carrier in (ROW, BATCH) else ROW
        length = {"late": chance.uniform(1, 3), "executing": LONG}.get(
            moment, chance.uniform(1, 4)
        )
        made = {
            "carrier": carrier,
            "way": chance.choice(WAYS),
            "moment": moment,
            "means": means,
            "length": length,
        }
        return Target(number, **(made | keys))

    def make(self, target: Target, lead: float) -> None:
        """Make a target's task, due so many seconds from now."""
        target.due = clock.now() + timedelta(seconds=lead)
        if target.carrier == MADE:
            given = {"way": target.way, "length": target.length}
            answer = self.ground.svc.createTimerTask(
                MADE, target.due, "customFunc", "tasks.EndsType", given
            )
            target.tasks, target.run_id = [answer["taskId"]], answer["taskId"]
        elif target.carrier == EVERY:
            self._choose(target)
        else:
            target.rows = self._save(target)
            found = until(lambda: self._of_rows(target.carrier, target.rows), 10)
            target.tasks = [found[row].task_id for row in target.rows]

    def _save(self, target: Target) -> list[int]:
        mark: Any = self.ground.app.getElement("models.Mark")
        assert target.due is not None
        kind, at = (
            target.carrier.removeprefix("tasks.Ends").lower(),
            target.due.replace(tzinfo=None),
        )
        made = [mark(kind=kind, at=at, way=target.way, length=target.length)]
        if target.carrier == BATCH:
            made += [mark(kind=kind, at=at, way="sleep", length=0.2) for _ in range(2)]
        with Session(self.ground.app.engine(), expire_on_commit=False) as session:
            session.add_all(made)
            session.commit()
        return [row.id for row in made]

    def _of_rows(self, template: str, rows: list[int]) -> dict[int, Entry] | None:
        """The first entry of each row, once all are there."""
        keys = [str(row) for row in rows]
        where = (
            entries.c.template == template,
            entries.c.row_key.in_(keys),
            entries.c.generation == 1,
        )
        with self.ground.app.engine().connect() as connection:
            query = entries.select().where(*where).order_by(entries.c.due.desc())
            found = {
                int(str(e.row_key)): e for e in map(to_entry, connection.execute(query))
            }
        return found if len(found) == len(rows) else None

    def _choose(self, target: Target) -> None:
        """A run that the schedule has made, and that no other target has."""
        of = {
            "deployment_id": {"any_": [self.ground.deployments[EVERY].id]},
            "state": {"type": {"any_": ["SCHEDULED"]}},
        }

        def look() -> dict[str, Any] | None:
            runs = self.ground.api.runs(
                flow_runs=of, sort="EXPECTED_START_TIME_ASC", limit=20
            )
            waits = target.moment == "waiting"
            ahead = clock.now() + timedelta(seconds=70 if waits else 3)
            with self._lock:
                for run in (
                    reversed(runs) if waits else runs
                ):  # the next ones are for those that are to run
                    if run.id not in self._taken and run.expected_start_time > ahead:
                        self._taken.add(run.id)
                        return run
            return None

        if (run := until(look, 30, 1.0)) is None:
            raise JittaskError("the schedule has no run to be ended")
        target.tasks, target.run_id = [run.id], run.id
        target.due = run.expected_start_time

    def entry(self, task: str) -> Entry | None:
        """A task's entry, by its id or its flow run's."""
        with self.ground.app.engine().connect() as connection:
            return find_entry(connection, task)

    def _run_of(self, target: Target) -> str | None:
        if target.run_id is None or target.carrier == BATCH:
            found = self.entry(target.tasks[0])
            target.run_id = (
                found.flow_run_id if found and found.flow_run_id else target.run_id
            )
        return target.run_id

    # How it is ended

    def one(self, target: Target) -> None:
        """Make a target, wait for its moment, end it."""
        chance = random.Random(f"{self.seed}-{target.number}-moment")
        lead = {"before": 1.0, "waiting": 75.0, "claim": 2.5}.get(target.moment, 0.0)
        self.make(target, lead)
        assert target.due is not None
        if target.whole or (target.moment == "waiting" and target.carrier != EVERY):
            until(lambda: self._run_of(target), 20, 0.1)
        if target.moment == "claim":
            time.sleep(
                max(
                    0.0,
                    (target.due - clock.now()).total_seconds()
                    + chance.uniform(-0.2, 1.5),
                )
            )
        elif target.moment in ("executing", "late"):
            self.begun(target, 120 if target.carrier != EVERY else 200)
            time.sleep(
                chance.uniform(0, 2)
                if target.moment == "executing"
                else target.length + chance.uniform(-0.4, 0.3)
            )
        self.end(target)

    def begun(self, target: Target, seconds: float) -> bool:
        """Wait until a target's function has begun."""
        return bool(until(lambda: self.signs.of(target.tasks[0]).begun, seconds))

    def end(self, target: Target) -> None:
        """End a target, and wait until nothing of it lives."""
        run_id = self._run_of(target)
        target.at_work = self.signs.at_work(target.tasks[0])
        if target.whole and not run_id:  # Prefect has not taken it so far
            target.means = "facade"
        task = run_id if target.means == "run" and run_id else target.tasks[0]
        target.asked = time.monotonic_ns()
        try:
            if target.means == "cancel":
                assert run_id is not None
                target.answer = {
                    "changed": self.ground.api.set_state(run_id, "CANCELLING")
                    in ("CANCELLING", "CANCELLED")
                }
            elif target.means == "command":
                done = self.ground.command("end", task)
                target.answer = {"changed": '"changed": true' in done.stdout}
                target.error = "" if done.returncode == 0 else done.stderr[-300:]
            else:
                target.answer = self.ground.svc.forcedEnd(task)
        except Exception as error:  # noqa: BLE001  whatever it is, the campaign goes on and counts it
            target.error = f"{type(error).__name__}: {error}"[:300]
        target.said = time.monotonic_ns()
        until(lambda: not self.signs.at_work(target.tasks[0]), 60)

    def _guarded(self, work: Callable[[Target], None]) -> Callable[[Target], None]:
        def call(target: Target) -> None:
            try:
                work(target)
            except Exception as error:  # noqa: BLE001  as above
                target.error = (
                    target.error or f"not ended: {type(error).__name__}: {error}"[:300]
                )
                self.problems.append(f"{target}: {target.error}")

        return call

    def alive(self, numbers: range) -> None:
        """Ends with everything alive."""
        made = [self.target(number) for number in numbers]
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(self._guarded(self.one), made))
        self.targets += [target for target in made if target.tasks]

    def killed(self, numbers: range, what: str) -> None:
        """Ends of what is at work right after the workers, or the server, were killed."""
        carriers = (ROW, MADE, ROW, BATCH)
        made = [
            self.target(
                number,
                carrier=carriers[place % len(carriers)],
                moment="executing",
                length=LONG,
                killed=what,
            )
            for place, number in enumerate(numbers)
        ]
        for target in made:
            target.means = (
                "facade"
                if what == "server" and target.means in ("cancel", "run")
                else target.means
            )
        if self.lite and what == "server":
            made[0].way = "locks"
        for target in sorted(
            made, key=lambda t: t.way == "locks"
        ):  # it lets nobody else begin
            self._guarded(lambda t: self.make(t, 0.0))(target)
            if target.tasks:
                self.begun(target, 90)
        made = [target for target in made if target.tasks]
        again = self._bystander() if not (self.lite and what == "server") else None
        for target in made:
            self._run_of(target)
        self.kills[what] += (
            self.ground.kill_workers()
            if what == "worker"
            else server.kill(self.ground.server)
        )
        with ThreadPoolExecutor(PHASE) as pool:
            list(pool.map(self._guarded(self.end), made))
        if again is not None:
            self.again.setdefault(what, []).append(again)
        if what == "worker":
            self.ground.restart_workers()
        else:
            server.restart(self.ground.server, self.ground.port)
        self.targets += made

    def child(self) -> None:
        """Kill a child in the middle of a task that nobody ends: it is taken up again, and has its effect once."""
        task = self._bystander(length=2.0)
        if task is None:
            return
        time.sleep(random.Random(f"{self.seed}-{task}").uniform(0, 2.2))
        for pid in self.signs.of(task).begun_in:
            if self.signs.at_work(task):
                os.kill(pid, signal.SIGKILL)
                self.kills["child"] += 1
        self.again.setdefault("child", []).append(task)

    def _bystander(self, length: float = 3.0) -> str | None:
        """A task that nobody ends, at work."""
        target = Target(0, AGAIN, "sleep", "", "", length)
        try:
            self.make(target, 0.0)
        except JittaskError as error:
            self.problems.append(f"no bystander: {error}")
            return None
        self.begun(target, 60)
        return target.tasks[0]

    # The whole

    def syncs(self) -> None:
        """Syncs, again and again, as the deployment `jittask.sync` has them."""
        while not self._stop.wait(SYNC_SECONDS):
            self.ground.sync()

    def run(self, count: int, minutes: float) -> None:
        """So many ends, a tenth of them right after a kill of the workers, a tenth after one of the server."""
        begun, done = time.monotonic(), 0
        small = PHASE if count >= 50 else 2 if count >= 10 else 1
        syncing = threading.Thread(target=self.syncs, name="syncs", daemon=True)
        syncing.start()
        while done < count and time.monotonic() - begun < 60 * minutes:
            share = min(count - done, 5 * small if count < 50 else 10 * small)
            alive = share - 2 * small
            phases: list[Callable[[], None]] = [
                partial(self.alive, range(done, done + alive)),
                partial(
                    self.killed, range(done + alive, done + alive + small), "worker"
                ),
                self.child,
                partial(
                    self.killed, range(done + alive + small, done + share), "server"
                ),
            ]
            for phase in phases:
                if time.monotonic() - begun < 60 * minutes:
                    phase()
            done += share
            print(
                f"{done} ends, {time.monotonic() - begun:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        self._stop.set()
        syncing.join()
        self.settle()

    def settle(self) -> None:
        """Syncs until each task and each flow run that was ended is over."""
        tasks = [task for target in self.targets for task in target.tasks] + [
            t for ts in self.again.values() for t in ts
        ]

        def over() -> bool:
            self.ground.sync(
                ahead=CANCELLING_SECONDS
            )  # what is left in Cancelling is looked at after a while
            found = [self.entry(task) for task in tasks]
            if any(entry is not None and entry.status in OPEN for entry in found):
                return False
            returned = self.signs.counts("returned")
            if any(
                entry is not None and not returned[task]
                for task, entry in zip(tasks, found, strict=True)
            ):
                self.ground.sync(
                    ahead=RETURN_AFTER.total_seconds() + 1
                )  # who was to call afterReturn died
                return False
            return not self.open_runs()

        until(over, 120, 1.0)

    def open_runs(self) -> list[str]:
        """The flow runs of ended tasks that have not ended."""
        runs = {
            entry.flow_run_id
            for t in self.targets
            if (entry := self.entry(t.tasks[0])) and entry.flow_run_id
        }
        known = sorted(runs)
        found: list[FlowRun] = []
        for start in range(0, len(known), 100):
            found += self.ground.api.runs(
                flow_runs={"id": {"any_": known[start : start + 100]}}
            )
        return [run.id for run in found if run.state_type not in TERMINAL]

    def cancelling(self, target: Target) -> list[datetime]:
        """When Prefect had a target's flow run as being cancelled."""
        states = self.ground.api.call(
            "GET", f"/flow_run_states/?flow_run_id={target.run_id}"
        )
        return [
            datetime.fromisoformat(state["timestamp"])
            for state in states
            if state["type"] == "CANCELLING"
        ]

    def monotonic(self, moment: datetime) -> int:
        """An instant on the machine's monotonic clock."""
        return time.monotonic_ns() - int((clock.now() - moment).total_seconds() * NS)
