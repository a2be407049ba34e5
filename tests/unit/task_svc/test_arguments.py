"""The facade and arguments that no caller should pass: only a JittaskError leaves, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from shop import Shop
from sqlalchemy import select

from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger.tables import entries
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.validation import quoted

TASK, KIND = "tasks.Task", "tasks.DateFieldType"
INNER = "def customFunc(row): return 1\ndef free(**more): return 1\n"


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


def circle() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["a"] = found
    return found


def generator() -> Iterator[int]:
    yield 1


EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))
ANYTHING: list[Any] = [
    None, True, 0, -1, 10**30, 10**5000, -(10**5000), 1.5, float("nan"), float("inf"), Decimal("NaN"), Fraction(1, 3),
    b"\xff", bytearray(b"a"), "", " ", "\x00", "\ud800", "x" * 100_000, f"{TASK}\x00", f"{TASK}\udfff", "tasks.", "..",
    "{0.__class__}", "%s", "'; DROP TABLE jittask_ledger; --", [], [[]], (), {}, set(), {1: 2}, {"\x00": 1},
    {"\ud800": 1}, nested(5000), circle(), object(), generator(), generator, type, UUID(int=0), time(9), date.min,
    date.max, datetime.min, datetime.max, datetime.min.replace(tzinfo=EAST), datetime.max.replace(tzinfo=WEST),
    datetime(2026, 3, 2, tzinfo=UTC), "0001-01-01", "9999-12-31 23:59:59", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00", "0000-00-00", "２０２６-03-02", "2026-03-02T09:00:00+99:99",
    MappingProxyType({"a": 1}),
]  # fmt: skip
VALUES: list[Any] = [
    float("nan"), float("inf"), 10**5000, b"a", "\ud800", {1, 2}, object(), generator(), nested(5000), circle(),
    datetime.min, Decimal(1), [nested(5000)], {1: 2}, {(): 2}, 1j,
]  # fmt: skip
"""What JSON cannot hold, or only as something else."""


@pytest.fixture
def s(shop: Callable[..., Shop]) -> Shop:
    made = shop(inner=INNER)
    made.save(id=1, at=datetime(2026, 3, 2, 10))
    made.sync()
    return made


def state(s: Shop) -> Any:
    with s.app.engine().connect() as connection:
        return connection.execute(select(entries)).all(), len(s.api.all_runs)


def hostile(s: Shop, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Call, and see that only a JittaskError leaves, which says something, and that nothing is written then."""
    before = state(s)
    try:
        call(*arguments, **named)
    except JittaskError as error:
        size = len(str(error).strip().encode())
        assert 0 < size < 2000, f"{call.__name__}: {size} bytes: {str(error)[:100]}"
        assert state(s) == before
    except BaseException as error:
        told = f"{call.__name__} {quoted(arguments)} {quoted(named)}: {type(error).__name__}: {error}"
        raise AssertionError(told) from error


def test_create_timer_task(s: Shop) -> None:
    svc = TaskSvc(s.app, s.api)
    good = [TASK, "2026-03-02 12:00:00", "free", KIND, {}]
    for place in range(5):
        for value in ANYTHING:
            hostile(s, svc.createTimerTask, *good[:place], value, *good[place + 1 :])
    for value in VALUES:
        hostile(s, svc.createTimerTask, *good[:4], {"a": value})
        hostile(s, svc.createTimerTask, *good[:4], {"a": [{"b": value}]})


def test_forced_end(s: Shop) -> None:
    svc = TaskSvc(s.app, s.api)
    for value in ANYTHING:
        hostile(s, svc.forcedEnd, value)


def test_get_task_tmpl_list(s: Shop) -> None:
    svc = TaskSvc(s.app, s.api)
    for value in ANYTHING:
        hostile(s, svc.getTaskTmplList, value)


def test_get_task_records(s: Shop) -> None:
    svc = TaskSvc(s.app, s.api)
    for name in ("fullName", "status", "startTime", "endTime", "limit", "offset"):
        for value in ANYTHING:
            hostile(s, svc.getTaskRecords, **{name: value})


def test_rows_of_save_and_delete(s: Shop) -> None:
    svc = TaskSvc(s.app, s.api)
    bill = s.element("models.Bill")
    keys, dates = (
        [{"model": "models.Bill", "id": 1, name: value} for value in ANYTHING]
        for name in ("id", "at")
    )
    wrong = ("nothing", 7, None, (), "\x00", "\ud800", "x" * 9999)
    names: list[Any] = [{"model": "models.Bill", "id": 1, name: "x"} for name in wrong]
    for value in ANYTHING:
        hostile(s, svc.saveDateFieldTask, value)
        hostile(s, svc.saveDateFieldTask, {"postData": value, "prevData": bill(id=1)})
        hostile(s, svc.saveDateFieldTask, {"postData": {"model": value, "id": 1}})
        hostile(
            s,
            svc.saveDateFieldTask,
            {"postData": {"model": "models.Bill", "id": 1}, "prevData": value},
        )
        hostile(s, svc.deleteDateFieldTask, {"prevData": value})
        hostile(s, svc.deleteDateFieldTask, {"prevData": bill(id=value)})
    for data in [*keys, *names]:
        hostile(s, svc.deleteDateFieldTask, {"prevData": data})
    for data in [*dates, *names]:
        hostile(s, svc.saveDateFieldTask, {"postData": data})
