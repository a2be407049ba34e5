"""A row's key may be any value of any type: on SQLite, PostgreSQL and MariaDB, by the hook and by the sync."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from shop import Server, Shop, model_of, rows_task
from sqlalchemy import update

from jittask_prefect.rows.databases import key_problems
from jittask_prefect.testing import build_app

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
HEAD = """
import enum, uuid
from datetime import date, datetime
from decimal import Decimal
import sqlalchemy as sa
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"

# texts that MariaDB tells apart as the others do: case, accents, spaces at the end
EXACT = sa.String(255).with_variant(sa.String(255, collation="utf8mb4_nopad_bin"), "mysql", "mariadb")

"""
BILL = """
class Bill(SQLModel, table=True):
    at: NaiveDatetime | None = None
    count: int = 0
"""
NO_SERIAL = ", sa_column_kwargs={'autoincrement': False}"
TEXT = "    id: str = Field(primary_key=True, sa_type=EXACT)\n"
KEYS = [
    "a", "A", "a ", " a", "á", "a\u0301", "A/b", "a/b", "it's", 'say "so"', "back\\slash", "a\tb\nc\r", "\x01\x1b\x7f",
    "🎉", "🎈", "合同", "合", "%", "_", "100%", "a%", "{{ x }}", "{x}", '["a",1]', '{"k": null}', "null", "None", "0",
    "00", "-1", "1e3", "--; DROP TABLE bill", ":id", "%(id)s", "?", "a,b", "İ", "ß", "ss", "ſ", "\u200b", "x" * 255,
    "🎉" * 255, "9b2f3c1e-0d4a-4b5f-8a6e-1f2d3c4b5a69", "9B2F3C1E-0D4A-4B5F-8A6E-1F2D3C4B5A69",
]  # fmt: skip


def keyed(on: Make, columns: str, **keys: Any) -> Shop:
    return on(
        elements={
            "models/Bill": model_of(
                HEAD + (columns if "class Bill" in columns else BILL + columns)
            ),
            "tasks/Task": rows_task("at"),
        },
        **keys,
    )


def save(s: Shop, *rows: dict[str, Any]) -> None:
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add_all([cls(at=TEN, **row) for row in rows])
        session.commit()


def counts(s: Shop) -> list[int]:
    with s.app.engine().connect() as connection:
        return [n for (n,) in connection.exec_driver_sql("SELECT count FROM bill")]


@pytest.mark.parametrize("way", ["hook", "sync"])
def test_any_text(on: Make, way: str) -> None:
    s = keyed(on, TEXT)
    if way == "hook":
        save(s, *({"id": key} for key in KEYS))
    else:
        for key in KEYS:
            s.insert(id=key, at=TEN, count=0)
    report = s.sync()
    assert report.problems == []
    assert sorted(e.row_key for e in s.entries()) == sorted(KEYS)
    assert s.did() == [] and s.did("2026-03-02 08:01") == []
    assert {o.status for o in s.work("2026-03-02 10:00")} == {"completed"}
    assert counts(s) == [1] * len(KEYS)
    assert s.did("2026-03-02 10:01") == []


def test_texts_that_differ_in_case_only_change_apart(on: Make) -> None:
    s = keyed(on, TEXT)
    save(s, {"id": "a"}, {"id": "A"}, {"id": "a "})
    s.sync()
    cls = s.element("models.Bill")
    with s.session() as session:
        session.get(cls, "A").at = datetime(2026, 3, 2, 11)
        session.delete(session.get(cls, "a "))
        session.commit()
    assert s.did("2026-03-02 08:01") == []
    assert sorted(s.tasks()) == [
        "A 03-02 10:00 #1 superseded", "A 03-02 11:00 #2 pending", "a  03-02 10:00 #1 superseded",
        "a 03-02 10:00 #1 pending",
    ]  # fmt: skip


def test_a_table_that_takes_no_account_of_case(on: Make, server: Server) -> None:
    # MariaDB's own collation: 'Abc' and 'abc' are one row, whatever a program calls it
    if server.kind != "mariadb":
        pytest.skip("MariaDB's")
    s = keyed(on, "    id: str = Field(primary_key=True, max_length=60)\n")
    save(s, {"id": "Abc"})
    with s.session() as session:
        session.get(s.element("models.Bill"), "ABC").at = datetime(2026, 3, 2, 11)
        session.commit()
    assert s.did() == [] and s.did("2026-03-02 08:01") == []
    assert [
        o.status for o in s.work("2026-03-02 11:00") if o.status == "completed"
    ] == ["completed"]
    assert counts(s) == [1]


UUID = uuid.UUID("9b2f3c1e-0d4a-4b5f-8a6e-1f2d3c4b5a69")


@pytest.mark.parametrize(
    ("columns", "row", "key"),
    [
        ("id: uuid.UUID", {"id": UUID}, str(UUID)),
        ("id: int", {"id": 0}, "0"),
        ("id: int", {"id": -7}, "-7"),
        ("id: int = BIG", {"id": 2**63 - 1}, "9223372036854775807"),
        ("id: date", {"id": date(2026, 1, 2)}, "2026-01-02"),
        (
            "id: NaiveDatetime",
            {"id": datetime(2026, 1, 2, 3, 4, 5)},
            "2026-01-02 03:04:05",
        ),
        (
            "id: datetime",
            {"id": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)},
            "2026-01-02 03:04:05+00:00",
        ),
        ("id: bool", {"id": True}, "True"),
        ("id: bool", {"id": False}, "False"),
        ("id: Decimal = MONEY", {"id": Decimal("1.5")}, "1.5"),
        ("id: Decimal = MONEY", {"id": Decimal("10")}, "10"),
        ("id: Size", {}, None),
        ("id: str = CHAR", {"id": "ab"}, "ab"),
        ("id: str = CHAR; no: int", {"id": "ab", "no": 1}, '["ab",1]'),
        ("id: str; no: int", {"id": "1", "no": 1}, '["1",1]'),
        ("id: int; no: int", {"id": 1, "no": 1}, "[1,1]"),
        (
            "id: str; no: str",
            {"id": 'a"],["', "no": "合同 \\"},
            '["a\\"],[\\"","合同 \\\\"]',
        ),
        (
            "id: uuid.UUID; day: date",
            {"id": UUID, "day": date(2026, 1, 2)},
            f'["{UUID}","2026-01-02"]',
        ),
        ("id: int; paid: bool", {"id": 1, "paid": True}, '[1,"True"]'),
    ],
    ids=lambda value: value if isinstance(value, str) and "id: " in value else "",
)
def test_any_type(on: Make, columns: str, row: dict[str, Any], key: str | None) -> None:
    source = ""
    for column in columns.split("; "):
        declared, _, kind = column.partition(" = ")
        type_ = {
            "BIG": ", sa_type=sa.BigInteger", "MONEY": ", sa_type=sa.Numeric(8, 2)", "CHAR": ", sa_type=sa.CHAR(10)",
        }.get(kind, ", max_length=60" if declared.endswith("str") else "")  # fmt: skip
        serial = NO_SERIAL if declared in ("id: int", "id: Decimal") else ""
        source += f"    {declared} = Field(primary_key=True{type_}{serial})\n"
    s = keyed(on, source)
    if "Size" in columns:
        row = {"id": s.app.module("models.Bill", "model").Size.SMALL}
    save(s, row)
    hook = [e.row_key for e in s.entries()]
    s.raw("DELETE FROM jittask_ledger")
    report = s.sync()
    assert (hook, report.problems) == ([e.row_key for e in s.entries()], [])
    assert len(hook) == 1 and (key is None or hook == [key])
    assert s.did("2026-03-02 08:01") == []
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]
    assert counts(s) == [1]


OWN = """
class HashId(sa.types.TypeDecorator):
    # a public text for a number
    impl, cache_ok = sa.Integer, True
    def process_bind_param(self, value, dialect):
        return None if value is None else int(value.removeprefix("bill-"), 36)
    def process_result_value(self, value, dialect):
        return None if value is None else f"bill-{value:x}" if value < 10 else f"bill-{HEX(value)}"

def HEX(value):
    digits = ""
    while value:
        value, last = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[last] + digits
    return digits

class Folded(sa.types.TypeDecorator):
    # upper case for the program, lower case in the database
    impl, cache_ok = EXACT, True
    def process_bind_param(self, value, dialect):
        return value.lower()
    def process_result_value(self, value, dialect):
        return value.upper()

class Guid(sa.types.TypeDecorator):
    # SQLAlchemy's own recipe
    impl, cache_ok = sa.CHAR(32), True
    def process_bind_param(self, value, dialect):
        return value.hex
    def process_result_value(self, value, dialect):
        return uuid.UUID(value)

class Point:
    def __init__(self, x):
        self.x = x

class Spot(sa.types.TypeDecorator):
    impl, cache_ok = sa.LargeBinary().with_variant(sa.BINARY(4), "mysql", "mariadb"), True
    def process_bind_param(self, value, dialect):
        return value.x.to_bytes(4, "big")
    def process_result_value(self, value, dialect):
        return Point(int.from_bytes(value, "big"))

BYTES = sa.LargeBinary().with_variant(sa.VARBINARY(16), "mysql", "mariadb")
FIXED = sa.LargeBinary().with_variant(sa.BINARY(16), "mysql", "mariadb")
"""


@pytest.mark.parametrize(
    ("kind", "value", "key"),
    [
        ("HashId", "bill-zz", "1295"),
        ("Folded", "ABC", "abc"),
        ("Guid", UUID, UUID.hex),
        ("Spot", 258, "00000102"),
        ("BYTES", b"\x00\xffab", "00ff6162"),
        ("FIXED", UUID.bytes, UUID.hex),
        ("sa.Time", time(3, 4, 5), "03:04:05"),
        ("sa.Interval", timedelta(days=1, seconds=2), "86402000000"),
        ("sa.Double", 0.1, "0.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_that_python_and_the_database_write_differently(
    on: Make, kind: str, value: Any, key: str
) -> None:
    """The ledger has the database's value, and finds the row by it: hook, sync, statement and run."""
    declared = f"    id: object = Field(primary_key=True, sa_type={kind}{NO_SERIAL if kind == 'sa.Double' else ''})\n"
    declared += "    model_config = {'arbitrary_types_allowed': True}\n"
    s = keyed(on, OWN + "\n" + BILL + declared)
    if kind == "Spot":
        value = s.app.module("models.Bill", "model").Point(value)
    save(s, {"id": value})
    assert s.tasks() == [f"{key} 03-02 10:00 #1 pending"]
    s.raw("DELETE FROM jittask_ledger")
    assert s.sync().problems == []
    assert s.tasks() == [f"{key} 03-02 10:00 #1 pending"]
    cls = s.element("models.Bill")
    with s.session() as session:
        session.execute(
            update(cls).where(cls.id == value).values(at=datetime(2026, 3, 2, 11))
        )
        session.commit()
    assert s.tasks(status="pending") == [f"{key} 03-02 11:00 #2 pending"]
    assert s.did("2026-03-02 08:01") == []
    assert [o.status for o in s.work("2026-03-02 11:00")] == ["completed"]
    assert counts(s) == [1]
    with s.session() as session:
        session.get_one(cls, value).at = datetime(2026, 3, 2, 12)
        session.commit()
        session.delete(session.get_one(cls, value))
        session.commit()
    assert s.tasks(status="pending") == []


BROKEN = """
class Sealed(sa.types.TypeDecorator):
    # reads nothing while its secret is missing
    impl, cache_ok = sa.Integer, True
    def process_result_value(self, value, dialect):
        if not KEY:
            raise RuntimeError("no secret")
        return value

KEY = ["secret"]
"""


def test_a_key_that_cannot_be_read_is_not_gone(on: Make) -> None:
    """Only what is known to be gone ends: the task waits, the sync says why, and a run is an error."""
    s = keyed(
        on,
        BROKEN
        + "\n"
        + BILL
        + f"    id: int = Field(primary_key=True, sa_type=Sealed{NO_SERIAL})\n",
    )
    save(s, {"id": 7})
    s.sync()
    key = s.app.module("models.Bill", "model").KEY
    key.clear()
    s.config(
        timerCfg={
            "startField": "at",
            "startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "hour"},
        }
    )
    s.app.module("models.Bill", "model").KEY.clear()
    report = s.sync("2026-03-02 08:01")
    assert any("no secret" in problem for problem in report.problems)
    assert s.tasks() == ["7 03-02 10:00 #1 pending"]
    [outcome] = s.work("2026-03-02 10:00")
    assert outcome.status == "error" and "no secret" in outcome.message
    s.app.module("models.Bill", "model").KEY.append("secret")
    assert s.did("2026-03-02 10:01") == ["create 7 03-02 11:00"]


def test_a_key_that_is_too_long_is_reported_and_the_others_go_on(on: Make) -> None:
    s = keyed(on, "    id: str = Field(primary_key=True, max_length=300)\n")
    for key in ("x" * 256, "", "y" * 255):
        s.insert(id=key, at=TEN, count=0)
    report = s.sync()
    assert len(report.problems) == 2 and all(
        p.startswith("tasks.Task") for p in report.problems
    )
    assert any("256 characters" in p for p in report.problems)
    assert [e.row_key for e in s.entries()] == ["y" * 255]
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]


def test_templates_that_differ_in_case_only(on: Make) -> None:
    # folders of a Linux machine; the ledger must not take one's tasks for the other's
    later = rows_task(
        "at", startOffset={"offsetType": 1, "offset": 1, "offsetUnit": "hour"}
    )
    s = keyed(on, TEXT, more={"tasks/TASK": later})
    save(s, {"id": "hook"})
    s.insert(id="sync", at=TEN, count=0)
    assert s.sync().problems == []
    assert s.did() == [] and s.did("2026-03-02 08:01") == []
    found = sorted(
        (e.template, e.row_key, f"{e.due:%H:%M}", e.status) for e in s.entries()
    )
    assert found == [
        ("tasks.TASK", "hook", "11:00", "pending"), ("tasks.TASK", "sync", "11:00", "pending"),
        ("tasks.Task", "hook", "10:00", "pending"), ("tasks.Task", "sync", "10:00", "pending"),
    ]  # fmt: skip
    s.work("2026-03-02 11:00")
    assert counts(s) == [2, 2]


def test_a_database_whose_texts_are_latin(on: Make, server: Server) -> None:
    # the ledger brings its own character set; else INSERT IGNORE would make '?' of the key and lose the second row
    if server.kind != "mariadb":
        pytest.skip("MariaDB's")
    s = keyed(on, TEXT)
    name = s.app.engine().url.database
    try:
        s.raw("DROP TABLE jittask_ledger")
        s.raw("DROP TABLE jittask_state")
        s.raw(f"ALTER DATABASE {name} CHARACTER SET latin1")
        s.api.variables.clear()  # a server that knows no earlier ledger
        s.again()
        for key in ("合", "同"):
            s.insert(id=key, at=TEN, count=0)
        assert s.sync().problems == []
        assert {e.row_key for e in s.entries()} == {"合", "同"}
    finally:
        s.raw(f"ALTER DATABASE {name} CHARACTER SET utf8mb4")


CHAR = "    id: str = Field(primary_key=True, sa_type=sa.CHAR(10))\n"


def test_spaces_at_the_end_of_a_char(on: Make, server: Server) -> None:
    # two keys on SQLite, one elsewhere; each row has its own task, by hook and by sync
    s = keyed(on, CHAR)
    save(s, {"id": "ab "})
    if server.kind == "sqlite":
        s.insert(id="ab", at=TEN, count=0)
    expected = ["ab", "ab "] if server.kind == "sqlite" else ["ab"]
    assert s.sync().problems == []
    assert sorted(e.row_key for e in s.entries()) == expected
    assert s.did("2026-03-02 08:01") == []
    s.work("2026-03-02 10:00")
    assert counts(s) == [1] * len(expected)


def test_a_change_of_a_row_with_a_padded_key(on: Make) -> None:
    # PostgreSQL gives the loaded row its key with spaces: by the unit of work, by a statement, and deleted
    s = keyed(on, CHAR)
    save(s, {"id": "ab"}, {"id": "cd"})
    cls = s.element("models.Bill")
    with s.session() as session:
        session.get(cls, "ab").at = datetime(2026, 3, 2, 11)
        session.commit()
        session.execute(
            update(cls).where(cls.id == "cd").values(at=datetime(2026, 3, 2, 12))
        )
        session.commit()
    assert s.did("2026-03-02 08:01") == []
    open_ = sorted(s.tasks(status="pending"))
    assert open_ == ["ab 03-02 11:00 #2 pending", "cd 03-02 12:00 #2 pending"]
    with s.session() as session:
        session.delete(session.get(cls, "ab"))
        session.commit()
    assert s.tasks(status="pending") == ["cd 03-02 12:00 #2 pending"]


ONE_WAY = """
class Code(sa.TypeDecorator):
    impl = sa.String(20)
    cache_ok = True
    def process_result_value(self, value, dialect):
        return f"K-{value}"
"""
BOTH_WAYS = """
class Code(sa.TypeDecorator):
    impl = sa.String(20)
    cache_ok = True
    def process_bind_param(self, value, dialect):
        return value.removeprefix("K-")
    def process_result_value(self, value, dialect):
        return f"K-{value}"
"""


@pytest.mark.parametrize(
    "source, column, said",
    [
        (ONE_WAY, "id: str = Field(primary_key=True, sa_type=Code)", "id: the key 'K-a' cannot be read back from 'K-a'"),
        (BOTH_WAYS, "id: str = Field(primary_key=True, sa_type=Code)", None),
        ("", "id: Size = Field(primary_key=True)", None),
        ("", "id: Decimal = Field(primary_key=True, max_digits=5, decimal_places=2)", None),
        ("", "id: uuid.UUID = Field(primary_key=True)\n    day: date = Field(primary_key=True)", None),
    ],
)  # fmt: skip
def test_a_round_trip_of_sample_keys(
    tmp_path: Path, source: str, column: str, said: str | None
) -> None:
    bill = {"models/Bill": model_of(f"{HEAD}{source}{BILL}    {column}\n")}
    app = build_app(tmp_path / "app", bill, ready=False)
    found = [str(problem) for problem in key_problems(app)]
    allowed = "a key whose type reads back the values that it writes"
    assert found == (
        []
        if said is None
        else [f"models/Bill/model.py: key: found {said}; allowed: {allowed}"]
    )
    app.close()
