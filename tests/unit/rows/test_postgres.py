"""The core once more on PostgreSQL: transactions that see each other, and instants with a zone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from shop import COUNT, GONE, Shop, model_of, rows_task, utc
from sqlalchemy import text

from jittask_prefect.ledger import hindrance
from jittask_prefect.rows import template_planner

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)


@pytest.fixture
def pg(shop: Make, url: Callable[[str], str]) -> Make:
    database = {"database": url("postgresql")}
    return lambda *args, **keys: shop(
        *args, **{**keys, "app_json": {**keys.get("app_json", {}), **database}}
    )


def insert(s: Shop, key: int, at: str) -> None:
    s.raw(
        "INSERT INTO bill (id, status, at, count) VALUES (:id, 'open', :at, 0)",
        id=key,
        at=datetime.fromisoformat(at),
    )


def test_a_life(pg: Make) -> None:
    s = pg(filter="Q('status','=','open')")
    for hour in (10, 11, 10):
        s.save(id=1, at=datetime(2026, 3, 2, hour))
    assert s.tasks(status="pending") == ["1 03-02 10:00 #3 pending"]
    insert(s, 2, "2026-03-02 11:00")
    assert s.did() == ["create 2 03-02 11:00"] and s.did("2026-03-02 08:01") == []
    s.raw("UPDATE bill SET status = 'paid' WHERE id = 2")
    assert [o.status for o in s.work("2026-03-02 11:00")] == ["completed", "ended"]
    assert (s.row(1).count, s.row(2).count) == (1, 0)
    with s.session() as session:
        session.add(s.element("models.Bill")(id=9, at=TEN))
        session.flush()
        session.rollback()
    s.drop(1)
    assert s.tasks(row_key="9") == []


@pytest.mark.parametrize("field", ["moment", "day"])
def test_instants_and_days(pg: Make, field: str) -> None:
    s = pg(field, timezone="Asia/Shanghai")
    s.raw("SET TIME ZONE 'America/New_York'")
    value = (
        utc("2026-03-02 16:00") if field == "moment" else datetime(2026, 3, 3).date()
    )
    s.save(id=1, **{field: value})  # the 3rd, 00:00 in Shanghai
    assert s.tasks() == ["1 03-02 16:00 #1 pending"]
    assert s.did("2026-03-02 08:01") == []


def test_a_template_whose_table_is_gone_leaves_the_others_their_transaction(
    pg: Make,
) -> None:
    s = pg(
        more={
            "models/Gone": model_of(GONE),
            "tasks/Early": rows_task("day", model="models.Gone"),
        }
    )
    s.raw("DROP TABLE gone")
    insert(s, 1, "2026-03-02 10:00")
    assert len(s.sync().problems) == 1
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]


@pytest.mark.parametrize(
    "body",
    [
        "app_session.execute(text('SELECT pg_sleep(20)'))",  # the driver waits for the server
        "GO.wait(20)",
    ],
)
def test_a_function_that_does_not_return(pg: Make, body: str) -> None:
    inner = (
        "import threading\nfrom sqlalchemy import text\nGO = threading.Event()\n"
        "def customFunc(row):\n    row.count += 1\n    with app.session() as app_session:\n"
        f"        app_session.flush()\n        {body}\n    row.count += 10\n"
    )
    s = pg(inner=inner, timeout=0.5)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    assert [o.outcome for o in s.work()] == ["timeout"]
    with s.app.engine().begin() as connection:
        connection.execute(text("SET lock_timeout = '1s'"))
        connection.execute(text("UPDATE bill SET status = 'free'"))
    s.app.module("tasks.Task", "inner").GO.set()
    for thread in threading.enumerate():
        if thread.name.startswith("jittask "):
            thread.join(10)
    assert (s.row(1).count, s.tasks()) == (0, ["1 03-02 10:00 #1 timeout"])


def test_many_executions_of_one_task_at_one_moment(pg: Make) -> None:
    s = pg()
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    [task] = s.entries()
    outcomes: list[str] = []
    threads = [
        threading.Thread(
            target=lambda n=n: outcomes.append(s.run(task, run_id=f"run{n}").outcome)
        )
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["completed"] + ["skipped"] * 5
    assert s.row(1).count == 1


def test_a_sync_sees_rows_and_ledger_of_one_moment(
    pg: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between the sync's look at the rows and its look at the ledger somebody saves an earlier date, and it is done.
    s = pg()
    s.save(id=1, at=TEN)
    s.sync()
    s.raw(
        "UPDATE jittask_ledger SET start_value = NULL"
    )  # the sync looks at the row once more
    real = template_planner.TemplatePlanner._planned
    done: list[str] = []

    def meanwhile(*args: object, **keys: object) -> object:
        if not done:
            done.append("saved")
            s.save(id=1, at=datetime(2026, 3, 2, 8))
            [task] = s.entries(status="pending")
            done.append(s.run(task).status)
        return real(*args, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(template_planner.TemplatePlanner, "_planned", meanwhile)
    s.sync()
    assert done == ["saved", "completed"]
    monkeypatch.undo()
    s.sync("2026-03-02 08:01")
    s.work("2026-03-02 10:00")
    assert s.row(1).count == 1
    assert s.tasks() == ["1 03-02 08:00 #2 completed", "1 03-02 10:00 #1 superseded"]


def test_two_hooks_on_one_row_at_one_moment(pg: Make) -> None:
    # the second save waits for the first one's row lock, and sees its tasks
    s = pg()
    s.save(id=1, at=TEN)
    cls = s.element("models.Bill")
    with s.session() as first:
        first.get(cls, 1).at = datetime(2026, 3, 2, 11)
        first.flush()
        thread = threading.Thread(
            target=lambda: s.save(id=1, at=datetime(2026, 3, 2, 12))
        )
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        first.commit()
    thread.join(10)
    assert s.tasks(status="pending") == ["1 03-02 12:00 #3 pending"]


def test_without_tables_a_save_goes_on(pg: Make) -> None:
    s = pg()
    s.raw("DROP TABLE jittask_ledger")
    s.raw("DROP TABLE jittask_state")
    hindrance.forget()
    s.save(id=1, at=TEN)
    assert s.row(1).at == TEN


def test_a_result_with_anything_in_it(pg: Make) -> None:
    s = pg(inner=COUNT.replace("return row.count", r"return {'nul \0': '合同 \ud800'}"))
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    assert [o.status for o in s.work()] == ["completed"]
    assert s.row(1).count == 1
