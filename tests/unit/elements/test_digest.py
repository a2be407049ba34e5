"""`digest` in an e.json: which forms are taken, and what `jittask check` says of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from app_files import DAILY, PLAIN, REMIND, only, patched, write

from jittask_prefect.errors import ConfigError

ROWS = "def customFunc(rows):\n    return len(rows)\n"
OWNED = """
from datetime import date, datetime

from sqlalchemy.orm import registry
from sqlmodel import JSON, Field, Relationship, SQLModel


class Base(SQLModel, registry=registry()):
    pass


class Contract(Base, table=True):
    __tablename__ = "contract"

    id: int | None = Field(default=None, primary_key=True)
    customer: str = ""
    endDate: date | None = None
    closedAt: datetime | None = None
    reminders: int = 0
    owner_id: int | None = Field(default=None, foreign_key="owner.id")
    extra: dict | None = Field(default=None, sa_type=JSON)
    owner: "Owner" = Relationship(back_populates="contracts")


class Owner(Base, table=True):
    __tablename__ = "owner"

    id: int | None = Field(default=None, primary_key=True)
    team_id: int | None = None
    contracts: list[Contract] = Relationship(back_populates="owner")
"""


def app_with(folder: Path, patch: dict[str, Any], inner: str = ROWS) -> Any:
    files = {
        "models/Contract/model.py": OWNED,
        "tasks/Remind/e.json": patched(REMIND, patch),
        "tasks/Remind/inner.py": inner,
    }
    return write(folder, **files)


@pytest.mark.parametrize(
    "digest", [{}, {"by": "customer"}, {"by": "owner_id"}, {"by": "owner__team_id"}]
)
def test_a_digest_by_a_column_a_path_or_of_all_rows(
    tmp_path: Path, digest: dict[str, str]
) -> None:
    app = app_with(tmp_path, {"digest": digest})
    assert app.check() == []
    cfg = app.template("tasks.Remind").cfg
    assert cfg.digest is not None
    assert cfg.digest.by == digest.get("by")
    assert (cfg.dispatch, cfg.dispatched) == ("auto", "batch")


BAD: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "true": ({"digest": True}, "digest", "true", "an object"),
    "a text": ({"digest": "owner_id"}, "digest", "owner_id", "an object"),
    "unknown key": ({"digest": {"of": "owner_id"}}, "digest.of", "", "by"),
    "a number": ({"digest": {"by": 3}}, "digest.by", "3", "a text"),
    "no path": ({"digest": {"by": "owner id"}}, "digest.by", "owner id", "a column"),
    "a private part": ({"digest": {"by": "_x"}}, "digest.by", "_x", "a column"),
    "empty": ({"digest": {"by": ""}}, "digest.by", "", "a column's name"),
    "no column": (
        {"digest": {"by": "owner_di"}},
        "digest.by",
        "owner_di",
        "owner_id",
    ),
    "no relationship": (
        {"digest": {"by": "owners__team_id"}},
        "digest.by",
        "owners",
        "owner",
    ),
    "a relationship": ({"digest": {"by": "owner"}}, "digest.by", "owner", "owner_id"),
    "many rows": (
        {"digest": {"by": "owner__contracts__customer"}},
        "digest.by",
        "Owner.contracts, which leads to many rows",
        "one row at most",
    ),
    "JSON": ({"digest": {"by": "extra"}}, "digest.by", "JSON", "plain values"),
    "dispatch row": ({"digest": {}, "dispatch": "row"}, "dispatch", "row", "batch"),
    "parallel": ({"digest": {}, "parallel": 2}, "parallel", "2", "leave the key out"),
    "overlap": (
        {"digest": {}, "concurrency": {"limit": 1, "overlap": "skip"}},
        "concurrency.overlap",
        "skip",
        "queue",
    ),
}


@pytest.mark.parametrize(
    ("patch", "key", "found", "allowed"), BAD.values(), ids=list(BAD)
)
def test_a_mistake(
    tmp_path: Path, patch: dict[str, Any], key: str, found: str, allowed: str
) -> None:
    problem = only(app_with(tmp_path, patch).check())
    assert problem.file == "tasks/Remind/e.json"
    assert problem.key == key, problem
    assert found in problem.found, problem
    assert allowed in problem.allowed, problem


def test_a_wrong_column_is_named_beside_another_mistake(tmp_path: Path) -> None:
    app = app_with(tmp_path, {"digest": {"by": "owner_di"}, "retries": -1})
    assert {problem.key for problem in app.check()} == {"digest.by", "retries"}


@pytest.mark.parametrize("digest", [{}, {"by": "customer"}])
def test_a_scheduled_task_has_none(tmp_path: Path, digest: dict[str, str]) -> None:
    files = {"tasks/Daily/e.json": patched(DAILY, {"digest": digest})}
    problem = only(write(tmp_path, **files).check())
    assert (problem.key, problem.file) == ("digest", "tasks/Daily/e.json")
    assert "date-field tasks" in problem.allowed


@pytest.mark.parametrize(
    "signature", ["row", "rowData", "", "rows, more", "*rows", "*, rows"]
)
def test_a_function_that_takes_no_list(tmp_path: Path, signature: str) -> None:
    app = app_with(tmp_path, {"digest": {}}, f"def customFunc({signature}):\n    ...\n")
    problem = only(app.check())
    assert (problem.file, problem.key) == ("tasks/Remind/inner.py", "customFunc")
    assert problem.found == f"customFunc({signature})"
    assert "the list of rows" in problem.allowed


def test_a_service_function_of_one_row(tmp_path: Path) -> None:
    """The parameter `rowData` says that the function was written for a single row."""
    patch = {"digest": {}, "funcType": "Global", "func": "services.NoticeSvc.remind"}
    problem = only(app_with(tmp_path, patch).check())
    assert problem.found == "remind(rowData)"
    assert "the list of rows, with a name such as rows" in problem.allowed


def test_rows_as_the_name_of_the_parameter_need_no_digest(tmp_path: Path) -> None:
    assert app_with(tmp_path, {}).check() == []


def test_a_template_with_a_wrong_digest_does_not_load(tmp_path: Path) -> None:
    app = app_with(tmp_path, {"digest": {"by": 1}})
    with pytest.raises(ConfigError, match=r"digest\.by"):
        app.template("tasks.Remind")


def test_the_plain_app_is_sound(tmp_path: Path) -> None:
    """Else each mistake above would be one of two."""
    assert write(tmp_path, **PLAIN).check() == []
