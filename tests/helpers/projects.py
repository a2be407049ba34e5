"""A project of a team's own: a package with models and decorated functions, and a table in pyproject.toml."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jittask_prefect import App

TABLE = '[tool.jittask]\nname = "clinic"\ntimezone = "UTC"\nmodules = [{}]\n'
BASE = "from sqlalchemy.orm import DeclarativeBase\nclass Base(DeclarativeBase): ...\n"
MODELS = (
    BASE
    + """
from datetime import datetime
from sqlalchemy.orm import Mapped, mapped_column

class Visit(Base):
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(default="booked")
    reminded: Mapped[bool] = mapped_column(default=False)
"""
)
TASKS = """from jittask_prefect import Before, Daily, date_field_task, scheduled_task, task
from {package}.models import Visit

@date_field_task(Visit.starts_at, Before(hours=2), where=Visit.status == "booked")
def remind_patient(visit):
    '''Remind the patient.'''
    visit.reminded = True

@scheduled_task(Daily(at="09:00"))
def report(): return "reported"

@task
def export(month, form="csv"): return [month, form]
"""
_count = iter(range(1000))


class Project:
    """A project in a folder of its own, whose package has a name that no other test has."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, f"clinic_{next(_count)}"

    def write(self, *modules: str, **files: str) -> Project:
        package = self.folder / self.package
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        for name, text in files.items():
            (package / f"{name}.py").write_text(
                text.replace("{package}", self.package), encoding="utf-8"
            )
        names = ", ".join(f'"{self.package}.{name}"' for name in modules)
        if modules:
            (self.folder / "pyproject.toml").write_text(TABLE.format(names))
        return self

    def more(self, text: str) -> Project:
        file = self.folder / "pyproject.toml"
        file.write_text(file.read_text() + text.replace("{package}", self.package))
        return self

    @property
    def app(self) -> App:
        return App(self.folder)


@contextmanager
def project_in(folder: Path) -> Iterator[Project]:
    """A project; afterwards its package, and its folder on `sys.path`, are forgotten."""
    made = Project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        yield made

    for name in [n for n in sys.modules if n.startswith(made.package)]:
        del sys.modules[name]
