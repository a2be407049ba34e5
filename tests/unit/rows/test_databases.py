"""The lines of "Rows" and "Missed" on SQLite, PostgreSQL and MariaDB; what a table's row is, whichever way it came."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from shop import MODEL, Server, Shop, model_of, rows_task

from jittask_prefect.ledger import hindrance

ON_SQLITE = False  # test_due, test_window, test_identity and test_hooks
Make = Callable[..., Shop]
OPEN = "Q('status','=','open')"
HOURLY = {
    "repeat": {"repeatType": "hour"},
    "endTimeType": 1,
    "endTime": "2026-03-02 23:00:00",
}
TEN, ELEVEN, TWELVE = (datetime(2026, 3, 2, hour) for hour in (10, 11, 12))


def add(s: Shop, key: int, at: datetime | None, **values: Any) -> None:
    """A bill by raw SQL."""
    s.insert(**{"id": key, "status": "open", "at": at, "count": 0, **values})


def twice(s: Shop) -> None:
    """What is planned stands: no look at the same rows changes anything."""
    assert s.did() == [] and s.did() == []


# Rows


def test_the_window_is_the_overlap_to_the_horizon(on: Make) -> None:
    s = on(missed={"lookback": 600})
    s.sync("2026-03-02 07:00")
    s.sync("2026-03-02 08:00")
    add(s, 1, datetime(2026, 3, 2, 7, 50))  # ten minutes before the last sync: out
    add(s, 2, datetime(2026, 3, 2, 7, 50, 1))
    add(s, 3, datetime(2026, 3, 3, 8, 1))  # 24 hours later: in
    add(s, 4, datetime(2026, 3, 3, 8, 1, 1))
    assert s.did("2026-03-02 08:01") == ["create 2 03-02 07:50", "create 3 03-03 08:01"]
    twice(s)
    assert s.did("2026-03-02 08:02") == ["create 4 03-03 08:01"]


def test_null_and_filter(on: Make) -> None:
    s = on(filter=OPEN)
    s.save(id=1, at=None)
    s.save(id=2, at=TEN, status="paid")
    add(s, 3, None)
    add(s, 4, TEN, status="OPEN")  # another text
    assert s.did() == [] and s.tasks() == []
    s.save(id=1, at=TEN)
    s.save(id=2, status="open")
    assert s.tasks() == ["1 03-02 10:00 #1 pending", "2 03-02 10:00 #1 pending"]
    s.save(id=1, at=None)
    s.save(id=2, status="paid")
    assert s.tasks(status="pending") == []
    twice(s)


def test_a_changed_value_supersedes(on: Make) -> None:
    s = on()
    s.save(id=1, at=TEN)
    s.sync()
    s.save(id=1, at=ELEVEN)
    twice(s)
    s.save(id=1, at=TEN)
    twice(s)
    assert s.tasks() == [
        "1 03-02 10:00 #1 superseded",
        "1 03-02 10:00 #3 pending",
        "1 03-02 11:00 #2 superseded",
    ]
    assert len({e.task_id for e in s.entries()}) == 3
    assert [o.status for o in s.work("2026-03-02 12:00")] == ["completed"]
    assert s.row(1).count == 1


def test_raw_sql_newly_and_earlier_due(on: Make) -> None:
    s = on()
    s.save(id=1, at=TWELVE)
    s.sync()
    add(s, 2, ELEVEN)
    s.raw("UPDATE bill SET at = '2026-03-02 10:00:00' WHERE id = 1")
    assert s.did("2026-03-02 08:01") == [
        "reschedule 1 03-02 10:00",
        "create 2 03-02 11:00",
    ]
    twice(s)
    assert len(s.work("2026-03-02 12:00")) == 2
    assert (s.row(1).count, s.row(2).count) == (1, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE bill SET at = '2026-03-09 10:00:00'", "another one"),
        ("UPDATE bill SET status = 'paid'", "filter"),
        ("UPDATE bill SET at = NULL", "no date"),
        ("DELETE FROM bill", "gone"),
    ],
)
def test_raw_sql_is_seen_at_the_due_moment(on: Make, change: str, reason: str) -> None:
    s = on(filter=OPEN)
    s.save(id=1, at=TEN)
    s.sync()
    s.raw(change)
    s.sync("2026-03-02 08:01")
    [outcome] = s.work("2026-03-02 10:00")
    assert (outcome.status, outcome.outcome) == (
        "ended",
        "superseded",
    ) and reason in outcome.message
    assert s.entries(row_key="1")[0].outcome == "superseded"
    assert [e.outcome for e in s.entries(status="completed")] == []


def test_a_deleted_row_and_one_that_takes_its_key(on: Make) -> None:
    s = on()
    s.save(id=1, at=TEN)
    s.sync()
    s.drop(1)
    assert s.tasks() == ["1 03-02 10:00 #1 superseded"]
    add(s, 1, TEN)
    assert s.did("2026-03-02 08:01") == ["create 1 03-02 10:00"]
    twice(s)
    assert s.tasks(status="pending") == ["1 03-02 10:00 #2 pending"]


def test_disabled_edited_enabled(on: Make) -> None:
    s = on()
    s.save(id=1, at=TEN)
    add(s, 2, ELEVEN)
    s.sync()
    s.config(enable=0)
    assert s.did("2026-03-02 08:01") == ["end 1 03-02 10:00", "end 2 03-02 11:00"]
    s.config(enable=1)
    assert s.did("2026-03-02 10:30") == ["create 2 03-02 11:00"]  # never looks back
    twice(s)
    s.config(
        timerCfg={
            "startField": "at",
            "startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "hour"},
        }
    )
    assert s.did("2026-03-02 10:31") == [
        "create 1 03-02 11:00",
        "reschedule 2 03-02 12:00",
    ]
    twice(s)
    s.again(**{"tasks/Task": None})
    assert s.did("2026-03-02 10:32") == ["end 1 03-02 11:00", "end 2 03-02 12:00"]


@pytest.mark.parametrize("way", ["hook", "sync"])
def test_a_date_in_the_past(on: Make, way: str) -> None:
    s = on()  # lookback: a day
    s.sync("2026-02-27 08:00")
    s.sync("2026-03-02 07:59")
    for key, at in ((1, datetime(2026, 3, 1, 8, 1)), (2, datetime(2026, 2, 28, 8))):
        if way == "hook":
            s.at("2026-03-02 08:00").save(id=key, at=at)
        else:
            add(s, key, at)
    s.sync("2026-03-02 08:00")
    assert s.tasks(row_key="1") == ["1 03-01 08:01 #1 pending"]
    # what no hook saw is not looked for so far back
    assert s.tasks(row_key="2") == (
        ["2 02-28 08:00 #1 missed"] if way == "hook" else []
    )
    twice(s)
    assert [o.status for o in s.work()] == ["completed"]


def test_the_first_enabling_looks_back_when_asked(on: Make) -> None:
    s = on()
    add(s, 1, datetime(2026, 3, 2, 7, 55))
    add(s, 2, datetime(2026, 2, 25, 7))
    assert s.did() == [] and s.did("2026-03-02 08:01") == []
    assert s.did(since="2026-02-25 07:00") == ["create 1 03-02 07:55"]
    assert s.did(since="2026-02-25 06:59") == ["create 2 02-25 07:00"]
    twice(s)


def test_a_forced_end_holds_until_the_date_changes(on: Make) -> None:
    s = on()
    add(s, 1, TEN)
    s.sync()
    [entry] = s.entries()
    s.element("services.TaskSvc").forcedEnd(entry.task_id)
    assert s.did("2026-03-02 08:01") == []
    s.save(id=1, status="seen")
    assert s.tasks() == ["1 03-02 10:00 #1 forced"]
    s.save(id=1, at=ELEVEN)
    s.save(id=1, at=TEN)
    assert s.tasks(status="pending") == ["1 03-02 10:00 #3 pending"]


def test_a_run_that_somebody_deleted(on: Make) -> None:
    s = on()
    add(s, 1, TEN)
    add(s, 2, datetime(2026, 3, 2, 9))
    s.sync()
    s.work("2026-03-02 09:00")
    for run in list(s.api.all_runs):
        s.api.delete_run(run)
    assert s.sync("2026-03-02 09:01").created == 1
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]
    assert (s.row(1).count, s.row(2).count) == (1, 1)


def test_what_was_done_stays_done(on: Make) -> None:
    s = on(filter=OPEN)
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    s.save(id=1, status="paid")
    s.save(id=1, status="open")
    assert s.did("2026-03-02 10:01") == []
    assert s.tasks() == ["1 03-02 10:00 #1 completed"]


def test_a_function_that_fails_takes_its_changes_back(on: Make) -> None:
    s = on(inner="def customFunc(row):\n    row.count += 1\n    1 / 0\n")
    s.save(id=1, at=TEN)
    s.sync()
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["error"]
    assert (s.row(1).count, s.tasks()) == (0, ["1 03-02 10:00 #1 failed"])


def test_a_rollback_takes_the_tasks_with_it(on: Make) -> None:
    s = on()
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add(cls(id=1, at=TEN))
        session.flush()
        with session.begin_nested() as savepoint:
            session.add(cls(id=2, at=TEN))
            session.flush()
            savepoint.rollback()
        session.commit()
        session.add(cls(id=3, at=TEN))
        session.flush()
        session.rollback()
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]
    twice(s)


def test_two_templates_on_one_field(on: Make) -> None:
    early = rows_task(
        "at", startOffset={"offsetType": -1, "offset": 1, "offsetUnit": "hour"}
    )
    s = on(more={"tasks/Early": early, "tasks/Same": rows_task("at")})
    s.save(id=1, at=TEN)
    add(s, 2, TEN)
    s.sync()
    twice(s)
    names = [(e.template, e.row_key, f"{e.due:%H:%M}") for e in s.entries(row_key="1")]
    assert sorted(names) == [
        ("tasks.Early", "1", "09:00"),
        ("tasks.Same", "1", "10:00"),
        ("tasks.Task", "1", "10:00"),
    ]
    assert len(s.entries(row_key="2")) == 3
    s.work("2026-03-02 10:00")
    assert (s.row(1).count, s.row(2).count) == (3, 3)


# Missed


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize(
    ("policy", "ran"),
    [
        ("all", ["09:00", "10:00", "11:00", "12:00"]),
        ("latest", ["12:00"]),
        ("none", []),
    ],
)
def test_what_became_due_while_nobody_was_there(
    on: Make, policy: str, ran: list[str], planned: bool
) -> None:
    s = on(missed={"policy": policy}, **HOURLY)
    add(s, 1, datetime(2026, 3, 2, 9) if planned else datetime(2026, 3, 9))
    s.sync("2026-03-02 08:00")  # and then no worker until 12:30, and no sync
    s.raw("UPDATE bill SET at = '2026-03-02 09:00:00'")
    s.sync("2026-03-02 12:30")
    outcomes = s.work()
    assert [f"{e.due:%H:%M}" for e in s.entries(status="completed")] == ran
    assert [o.status for o in outcomes if o.status == "completed"] == [
        "completed"
    ] * len(ran)
    missed = s.entries(outcome="missed")
    assert len(missed) == 4 - len(ran) and all(
        e.message.startswith("missed: ") for e in missed
    )
    assert s.did("2026-03-02 12:31") == [] and s.work() == []


@pytest.mark.parametrize(
    ("policy", "late"),
    [("all", "completed"), ("latest", "completed"), ("none", "ended")],
)
def test_up_to_grace_late_is_on_time(on: Make, policy: str, late: str) -> None:
    s = on(missed={"policy": policy, "grace": 60}, **HOURLY)
    add(s, 1, datetime(2026, 3, 2, 9))
    s.sync("2026-03-02 08:00")
    assert [o.status for o in s.work("2026-03-02 09:01")] == ["completed"]
    assert [o.status for o in s.work("2026-03-02 10:01:01")] == [late]


def test_latest_is_the_newest_of_each_row(on: Make) -> None:
    s = on(missed={"policy": "latest"}, **HOURLY)
    s.sync("2026-03-02 08:00")
    add(s, 1, datetime(2026, 3, 2, 9))
    add(s, 2, datetime(2026, 3, 2, 10, 15))
    s.sync("2026-03-02 12:30")
    s.work()
    assert [(e.row_key, f"{e.due:%H:%M}") for e in s.entries(status="completed")] == [
        ("1", "12:00"),
        ("2", "12:15"),
    ]


def test_all_runs_in_the_order_of_due_times(on: Make) -> None:
    s = on(missed={"policy": "all"})
    s.sync()
    for key, at in ((1, ELEVEN), (2, datetime(2026, 3, 2, 9)), (3, TEN)):
        add(s, key, at)
    s.sync("2026-03-02 12:00")
    names = [r["name"] for r in s.api.due(s.now)]
    assert names == [
        f"Task · Bill {k} · 2026-03-02 {t}"
        for k, t in ((2, "09:00"), (3, "10:00"), (1, "11:00"))
    ]


# What a column keeps


@pytest.mark.parametrize(
    ("kind", "fields", "due"),
    [
        (
            "microseconds in a naive column",
            {"at": datetime(2026, 3, 2, 10, 0, 0, 600_000)},
            "10:00:00",
        ),
        (
            "microseconds in an aware column",
            {"moment": datetime(2026, 3, 2, 10, 0, 0, 600_000, UTC)},
            "10:00:00",
        ),
        (
            "a datetime in a date column",
            {"day": datetime(2026, 3, 3, 7, 30)},
            "00:00:00",
        ),
        ("a date in a naive column", {"at": date(2026, 3, 3)}, "00:00:00"),
        (
            "an aware value in a naive column",
            {"at": datetime(2026, 3, 2, 18, tzinfo=UTC)},
            "18:00:00",
        ),
    ],
)
def test_the_hook_plans_what_the_database_keeps(
    on: Make, kind: str, fields: dict[str, Any], due: str
) -> None:
    s = on(next(iter(fields)))
    s.save(id=1, **fields)
    [entry] = s.entries()
    assert f"{entry.due.replace(microsecond=0):%H:%M:%S}" == due
    twice(s)
    s.save(id=1, count=3)
    assert len(s.entries()) == 1
    assert [o.status for o in s.work("2026-03-03 08:00")] == ["completed"]


@pytest.mark.parametrize(
    "zone", [timezone(timedelta(hours=8)), timezone(timedelta(hours=-5))]
)
def test_an_aware_value_in_a_naive_column_is_planned_as_it_is_kept(
    on: Make, zone: timezone
) -> None:
    # PostgreSQL turns it to the connection's zone, the others drop its zone: whichever, the task is the row's.
    s = on("at")
    s.save(id=1, at=datetime(2026, 3, 2, 18, tzinfo=zone))
    kept = s.row(1).at
    assert [e.due.replace(tzinfo=None) for e in s.entries()] == [kept]
    twice(s)


STAMPED = (
    MODEL
    + "    stamp: datetime | None = Field(default=None, sa_type=sa.DateTime(timezone=True))\n"
)


@pytest.mark.parametrize(
    ("field", "value", "due"),
    [
        ("at", datetime(2026, 3, 2, 18, tzinfo=UTC), "03-03 03:00"),
        ("stamp", datetime(2026, 3, 2, 18), "03-02 09:00"),
        ("day", datetime(2026, 3, 2, 18, tzinfo=UTC), "03-03 00:00"),
    ],
)
def test_what_postgresql_turns_by_the_zone_of_its_session(
    on: Make, server: Server, field: str, value: datetime, due: str
) -> None:
    # by the hook, by the facade before the commit, and as a filter's field: what the column holds counts
    if server.kind != "postgresql":
        pytest.skip("PostgreSQL's")
    filtered = rows_task("until", filter=f"Q('{field}','day',3)")
    s = on(elements={"models/Bill": model_of("import sqlalchemy as sa\n" + STAMPED), "tasks/Task": rows_task(field),
                     "tasks/Filtered": filtered})  # fmt: skip
    name = s.app.engine().url.database
    s.raw(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    s.app.engine().dispose()
    try:
        s.sync()
        with s.session() as session:
            row = s.element("models.Bill")(
                id=1, until=date(2026, 3, 3), **{field: value}
            )
            session.add(row)
            session.flush()
            told = s.element("services.TaskSvc").saveDateFieldTask({"postData": row})
            assert (told["created"], told["rescheduled"], told["ended"]) == (0, 0, 0)
            session.commit()
        assert s.tasks(template="tasks.Task") == [f"1 {due} #1 pending"]
        assert len(s.tasks(template="tasks.Filtered")) == (field != "stamp")
        twice(s)
    finally:
        s.raw(f"ALTER DATABASE {name} RESET timezone")


def test_a_date_as_the_end_in_a_datetime_column(on: Make) -> None:
    # the column keeps its midnight, so the last day is not included: the hook must see it as the sync will
    s = on("day", repeat={"repeatType": "day"}, endTimeType=2, endField="at", app_json={"horizon": 24 * 10},
           startOffset={"offsetType": 0, "time": "09:00"})  # fmt: skip
    s.save(id=1, day=date(2026, 3, 3), at=date(2026, 3, 5))
    assert s.tasks() == ["1 03-03 09:00 #1 pending", "1 03-04 09:00 #1 pending"]
    twice(s)


def test_microseconds_of_an_end(on: Make, server: Server) -> None:
    # MariaDB's DATETIME has whole seconds
    s = on("at", repeat={"repeatType": "minute"}, endTimeType=2, endField="moment")
    s.save(id=1, at=TEN, moment=datetime(2026, 3, 2, 10, 1, 59, 999_999, UTC))
    assert s.tasks() == ["1 03-02 10:00 #1 pending", "1 03-02 10:01 #1 pending"]
    twice(s)
    assert s.row(1).moment.microsecond == (0 if server.kind == "mariadb" else 999_999)


def test_a_text_that_the_driver_takes_for_a_date(on: Make, server: Server) -> None:
    if server.kind == "sqlite":
        pytest.skip("SQLAlchemy refuses it")
    s = on("day")
    s.save(id=1, day="2026-03-03")
    s.sync()
    assert s.tasks() == ["1 03-03 00:00 #1 pending"]
    twice(s)


# Filters


FILTERS: dict[str, list[int]] = {
    "Q('paid','=',True)": [2],
    "Q('paid','=',False)": [1, 3],
    "Q(paid=1)": [2],
    "Q('number','=',1)": [1],
    "Q('number','in',[0,1])": [1, 2],
    "Q('number','>=',1)": [1, 3],
    "Q('number','isnull',False)": [1, 2, 3],
    "Q('note','isnull',True)": [2],
    "Q('note','!=','x')": [3],
    "Q('note','=','X')": [3],
    "Q('note','=','x') | Q('paid','=',True)": [1, 2],
    "~Q('note','=','x')": [3],
    "Q('at','>',Q.now(hours=2))": [2, 3],
    "Q('at','day',2)": [1, 2, 3],
}


def filtered(filters: dict[str, list[int]]) -> dict[str, Any]:
    """A task for each filter."""
    return {
        f"tasks/T{n}": rows_task("at", filter=filter_)
        for n, filter_ in enumerate(filters)
    }


def selected(s: Shop, filters: dict[str, list[int]]) -> dict[str, list[int]]:
    """The rows that have a task, by filter."""
    found: dict[str, list[int]] = {filter_: [] for filter_ in filters}
    for e in s.entries(status="pending"):
        found[list(filters)[int(e.template.removeprefix("tasks.T"))]].append(
            int(e.row_key)
        )
    return {filter_: sorted(keys) for filter_, keys in found.items()}


def test_filters(on: Make) -> None:
    # saved: rows 1 to 3; by raw SQL: the same as 11 to 13
    model = (
        MODEL
        + "    paid: bool = False\n    number: int = 0\n    note: str | None = None\n"
    )
    s = on(elements={"models/Bill": model_of(model), **filtered(FILTERS)})
    values: list[dict[str, Any]] = [
        {"id": 1, "at": TEN, "paid": False, "number": 1, "note": "x"},
        {"id": 2, "at": ELEVEN, "paid": True, "number": 0, "note": None},
        {"id": 3, "at": TWELVE, "paid": False, "number": 2, "note": "X"},
    ]
    for each in values:
        s.save(**each)
    assert selected(s, FILTERS) == FILTERS
    for each in values:
        s.insert(**{**each, "id": each["id"] + 10, "status": "open", "count": 0})
    s.sync()
    assert selected(s, FILTERS) == {
        f: [*keys, *(key + 10 for key in keys)] for f, keys in FILTERS.items()
    }
    twice(s)


HEAD = "from pydantic import NaiveDatetime\nfrom sqlmodel import Field, Relationship, SQLModel\n\n"
PATRON = """
class Patron(SQLModel, table=True):
    id: int = Field(primary_key=True)
    name: str | None = None
    vip: bool = False
"""
BILL = """
class Bill(SQLModel, table=True):
    id: int = Field(primary_key=True)
    at: NaiveDatetime | None = None
    count: int = 0
    patron_id: int | None = Field(default=None, foreign_key="patron.id")
    patron: "Patron" = Relationship()
    items: list["Item"] = Relationship()
"""
ITEM = """
class Item(SQLModel, table=True):
    id: int = Field(primary_key=True)
    bill_id: int = Field(foreign_key="bill.id")
    price: int = 0
"""
RELATED = {
    f"models/{name}": model_of(HEAD + source)
    for name, source in (("Bill", BILL), ("Patron", PATRON), ("Item", ITEM))
}


RELATED_FILTERS: dict[str, list[int]] = {
    "Q(patron__name='Ada')": [1],
    "Q('patron.name','isnull',True)": [2, 3],
    "Q(patron__vip=True)": [1],
    "~Q(patron__vip=True)": [2],
    "Q('patron.vip','!=',True)": [2],
    "Q('items.price','>',50)": [1, 3],
    "~Q('items.price','>',50)": [2],
    "Q('items.price','>',50) & Q(patron__vip=True)": [1],
}


def related(on: Make, filters: dict[str, list[int]]) -> Shop:
    """Bills with a patron (to-one) and items (to-many); the patrons Ada and one without a name."""
    s = on(elements={**RELATED, **filtered(filters)})
    s.insert("patron", id=1, name="Ada", vip=True)
    s.insert("patron", id=2, name=None, vip=False)
    return s


def test_filters_with_relationships(on: Make) -> None:
    # 1 is Ada's, 2 the other one's, 3 nobody's; saved as 1 to 3, by raw SQL as 11 to 13
    s = related(on, RELATED_FILTERS)
    bills: list[tuple[int, int | None, tuple[int, ...]]] = [
        (1, 1, (10, 99)),
        (2, 2, (10,)),
        (3, None, (51,)),
    ]
    for key, patron, prices in bills:
        s.save(id=key, at=TEN, patron_id=patron)
        s.insert(id=key + 10, at=ELEVEN, count=0, patron_id=patron)
        for base in (0, 10):
            for number, price in enumerate(prices):
                s.insert(
                    "item",
                    id=(base + key) * 10 + number,
                    bill_id=base + key,
                    price=price,
                )
    for key in (1, 2, 3):
        s.save(id=key, at=ELEVEN)  # now that its items are there
    assert selected(s, RELATED_FILTERS) == RELATED_FILTERS
    s.sync()
    assert selected(s, RELATED_FILTERS) == {
        f: [*keys, *(k + 10 for k in keys)] for f, keys in RELATED_FILTERS.items()
    }
    twice(s)


def test_a_related_row_that_changes(on: Make) -> None:
    # no hook of the bill's sees it: newly due is found by the sync, the rest by the re-check
    s = related(on, {"Q(patron__vip=True)": []})
    s.save(id=1, at=TEN, patron_id=1)
    s.save(id=2, at=TEN, patron_id=2)
    s.sync()
    s.raw("UPDATE patron SET vip = (id = 2)")
    assert s.did("2026-03-02 08:01") == ["create 2 03-02 10:00"]
    twice(s)
    assert sorted(o.status for o in s.work("2026-03-02 10:00")) == [
        "completed",
        "ended",
    ]
    assert (s.row(1).count, s.row(2).count) == (0, 1)


def test_without_tables_a_save_goes_on(on: Make) -> None:
    s = on()
    s.raw("DROP TABLE jittask_ledger")
    s.raw("DROP TABLE jittask_state")
    hindrance.forget()
    s.save(id=1, at=TEN)
    assert s.row(1).at == TEN


def test_a_ledger_that_goes_away_costs_no_save(on: Make) -> None:
    # The database was restored from a copy without the ledger while this process ran: the row is more than its tasks.
    s = on()
    s.save(id=1, at=TEN)  # from here on the process knows that there is a ledger
    s.raw("DROP TABLE jittask_ledger")
    s.save(id=2, at=TEN)
    assert s.row(2) is not None


# Several databases of one app


LEAD = """
from datetime import date
from sqlmodel import Field, SQLModel

class Lead(SQLModel, table=True):
    id: int = Field(primary_key=True)
    day: date
    count: int = 0
"""


def test_two_databases_each_with_its_ledger(on: Make) -> None:
    more = {
        "models/Lead": model_of(LEAD, database="crm"),
        "tasks/Call": rows_task("day", model="models.Lead"),
    }
    s = on(more=more, databases=["crm"])
    s.save(id=1, at=TEN)
    add(s, 2, TEN)
    s.save("models.Lead", id=1, day=date(2026, 3, 3))
    s.insert("lead", "crm", id=2, day=date(2026, 3, 3), count=0)
    assert s.did() == ["create 2 03-03 00:00", "create 2 03-02 10:00"]
    twice(s)
    assert s.tasks() == ["1 03-02 10:00 #1 pending", "2 03-02 10:00 #1 pending"]
    assert s.tasks("crm") == ["1 03-03 00:00 #1 pending", "2 03-03 00:00 #1 pending"]
    assert [o.status for o in s.work("2026-03-03 00:00")] == ["completed"] * 4
    assert [
        s.row(key, m).count for key in (1, 2) for m in ("models.Bill", "models.Lead")
    ] == [1, 1, 1, 1]
    s.again(**{"tasks/Call": None})
    assert s.did("2026-03-03 00:01") == []


def test_a_database_that_does_not_answer_keeps_no_other_from_working(
    on: Make, server: Server
) -> None:
    more = {
        "models/Lead": model_of(LEAD, database="crm"),
        "tasks/Call": rows_task("day", model="models.Lead"),
    }
    s = on(more=more, databases=["crm"])
    add(s, 1, TEN)
    s.app.engine("crm").dispose()
    url = {
        "sqlite": "sqlite:////nowhere/at/all.db",
        "postgresql": "postgresql+psycopg://postgres@127.0.0.1:1/none",
        "mariadb": "mysql+pymysql://root@127.0.0.1:1/none",
    }[server.kind]
    s.app.close()
    text = (s.folder / "app.json").read_text()
    (s.folder / "app.json").write_text(text.replace(s._json["databases"]["crm"], url))
    s.app = type(s.app)(s.folder)
    report = s.sync()
    assert len(report.problems) == 1 and "crm" in report.problems[0]
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]


def test_a_sync_sees_rows_and_ledger_of_one_moment(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between the sync's look at the rows and its look at the ledger somebody saves an earlier date, and it is done.
    from jittask_prefect.rows.scan import Scan

    s = on()
    s.save(id=1, at=TEN)
    s.sync()
    real, done = Scan.rows, []

    def meanwhile(*args: Any, **keys: Any) -> Any:
        found = real(*args, **keys)
        if not done:
            done.append("saved")
            s.save(id=1, at=datetime(2026, 3, 2, 8))
            [task] = s.entries(status="pending")
            done.append(s.run(task).status)
        return found

    monkeypatch.setattr(Scan, "rows", meanwhile)
    s.sync()
    monkeypatch.undo()
    s.sync("2026-03-02 08:01")
    s.work("2026-03-02 10:00")
    assert done == ["saved", "completed"]
    assert s.row(1).count == 1
    assert s.tasks() == ["1 03-02 08:00 #2 completed", "1 03-02 10:00 #1 superseded"]
