"""`jittask doctor` names the index that is missing, and the statement that it prints makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop import MODEL, Shop, model_of, rows_task, utc
from sqlalchemy import text

from jittask_prefect.cli import doctor
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.rows import indexes

Make = Callable[..., Shop]
NOW = utc("2026-03-02 08:00")


def told(s: Shop) -> str | None:
    template = s.app.template("tasks.Task")
    assert isinstance(template, DateFieldType)
    with s.app.engine().connect() as connection:
        return indexes.missing(connection, template, NOW)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    ("field", "repeat", "sqlite", "postgresql"),
    [
        (
            "day",
            "normal",
            "CREATE INDEX ix_bill_day ON bill (day)",
            "CREATE INDEX ix_bill_day ON bill (day)",
        ),
        (
            "at",
            "year",
            "CREATE INDEX ix_bill_at_month_day ON bill ((substr(at, 6, 5)))",
            "CREATE INDEX ix_bill_at_month_day ON bill ((date_part('month', at) * 100 + date_part('day', at)))",
        ),
        (
            "moment",
            "month",
            "CREATE INDEX ix_bill_moment_day ON bill ((substr(moment, 9, 2)))",
            "CREATE INDEX ix_bill_moment_day ON bill ((date_part('day', timezone('UTC', moment))))",
        ),
    ],
)
def test_the_statement_makes_it(
    shop: Make,
    database: str,
    field: str,
    repeat: str,
    sqlite: str,
    postgresql: str,
    url: Callable[[str], str],
) -> None:
    s = shop(field, repeat={"repeatType": repeat}, app_json={"database": url(database)})
    statement = told(s)
    assert statement == (sqlite if database == "sqlite" else postgresql)
    s.raw(statement.replace(":", "\\:"))
    assert told(s) is None


@pytest.mark.parametrize("repeat", ["normal", "year"])
def test_levels_are_found_by_the_date_and_their_repeat_by_its_days(
    shop: Make, repeat: str
) -> None:
    days = {"offsetType": 1, "offsetUnit": "day"}
    levels = [{"name": "a", "offset": 3, **days}, {"name": "b", "offset": 9, **days}]
    s = shop(startOffset=levels, repeat={"repeatType": repeat})
    statements = [
        "CREATE INDEX ix_bill_at ON bill (at)",
        "CREATE INDEX ix_bill_at_month_day ON bill ((substr(at, 6, 5)))",
    ]
    for statement in statements[: 1 if repeat == "normal" else 2]:
        assert told(s) == statement
        s.raw(statement)
    assert told(s) is None


@pytest.mark.parametrize(
    ("database", "kind", "columns"),
    [
        ("sqlite", "str | None = None", "at, zone, region"),
        ("postgresql", "str | None = None", "at, zone, region"),
        ("mariadb", "str | None = Field(default=None, max_length=64)", "at, zone, region"),
        ("mariadb", "str | None = Field(default=None, sa_type=Text)", "at"),
    ],
)  # fmt: skip
def test_the_columns_of_a_row_s_own_zone_and_calendar_stand_beside_the_date(
    shop: Make, url: Callable[[str], str], database: str, kind: str, columns: str
) -> None:
    """The sync asks which zones and calendars occur; then it need not look into each row."""
    own = f"    zone: {kind}\n    region: {kind}\n    count: int"
    model = "from sqlalchemy import Text\n" + MODEL.replace("    count: int", own)
    keys = {"timezoneField": "zone", "calendarField": "region", "workdaysOnly": 1}
    task = rows_task(startOffset={"offsetType": 1, "offset": 3, "offsetUnit": "day"})
    task["e.json"]["timerCfg"] |= keys
    about = {"models/Bill": model_of(model), "tasks/Task": task}
    s = shop(elements=about, app_json={"database": url(database)})
    name = "_".join(columns.split(", "))
    assert told(s) == f"CREATE INDEX ix_bill_{name} ON bill ({columns})"
    s.raw(str(told(s)))
    assert told(s) is None


@pytest.mark.parametrize(
    "keys", [{"repeat": {"repeatType": "hour"}}, {"repeat": {"repeatType": "week"}}]
)
def test_where_none_helps_none_is_asked_for(shop: Make, keys: dict[str, Any]) -> None:
    assert told(shop(**keys)) is None


def test_an_index_that_begins_with_the_date_will_do(shop: Make) -> None:
    s = shop()
    s.raw("CREATE INDEX other ON bill (status, at)")
    assert told(s) is not None
    s.raw("CREATE UNIQUE INDEX both ON bill (at, id)")
    assert told(s) is None


def test_the_doctor_says_so(shop: Make) -> None:
    s = shop()
    found = [f for f in doctor.findings(s.app, NOW) if f.about == "database"]
    assert [f.state for f in found] == ["ok", "warning"]
    assert found[1].text == (
        "tasks.Task: each sync reads the whole table; an index makes it quick: CREATE INDEX ix_bill_at ON bill (at);"
    )
    with s.app.engine().begin() as connection:
        connection.execute(text("DROP TABLE bill"))
    found = [f for f in doctor.findings(s.app, NOW) if f.about == "database"]
    assert found[1].state == "wrong" and found[1].text.startswith(
        "tasks.Task: its rows cannot be asked for: "
    )
