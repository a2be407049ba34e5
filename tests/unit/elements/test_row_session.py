"""What a row's function commits, rolls back or closes has its ordinary effect, together with the task's completion."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from histories import Ordinary, Step, history, play
from shop import SERVERS, Shop
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, object_session, sessionmaker

from jittask_prefect.elements import row_session
from jittask_prefect.elements.row_session import (
    RowSessionError,
    RowTransaction,
    commit_and_chain,
)
from jittask_prefect.errors import JittaskError
from jittask_prefect.rows import hooks
from jittask_prefect.running.outcome import Outcome
from jittask_prefect.running.trial import run_here

Make = Callable[..., Shop]
Url = Callable[[str], str]
TEN = datetime(2026, 3, 2, 10)
GIVEN = "WORK = []\ndef customFunc(row):\n    with app.session() as s:\n        return WORK[0](row, s, app)\n"


def due(
    shop: Make, url: str, work: Callable[..., Any], rows: int = 1, **keys: Any
) -> Shop:
    """Rows that are due now, for a function that does `work(row, session, app)`."""
    s = shop(inner=GIVEN, app_json={"database": url}, **keys)
    with s.session() as session:
        session.add_all(
            [s.element("models.Bill")(id=key, at=TEN) for key in range(1, rows + 1)]
        )
        session.commit()
    s.sync("2026-03-02 10:00")
    s.app.module("tasks.Task", "inner").WORK.append(work)
    return s


def bills(s: Shop, key: int = 1) -> list[tuple[int, str, int]]:
    """The row of a key, and those that its function added."""
    cls = s.element("models.Bill")
    with s.session() as session:
        found = session.scalars(select(cls).order_by(cls.id))
        return [
            (b.id, b.status, b.count)
            for b in found
            if b.id == key or b.id // 1000 == key
        ]


def done(
    shop: Make, url: str, work: Callable[..., Any], **keys: Any
) -> tuple[Shop, Outcome]:
    s = due(shop, url, work, **keys)
    return s, s.run(s.entries()[0])


# One after the other

CASES: list[tuple[list[Step], list[tuple[str, int]]]] = [
    ([("set", 7), ("commit", 1), ("close", 2)], [("open", 7)]),
    (
        [("set", 7), ("commit", 1), ("set", 8), ("flush", 2), ("rollback", 3)],
        [("open", 7)],
    ),
    ([("set", 7), ("flush", 1), ("close", 2)], [("open", 0)]),
    (
        [("add", 1), ("commit", 2), ("rollback", 3), ("add", 4)],
        [("open", 0), ("added", 1), ("added", 4)],
    ),
    (
        [("add", 1), ("commit", 2), ("nested that fails", 3), ("close", 4)],
        [("open", 0), ("added", 1)],
    ),
    ([("begin", 1), ("begin that fails", 2)], [("open", 0), ("added", 1)]),
    (
        [("connection commits", 1), ("add", 2), ("rollback", 3)],
        [("open", 0), ("added", 1)],
    ),
    ([("driver commits", 1), ("close", 2)], [("open", 0), ("added", 1)]),
    ([("nested", 1), ("rollback", 2)], [("open", 0)]),
    (
        [("with the session", 1), ("get", 2), ("set", 3), ("commit", 4)],
        [("open", 3), ("added", 1)],
    ),
    ([("set", 7), ("expunge all", 1), ("commit", 2)], [("open", 0)]),
]


@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_what_was_committed_stays_and_nothing_else(
    shop: Make, url: Url, dispatch: str
) -> None:
    """A task of a function that commits and then closes is completed with its effect."""

    def work(row: Any, session: Any, app: Any) -> None:
        play(CASES[row.id - 1][0], row, session)

    s = due(shop, url("postgresql"), work, len(CASES), dispatch=dispatch)
    assert [o.message for o in s.work()] == [""] * len(CASES)
    found = [
        [(status, count) for _, status, count in bills(s, key)]
        for key in range(1, len(CASES) + 1)
    ]
    assert found == [expected for _, expected in CASES]


@pytest.mark.parametrize("dispatch", ["row", "batch"])
@pytest.mark.parametrize("kind", SERVERS)
def test_a_function_written_for_an_ordinary_session(
    shop: Make, url: Url, kind: str, dispatch: str
) -> None:
    """Random steps leave what they leave in an ordinary session, and the task is completed; or nothing and an error."""
    dice, ordinary = random.Random(f"{kind} {dispatch}"), Ordinary()
    steps: dict[int, list[Step]] = {}
    expected = {}
    while len(steps) < {"sqlite": 25, "postgresql": 25, "mariadb": 8}[kind]:
        key, drawn = len(steps) + 1, history(dice)
        if (left := ordinary.after(drawn, key)) is not None:
            steps[key], expected[key] = drawn, left
    s = due(
        shop,
        url(kind),
        lambda row, session, app: play(steps[row.id], row, session),
        len(steps),
        dispatch=dispatch,
    )
    s.work()
    for entry in s.entries():
        key = int(entry.row_key)
        fails = steps[key][-1][0] == "fail"
        assert entry.outcome == ("failed" if fails else "completed"), (
            steps[key],
            entry.message,
        )
        assert bills(s, key) == expected[key], steps[key]


@pytest.mark.parametrize("kind", SERVERS)
def test_an_error_that_leaves_a_block_undoes_the_block(
    shop: Make, url: Url, kind: str
) -> None:
    """And nothing that was written before the block or committed in it, when the function catches the error."""

    def work(row: Any, _: Any, app: Any) -> None:
        if row.id > 1:
            row.count = 7
        with suppress(KeyError), app.session() as s:
            s.add(type(row)(id=1000 * row.id + 1, status="first"))
            if row.id == 3:
                s.commit()
            s.add(type(row)(id=1000 * row.id + 2, status="second"))
            s.flush()
            if row.id < 4:
                raise KeyError

    s = due(shop, url(kind), work, 4)
    assert [o.status for o in s.work()] == ["completed"] * 4
    assert [
        [(status, count) for _, status, count in bills(s, key)] for key in range(1, 5)
    ] == [
        [("open", 0)],
        [("open", 7)],
        [("open", 7), ("first", 0)],
        [("open", 7), ("first", 0), ("second", 0)],
    ]


# What an ordinary session shares with nobody


@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_connections_of_its_own_are_its_own(
    shop: Make, url: Url, dispatch: str
) -> None:
    """Sessions made from the session's bind commit for themselves, and so does a connection of it."""

    def work(row: Any, s: Any, app: Any) -> None:
        cls = type(row)
        with sessionmaker(s.get_bind())() as own:
            own.add(cls(id=1001))
            own.commit()
            own.add(cls(id=1002))
            own.rollback()
        with s.get_bind().begin() as connection:
            connection.execute(
                text("INSERT INTO bill (id, status, count) VALUES (1003, 'x', 0)")
            )
        engine = create_engine(app.database_url())
        with Session(engine) as other:
            other.add(cls(id=1004))
            other.commit()
        engine.dispose()
        object_session(row).add(cls(id=1005))

    s = due(shop, url("postgresql"), work, dispatch=dispatch)
    assert [o.status for o in s.work()] == ["completed"]
    assert [key for key, *_ in bills(s)] == [1, 1001, 1003, 1004, 1005]


def test_an_async_function_commits_and_closes(shop: Make, url: Url) -> None:
    """What an async function commits holds as well."""

    async def work(row: Any, s: Any, app: Any) -> None:
        row.count = 7
        s.commit()
        row.count = 8
        s.close()

    s, outcome = done(shop, url("postgresql"), work)
    assert (outcome.status, bills(s)) == ("completed", [(1, "open", 7)])


@pytest.mark.parametrize("kind", SERVERS)
def test_the_end_of_the_transaction_as_text_is_refused(
    shop: Make, url: Url, kind: str
) -> None:
    """The task fails with a sentence that says what to use, and nothing of it is kept; savepoints are no end."""
    said = [
        "COMMIT",
        " rollback",
        "START  TRANSACTION",
        "begin",
        "/* by */ -- hand\nCOMMIT",
        "SELECT ';'; ROLLBACK",
    ]
    said += ["ROLLBACK /* COMMIT */ TO SAVEPOINT mine"]

    def work(row: Any, s: Any, app: Any) -> None:
        row.count = 7
        s.flush()
        s.execute(text("SAVEPOINT mine"))
        s.execute(text(said[row.id - 1]))

    s = due(shop, url(kind), work, len(said))
    s.work()
    *refused, last = s.entries()
    assert all(
        "use the session's commit() and rollback()" in entry.message
        for entry in refused
    )
    assert [(last.status, b) for b in bills(s, 7)] == [("completed", (7, "open", 7))]
    assert [bills(s, key) for key in range(1, 7)] == [
        [(key, "open", 0)] for key in range(1, 7)
    ]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_connection_that_breaks_after_a_commit(
    shop: Make, url: Url, kind: str
) -> None:
    """What was committed is lost with the connection: the task is no success, whatever its function catches."""
    kill = {"postgresql": "SELECT pg_terminate_backend(:id)", "mariadb": "KILL :id"}[
        kind
    ]
    me = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}[
        kind
    ]

    def work(row: Any, s: Any, app: Any) -> None:
        row.count = 7
        s.commit()
        mine = s.execute(text(me)).scalar()
        with app.engine().connect() as other:
            other.execute(text(kill), {"id": mine})
        with suppress(DBAPIError):
            s.execute(text("SELECT 1"))
        with suppress(Exception):
            s.rollback()

    s, outcome = done(shop, url(kind), work)
    assert (
        outcome.status == "error" and "the function's commit is lost" in outcome.message
    )
    assert bills(s) == [(1, "open", 0)]


def test_a_session_that_is_invalidated(shop: Make, url: Url) -> None:
    """With nothing committed it goes on with another connection; else the task fails with a sentence."""

    def work(row: Any, s: Any, app: Any) -> None:
        row.count = 7
        if row.id == 2:
            s.commit()
        s.connection()
        s.invalidate()
        with suppress(JittaskError):
            s.add(type(row)(id=1000 * row.id + 1))
        s.add(type(row)(id=1000 * row.id + 2))
        s.commit()

    s = due(shop, url("postgresql"), work, rows=2)
    s.work()
    one, two = s.entries()
    assert (one.status, bills(s, 1)) == (
        "completed",
        [(1, "open", 0), (1001, "open", 0), (1002, "open", 0)],
    )
    assert two.status == "error" and "the function's commit is lost" in two.message
    assert bills(s, 2) == [(2, "open", 0)]


@pytest.mark.parametrize("kind", SERVERS)
def test_a_savepoint_that_comes_first_is_no_commit(
    shop: Make, url: Url, kind: str
) -> None:
    """What a savepoint has released is undone where the function fails; SQLite would have committed it."""

    def work(row: Any, s: Any, app: Any) -> None:
        with s.begin_nested():
            s.add(type(row)(id=1001))
        raise ValueError("no")

    s, outcome = done(shop, url(kind), work)
    assert (outcome.status, bills(s)) == ("error", [(1, "open", 0)])


# Attempts


@pytest.mark.parametrize("dispatch", ["row", "batch"])
@pytest.mark.parametrize("kind", SERVERS)
def test_an_attempt_that_fails_leaves_nothing(
    shop: Make, url: Url, kind: str, dispatch: str
) -> None:
    """The effect of the attempt that succeeds is the only one, also where another had committed."""
    tries: list[int] = []

    def work(row: Any, s: Any, app: Any) -> None:
        row.count += 1
        s.add(type(row)(id=1000 * row.id + len(tries)))
        s.commit()
        tries.append(row.id)
        if len(tries) < 3:
            raise ValueError("no")

    s = due(shop, url(kind), work, rows=2, retries=2, dispatch=dispatch)
    assert [o.status for o in s.work()] == ["completed"] * 2
    assert [count for _, _, count in bills(s, 1) + bills(s, 2)] == [1, 0, 1, 0]


@pytest.mark.parametrize("dispatch", ["row", "batch"])
@pytest.mark.parametrize("kind", SERVERS)
def test_a_function_that_committed_and_does_not_return(
    shop: Make, url: Url, kind: str, dispatch: str
) -> None:
    """Nothing of it is kept, and when it goes on it has no database any more."""
    go, over, said = threading.Event(), threading.Event(), []

    def work(row: Any, s: Any, app: Any) -> None:
        row.count = 7
        s.commit()
        if row.id == 1:
            go.wait(20)
            try:
                s.execute(text("UPDATE bill SET status = 'late'"))
            except Exception as error:  # noqa: BLE001
                said.append(str(error))
            over.set()

    s = due(shop, url(kind), work, rows=2, timeout=0.5, dispatch=dispatch)
    assert sorted(o.outcome for o in s.work()) == ["completed", "timeout"]
    go.set()
    assert over.wait(10)
    assert "the time of the row's task is over" in said[0]
    assert bills(s, 1) + bills(s, 2) == [(1, "open", 0), (2, "open", 7)]


def test_a_trial_run_keeps_nothing(shop: Make, url: Url) -> None:
    """`jittask run --dry` undoes what the function has committed; without it the effect is there."""

    def work(row: Any, s: Any, app: Any) -> None:
        row.count += 1
        s.commit()
        s.close()

    s = due(shop, url("postgresql"), work)
    run_here(s.app, "tasks.Task", "1", s.now, dry=True)
    assert bills(s) == [(1, "open", 0)]
    run_here(s.app, "tasks.Task", "1", s.now, dry=False)
    assert bills(s) == [(1, "open", 1)]


def test_a_function_that_never_commits_costs_no_statement(
    shop: Make, url: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No savepoint is set before the function has committed, and each commit costs two at most."""
    said: list[str] = []
    real = RowTransaction._say
    monkeypatch.setattr(
        RowTransaction, "_say", lambda self, sql: (said.append(sql), real(self, sql))[1]
    )

    def work(row: Any, s: Any, app: Any) -> None:
        row.count += 1
        if row.id == 2:
            s.commit()
            s.commit()

    s = due(shop, url("postgresql"), work, rows=2)
    first, second = s.entries()
    assert (s.run(first).status, said) == ("completed", [])
    assert s.run(second).status == "completed"
    assert [sql.partition(" ")[0] for sql in said] == [
        "SAVEPOINT",
        "RELEASE",
        "SAVEPOINT",
        "RELEASE",
    ]


def test_the_hand_over_is_told_once_the_task_is_completed(shop: Make, url: Url) -> None:
    """What a function saves and commits is planned in its transaction; nobody is told before that is committed."""
    told: list[str] = []

    def nudge(app: Any, database: str) -> None:
        told.append(s.entries(row_key="1")[0].status)

    def work(row: Any, s: Any, app: Any) -> None:
        s.add(type(row)(id=1001, at=datetime(2026, 3, 2, 11)))
        s.commit()
        s.rollback()

    s = due(shop, url("postgresql"), work)
    hooks._nudges.append(nudge)
    assert s.run(s.entries()[0]).status == "completed"
    assert told == ["completed"]
    assert s.tasks(row_key="1001") == ["1001 03-02 11:00 #1 pending"]


# On PostgreSQL the commit of a batch's row begins the next row's transaction

IDLE, IN_TRANSACTION = 0, 2  # of libpq


@pytest.fixture
def driver(url: Url) -> Iterator[Any]:
    """A connection of psycopg, beside a table of its own."""
    engine = create_engine(url("postgresql"))
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE one (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        )
    raw = engine.raw_connection()
    try:
        yield raw.driver_connection
    finally:
        raw.close()
        engine.dispose()


def ids(url: Url) -> list[int]:
    """The table's rows, as another connection sees them."""
    engine = create_engine(url("postgresql"))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT id FROM one ORDER BY id")).scalars()
        return list(found)


def test_a_commit_that_chains_is_a_commit_and_a_begin(driver: Any, url: Url) -> None:
    driver.execute("INSERT INTO one VALUES (1)")
    assert commit_and_chain(driver)
    assert driver.info.transaction_status == IN_TRANSACTION
    driver.execute("INSERT INTO one VALUES (2)")
    assert ids(url) == [1]
    driver.rollback()
    assert (ids(url), driver.info.transaction_status) == ([1], IDLE)


def test_a_commit_that_fails_raises_the_drivers_error(driver: Any, url: Url) -> None:
    driver.execute("INSERT INTO one VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        commit_and_chain(driver)
    assert (ids(url), driver.info.transaction_status) == ([], IDLE)
    driver.execute("INSERT INTO one VALUES (3)")
    driver.commit()
    assert ids(url) == [3]


def test_without_a_transaction_nothing_is_chained(driver: Any) -> None:
    assert not commit_and_chain(driver)
    driver.execute("INSERT INTO one VALUES (1)")
    with pytest.raises(psycopg.errors.UndefinedTable):
        driver.execute("SELECT * FROM nowhere")
    assert not commit_and_chain(driver)  # it would be a rollback
    assert not commit_and_chain(object())


@pytest.mark.parametrize(("kind", "chained"), [("postgresql", 3), ("sqlite", 0)])
def test_each_row_of_a_batch_but_the_last_chains(
    shop: Make, url: Url, kind: str, chained: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five rows; the third fails: its transaction was begun by the second one's commit, and is undone."""
    asked: list[bool] = []

    def counted(driver: Any) -> bool:
        asked.append(commit_and_chain(driver))
        return asked[-1]

    def work(row: Any, session: Session, app: Any) -> None:
        row.count += 1
        session.flush()
        if row.id == 3:
            raise ValueError("no")

    monkeypatch.setattr(row_session, "commit_and_chain", counted)
    s = due(shop, url(kind), work, rows=5, dispatch="batch")
    s.work("2026-03-02 10:00")
    assert [s.row_count(key) for key in range(1, 6)] == [1, 1, 0, 1, 1]
    assert sum(asked) == chained


def test_the_cursor_of_each_row_is_kept(tmp_path: Path) -> None:
    own = RowTransaction(create_engine(f"sqlite:///{tmp_path}/shop.db"))
    first = own.cursor()
    own.begin()
    assert own.cursor() is first
    own.raw.invalidate()
    with own.connection():  # another one
        assert own.cursor() is not first
    own.given_up = True
    with pytest.raises(RowSessionError):
        own.cursor()
    own.close()
