"""An existing project, by its files: its package, its engine, its dates."""

from __future__ import annotations

from pathlib import Path

import pytest

from jittask_prefect.elements.survey import DateField, survey

CLINIC = Path(__file__).parents[2] / "data" / "clinic"


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_the_clinic() -> None:
    found = survey(CLINIC, "clinic")
    assert (found.package, found.folder) == ("clinic", CLINIC / "clinic")
    assert found.engine == "clinic.database:engine"
    assert found.dates[0] == DateField("clinic.models", "Appointment", "starts_at")
    names = {(d.cls, d.name) for d in found.dates}
    assert names == {
        ("Appointment", "starts_at"),
        ("Patient", "born"),
        ("Invoice", "due_on"),
        ("Invoice", "paid_on"),
    }


def test_a_package_in_src_and_the_largest_one(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        {
            "tests/__init__.py": "",
            "src/small/__init__.py": "",
            "src/large/__init__.py": "",
            "src/large/sub/__init__.py": "",
            "src/large/sub/db.py": "from sqlalchemy import create_engine\nother = create_engine('')\nengine: E = create_engine('')\n",
        },
    )
    assert survey(root).package == "large"
    assert survey(root).engine == "large.sub.db:engine"
    assert survey(root, "Small").package == "small"


def test_a_project_of_files(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        {
            "main.py": "from sqlalchemy.ext.asyncio import create_async_engine as c\nimport sqlalchemy as sa\nbase = sa.create_engine('')\n",
            "migrations/env.py": "engine = create_engine('')",
        },
    )
    found = survey(root)
    assert (found.package, found.engine, found.dates) == (None, "main:base", ())
    assert found.module("tasks") == "tasks"


MODELS: dict[str, tuple[str, list[str]]] = {
    "SQLModel": (
        "class A(SQLModel, table=True):\n    id: int\n    dueDate: date = Field(index=True)\n",
        ["dueDate"],
    ),
    "declarative": (
        "class A(Base):\n    __tablename__ = 'a'\n    at: Mapped[datetime | None]\n    n: Mapped[int]\n",
        ["at"],
    ),
    "older declarative": (
        "class A(Base):\n    __tablename__ = 'a'\n    x = Column(Integer)\n    at = db.Column(db.DateTime(timezone=True), nullable=False)\n",
        ["at"],
    ),
    "no table": ("class A(BaseModel):\n    at: datetime\n", []),
    "the row's own times come last": (
        "class A(Base):\n    __tablename__ = 'a'\n    created_at: Mapped[datetime]\n    seen: Mapped[date]\n    ends: Mapped[date]\n",
        ["ends", "seen", "created_at"],
    ),
    "a relationship": (
        "class A(Base):\n    __tablename__ = 'a'\n    dates: Mapped[list[date]]\n",
        [],
    ),
    "a syntax error": ("class A(:\n", []),
}


@pytest.mark.parametrize("source, names", MODELS.values(), ids=MODELS)
def test_dates_of_models(tmp_path: Path, source: str, names: list[str]) -> None:
    root = written(tmp_path, {"p/__init__.py": "", "p/models.py": source})
    assert [date.name for date in survey(root).dates] == names
