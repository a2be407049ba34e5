"""Alembic beside the ledger: what autogenerate makes of its tables, and the guide's line that keeps it off them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Date, Engine, Integer, MetaData, Table, create_engine

from jittask_prefect.ledger.versions import upgrade_ledger


def include_name(name: str | None, type_: str, parent_names: Any) -> bool:
    """As `docs/existing.md` has it."""
    return not (type_ == "table" and str(name).startswith("jittask_"))


@pytest.fixture
def team(tmp_path: Path) -> tuple[Engine, MetaData]:
    """A team's database with a table of theirs and the ledger, and their metadata."""
    engine, metadata = create_engine(f"sqlite:///{tmp_path}/team.db"), MetaData()
    Table(
        "invoice",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("dueDate", Date, index=True),
    )
    metadata.create_all(engine)
    with engine.begin() as connection:
        assert upgrade_ledger(connection)
    return engine, metadata


def differences(team: tuple[Engine, MetaData], **options: Any) -> set[tuple[str, str]]:
    engine, metadata = team
    with engine.connect() as connection:
        found = compare_metadata(
            MigrationContext.configure(connection, opts=options), metadata
        )
    return {(what, thing.name) for what, thing in found}


def test_autogenerate_would_drop_the_ledger(team: tuple[Engine, MetaData]) -> None:
    tables = {name for what, name in differences(team) if what == "remove_table"}
    assert tables == {"jittask_ledger", "jittask_state"}


def test_with_the_guides_line_it_sees_the_teams_own_tables_only(
    team: tuple[Engine, MetaData],
) -> None:
    assert differences(team, include_name=include_name) == set()
    Table("receipt", team[1], Column("id", Integer, primary_key=True))
    assert differences(team, include_name=include_name) == {("add_table", "receipt")}


def test_the_line_is_the_guides_own() -> None:
    page = (Path(__file__).parents[3] / "docs" / "existing.md").read_text(
        encoding="utf-8"
    )
    assert 'return not (type_ == "table" and name.startswith("jittask_"))' in page
