"""Random histories against a small model of what must happen: Lost = Dup = Stale = Ghost = 0."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import Shop, utc
from sqlalchemy import text
from sqlmodel import Session

from jittask_prefect.elements.config import Missed
from jittask_prefect.ledger.entry import Entry, new_entry
from jittask_prefect.rows.follow import task_columns
from jittask_prefect.rows.plan import no_more_tasks, plan_row, wanted
from jittask_prefect.schedule.timer import Timer

Make = Callable[..., Shop]
START = utc("2026-03-02 08:00")
DAILY = {
    "startField": "at",
    "repeat": {"repeatType": "day"},
    "skipHoliday": 1,
    "calendar": "DE",
}
CLOSED = {"country": "DE", "closed": ["2026-10-26/2026-10-27"]}
TIMERS = [
    Timer({"startField": "at"}),
    Timer({"startField": "at"}, timezone="Europe/Berlin"),
    Timer({"startField": "at", "repeat": {"repeatType": "hour"}}),
    Timer(DAILY, timezone="Europe/Berlin"),
    Timer(DAILY, calendar=CLOSED, timezone="Europe/Berlin"),
]
# around the repeated hour of Berlin, 2026-10-25 00:00 to 02:00 UTC
STEPS = st.tuples(
    st.sampled_from(TIMERS),
    st.integers(-12, 30),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(STEPS, min_size=1, max_size=5), st.sampled_from(["all", "latest", "none"])
)
def test_a_plan_applied_twice_is_applied_once(steps: list[Any], policy: str) -> None:
    base, entries = utc("2026-10-24 20:00"), []
    template: Any = SimpleNamespace(
        app=SimpleNamespace(name="app"),
        fullName="tasks.T",
        cfg=SimpleNamespace(missed=Missed(policy=policy, lookback=7200)),
    )
    for timer, half_hours, hours, moved, null in steps:
        now = base + timedelta(hours=hours)
        field = (
            (base + timedelta(minutes=30 * half_hours))
            .astimezone(timer.zone)
            .replace(tzinfo=None)
        )
        series = None if null else timer.series(field)

        def plan(
            series: Any = series, now: Any = now, known: Any = now if moved else None
        ) -> list[Any]:
            if series is None:
                return no_more_tasks(entries)
            due = wanted(series, now - timedelta(hours=3), now + timedelta(hours=24))
            return plan_row(template, "1", series, due, entries, now, known=known)

        _apply(entries, plan(), now)
        assert {a.action for a in plan()} <= {"skip"}
        open_ = [e for e in entries if e.status == "pending"]
        assert len({e.due for e in open_}) == len(open_)  # one task for an instant
        assert len({e.task_id for e in entries}) == len(entries)
        if entries:
            done = min(entries, key=lambda e: (e.status != "pending", e.due))
            if done.status == "pending":
                at = entries.index(done)
                entries[at] = replace(done, status="completed", outcome="completed")


def _apply(entries: list[Entry], actions: list[Any], now: datetime) -> None:
    by_id = {e.task_id: e for e in entries}
    for action in actions:
        for old in (
            action.closes
            if action.action == "reschedule"
            else (action.task_id,)
            if action.action == "end"
            else ()
        ):
            if (was := by_id[old]).status == "pending":
                by_id[old] = replace(was, status="ended", outcome="superseded")
                entries[entries.index(was)] = by_id[old]
        if action.action in ("create", "reschedule"):
            values = task_columns(action, "shop", "models.M", now)
            for name in ("nominal", "anchor", "due"):
                values[name] = values[name].astimezone(
                    UTC
                )  # as the database gives them back
            made = new_entry(**values)
            assert made.task_id not in by_id
            entries.append(made)
            by_id[made.task_id] = made


class World:
    """Rows as the database has them, and for each date that a row ever had until when it stood."""

    def __init__(self, shop: Shop, seed: int, rows: int) -> None:
        self.shop, self.random, self.keys = (
            shop,
            random.Random(seed),
            range(1, rows + 1),
        )
        self.rows: dict[int, SimpleNamespace] = {}
        self.expected: Counter[tuple[int, datetime]] = Counter()
        self.log: list[str] = []
        self.dates = 0

    def play(self, steps: int) -> None:
        s = self.shop
        s.sync()
        for _ in range(steps):
            s.now += timedelta(minutes=self.random.randint(0, 9))
            # Work goes on every few minutes: what is due has run before a row changes again.
            self._settle()
            key = self.random.choice(self.keys)
            step = self.random.choice(
                [
                    "save",
                    "save",
                    "raw",
                    "raw",
                    "drop",
                    "pay",
                    "touch",
                    "rollback",
                    "lose runs",
                ]
            )
            getattr(self, "_" + step.replace(" ", "_"))(key)
            self.log.append(f"{s.now:%H:%M} {step} {key} {self.rows.get(key)}")
            if self.random.random() < 0.7:
                s.sync()
                self._settle()
        for _ in range(4):
            s.now += timedelta(minutes=45)
            self._settle()

    def _settle(self) -> None:
        s = self.shop
        if self.random.random() < 0.5:
            s.work()  # the worker may be there before the sync
        s.sync()
        s.work()
        if s.entries(status="pending") and s.entries(status="pending")[0].due <= s.now:
            s.sync()  # what a run planned anew is due now, too
            s.work()
        for key, row in self.rows.items():
            if row.at is not None and row.open and row.at <= s.now and not row.done:
                row.done = True
                self.expected[key, row.at] += 1

    def _date(self) -> datetime:
        """A date of half an hour ago to half an hour ahead, one that no row ever had."""
        self.dates += 1
        at = self.shop.now + timedelta(minutes=self.random.randint(-30, 25))
        return max(at, START).replace(second=0, microsecond=self.dates)

    def _set(self, key: int, raw: bool, **fields: Any) -> None:
        s, row = self.shop, self.rows.get(key)
        if row is None:
            row = self.rows[key] = SimpleNamespace(at=None, open=True, done=False)
            fields = {"at": self._date(), **fields}
        if "at" in fields and fields["at"] != row.at:
            row.done = False
        if raw:
            values = {
                "at": fields.get("at", row.at),
                "id": key,
                "status": "open" if fields.get("open", row.open) else "paid",
            }
            with s.app.engine().begin() as connection:
                values["at"] = values["at"] and values["at"].replace(
                    tzinfo=None
                ).isoformat(" ", "microseconds")
                if not connection.execute(
                    text("UPDATE bill SET at = :at, status = :status WHERE id = :id"),
                    values,
                ).rowcount:
                    connection.execute(
                        text(
                            "INSERT INTO bill (id, at, status, count) VALUES (:id, :at, :status, 0)"
                        ),
                        values,
                    )
        else:
            at = (
                {"at": fields["at"] and fields["at"].replace(tzinfo=None)}
                if "at" in fields
                else {}
            )
            status = (
                {"status": "open" if fields["open"] else "paid"}
                if "open" in fields
                else {}
            )
            s.save(id=key, **at, **status)
        row.__dict__.update(fields)

    def _save(self, key: int) -> None:
        self._set(key, False, at=self._date())

    def _raw(self, key: int) -> None:
        self._set(key, True, at=self.random.choice([self._date(), None]))

    def _pay(self, key: int) -> None:
        if key in self.rows and not self.rows[key].done:
            self._set(key, self.random.random() < 0.5, open=not self.rows[key].open)

    def _touch(self, key: int) -> None:
        if key in self.rows:
            self.shop.save(id=key, until=self.shop.now.date())

    def _drop(self, key: int) -> None:
        if self.rows.pop(key, None):
            if self.random.random() < 0.5:
                self.shop.drop(key)
            else:
                self.shop.raw("DELETE FROM bill WHERE id = :id", id=key)

    def _rollback(self, key: int) -> None:
        if key in self.rows:
            with Session(self.shop.app.engine()) as session:
                session.get(
                    self.shop.element("models.Bill"), key
                ).at = self._date().replace(tzinfo=None)
                session.flush()
                session.rollback()

    def _lose_runs(self, _key: int) -> None:
        api = self.shop.api
        for run in list(api.all_runs.values()):
            if self.random.random() < 0.3:
                if run["state_type"] == "SCHEDULED" and self.random.random() < 0.5:
                    api.set_state(run["id"], "CRASHED")
                else:
                    api.delete_run(run["id"])


EFFECT = (
    "from sqlalchemy import text\n"
    "def customFunc(row):\n    with app.session() as s:\n"
    "        s.execute(text('INSERT INTO log (id, at) VALUES (:id, :at)'), {'id': row.id, 'at': row.at.isoformat()})\n"
)


@pytest.mark.parametrize(
    ("database", "seed"),
    [("sqlite", 1), ("sqlite", 2), ("sqlite", 3), ("postgresql", 4)],
)
def test_nothing_is_lost_or_done_twice(
    shop: Make, seed: int, database: str, url: Callable[[str], str]
) -> None:
    s = shop(
        inner=EFFECT,
        filter="Q('status','=','open')",
        app_json={"database": url(database)},
    )
    s.raw("CREATE TABLE log (id INTEGER, at VARCHAR(40))")
    s.now = START
    world = World(s, seed, 4)
    world.play(50)
    with s.app.engine().connect() as connection:
        done = Counter(
            (key, datetime.fromisoformat(at).replace(tzinfo=UTC))
            for key, at in connection.execute(text("SELECT id, at FROM log"))
        )
    assert done == world.expected, "\n".join(world.log)
    assert sum(done.values()) > 5
    assert s.entries(status="pending") == [] and s.entries(status="executing") == []
    assert {r["state_type"] for r in s.api.all_runs.values()} <= {
        "COMPLETED",
        "CANCELLED",
        "CRASHED",
    }
