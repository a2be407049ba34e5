"""What `check` notes of `parallel`: SQLite's one writer, the app's limit, the pool of connections."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from app_files import APP, REMIND, patched, write
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool, StaticPool

from jittask_prefect.elements.pools import given_at_once, most_rows

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POSTGRES = "postgresql+psycopg://u@h/d"


def noted(folder: Path, parallel: int, **app_json: Any) -> list[str]:
    files: dict[str, Any] = {
        "app.json": APP | app_json,
        "tasks/Remind/e.json": patched(REMIND, {"parallel": parallel}),
    }
    app = write(folder, **files)
    assert app.check() == []
    return [text for text in app.warnings(NOW) if "parallel" in text]


def test_one_row_at_a_time_is_no_matter(tmp_path: Path) -> None:
    assert noted(tmp_path, 1, database=POSTGRES, maxConcurrency=1) == []


def test_a_pool_that_suffices(tmp_path: Path) -> None:
    assert noted(tmp_path, 8, database=POSTGRES) == []


def test_the_limit_of_the_app(tmp_path: Path) -> None:
    assert noted(tmp_path, 9, database=POSTGRES) == [
        "tasks.Remind: parallel 9, but maxConcurrency 8, for which each row at work counts: lower parallel, or raise "
        "maxConcurrency to 9 or more"
    ]


def test_a_pool_that_is_too_small(tmp_path: Path) -> None:
    assert noted(tmp_path, 20, database=POSTGRES, maxConcurrency=20) == [
        "tasks.Remind: parallel 20 needs 22 connections, and the pool of the engine gives 15 (pool_size and "
        "max_overflow): lower parallel to 13, or name an engine with a larger pool (`engine`); until then 13 rows are "
        "at work at once"
    ]


def test_sqlite_has_one_writer(tmp_path: Path) -> None:
    [first, second] = noted(tmp_path, 8, database="sqlite:///test.db")
    assert first.startswith("tasks.Remind: parallel 8 on SQLite, where one row writes")
    assert "needs 18 connections" in second and "lower parallel to 6" in second


def engine(**keys: Any) -> Engine:
    return create_engine(POSTGRES, **keys)


@pytest.mark.parametrize(
    ("of", "given", "most"),
    [
        (engine(), 15, 13),
        (engine(pool_size=3, max_overflow=0), 3, 1),
        (engine(pool_size=1, max_overflow=0), 1, 1),
        (engine(max_overflow=-1), None, 50),
        (engine(pool_size=0), None, 50),
        (engine(poolclass=NullPool), None, 50),
        (engine(poolclass=StaticPool), 1, 1),
        (create_engine("sqlite:///a.db"), 15, 6),
        (create_engine("sqlite://"), 1, 1),
    ],
)
def test_the_rows_that_a_pool_suffices_for(
    of: Engine, given: int | None, most: int
) -> None:
    assert (given_at_once(of), most_rows(of, 50)) == (given, most)
