"""What `check` warns of in the columns of a date-field task: zones that a database drops, dates that set themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from app_files import APP, REMIND, patched, write
from sqlmodel import Session, select

from jittask_prefect.rows.databases import upgrade

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = """
from datetime import date, datetime

from sqlalchemy import FetchedValue, text
from sqlmodel import DateTime, Field, SQLModel


class Contract(SQLModel, table=True):
    __tablename__ = "zoned_contract"

    id: int | None = Field(default=None, primary_key=True)
    endDate: date | None = None
    instant: datetime | None = None
    plain: datetime | None = Field(default=None, sa_type=DateTime())
    zoned: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    closed: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    changed: datetime | None = Field(default=None, sa_type=DateTime(), sa_column_kwargs={"onupdate": datetime.now})
    fetched: datetime | None = Field(
        default=None, sa_type=DateTime(), sa_column_kwargs={"server_onupdate": FetchedValue()}
    )
    stamped: datetime | None = Field(
        default=None,
        sa_type=DateTime(),
        sa_column_kwargs={"server_default": text("CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP")},
    )
"""
SQLITE, MARIADB, POSTGRES = (
    "sqlite:///test.db",
    "mysql+pymysql://u@h/d",
    "postgresql+psycopg://u@h/d",
)
ZONED = [
    "tasks.Remind: zoned is DateTime(timezone=True), and {kind} keeps no zone: a time that was saved with one is read "
    "as a time of Asia/Shanghai, hours early or late; take SQLModel's UTCDateTime, which keeps UTC, DateTime() with "
    "times of that zone, or PostgreSQL"
]


def warned(folder: Path, url: str, **patch: Any) -> list[str]:
    files = {
        "models/Contract/model.py": MODEL,
        "tasks/Remind/e.json": patched(REMIND, patch),
    }
    app = write(folder, **{"app.json": APP | {"database": url}, **files})
    assert app.check() == []
    return app.warnings(NOW)


@pytest.mark.parametrize(
    "url, kind", [(SQLITE, "sqlite"), (MARIADB, "mysql"), (POSTGRES, None)]
)
def test_a_date_with_a_zone_where_the_database_keeps_none(
    tmp_path: Path, url: str, kind: str | None
) -> None:
    expected = [line.format(kind=kind) for line in ZONED] if kind else []
    assert warned(tmp_path, url, **{"timerCfg.startField": "zoned"}) == expected


@pytest.mark.parametrize(
    "patch",
    [
        {
            "timerCfg.startField": "plain",
            "timerCfg.endTimeType": 2,
            "timerCfg.endField": "zoned",
        },
        {"timerCfg.startField": "plain", "filter": "~Q(zoned__lt=Q.now())"},
        {"timerCfg.startField": "zoned", "filter": "Q(zoned__isnull=0) | Q(id=1)"},
    ],
)
def test_an_end_or_a_filter_with_a_zone_is_warned_of_once(
    tmp_path: Path, patch: dict[str, Any]
) -> None:
    assert warned(tmp_path, SQLITE, **patch) == [
        line.format(kind="sqlite") for line in ZONED
    ]


@pytest.mark.parametrize("field", ["endDate", "instant", "plain"])
def test_other_dates_are_not_warned_of(tmp_path: Path, field: str) -> None:
    assert warned(tmp_path, SQLITE, **{"timerCfg.startField": field}) == []


def test_what_the_warning_is_of(tmp_path: Path) -> None:
    """01:00 UTC, which is 09:00 in Shanghai: read back from SQLite it is 01:00 in Shanghai; UTCDateTime keeps it."""
    app = write(
        tmp_path, **{"models/Contract/model.py": MODEL.partition("    stamped")[0]}
    )
    upgrade(app, models=True)
    Contract, at = (
        app.getElement("models.Contract"),
        datetime(2026, 12, 1, 1, 0, tzinfo=UTC),
    )
    with Session(app.engine()) as session:
        session.add(Contract(id=1, zoned=at, instant=at))
        session.commit()
        row = session.exec(select(Contract)).one()
        session.refresh(row)
        assert (row.zoned, row.instant) == (datetime(2026, 12, 1, 1, 0), at)


@pytest.mark.parametrize("field", ["changed", "fetched", "stamped"])
def test_a_start_that_each_save_sets_anew(tmp_path: Path, field: str) -> None:
    """A task whose function changes its row would be due again and again, for ever."""
    [said] = warned(tmp_path, SQLITE, **{"timerCfg.startField": field})
    assert said == (
        f"tasks.Remind: each save of a row changes models.Contract.{field} (onupdate), so a task whose function "
        "changes its row is due again and again; take a date that nothing but your own code sets"
    )
