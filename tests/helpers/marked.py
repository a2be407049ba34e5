"""Modules with decorated functions, written and executed for a test."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from jittask_prefect.elements.decorated.declared import Declared, declared
from jittask_prefect.elements.decorated.decorators import MARKS, Mark
from jittask_prefect.elements.decorated.mark_names import by_name
from jittask_prefect.errors import ConfigError

MODELS = """\
import datetime
from datetime import date, timedelta
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, relationship
from jittask_prefect import *

class Base(DeclarativeBase):
    pass

class Patient(Base):
    __tablename__ = "patients"
    id: Mapped[int] = mapped_column(primary_key=True)
    active: Mapped[bool]
    born: Mapped[date | None]

class Appointment(Base):
    __tablename__ = "appointments"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    kind: Mapped[int]
    starts_at: Mapped[datetime.datetime]
    ends_at: Mapped[datetime.datetime | None]
    patient_id: Mapped[int] = mapped_column(sa.ForeignKey("patients.id"))
    patient: Mapped[Patient] = relationship()

"""
LINES = MODELS.count("\n")
"""The lines before a test's own text."""


def module(folder: Path, text: str, name: str = "tasks.py") -> dict[str, Any]:
    """The names of a module, executed from a file; `MODELS` stand before its text."""
    path = folder / name
    path.write_text(MODELS + dedent(text).lstrip("\n"), encoding="utf-8")
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    code = compile(path.read_text("utf-8"), str(path), "exec", dont_inherit=True)
    exec(code, names)
    return names


def marks_of(folder: Path, text: str, *more: str) -> tuple[list[Mark], dict[type, str]]:
    """The marks of a module, and its models by class; `more` names models of the text itself."""
    before = len(MARKS)
    names = module(folder, text)
    marks = MARKS[before:]
    del MARKS[before:]
    models = {names[n]: f"models.{n}" for n in ("Patient", "Appointment", *more)}
    return marks, models


def declare(folder: Path, text: str, *more: str) -> Declared:
    """The only task of a module; `more` as in `marks_of`."""
    (mark,), models = marks_of(folder, text, *more)
    return declared(mark, models, folder)


def problems(folder: Path, text: str, *more: str) -> list[str]:
    """The problems of a module's tasks; lines are counted from the text's own. `more` as in `marks_of`."""
    marks, models = marks_of(folder, text, *more)
    found: list[str] = []
    sound, broken = by_name(marks, folder)
    for error in broken.values():
        found += map(str, error.problems)
    for mark in sound.values():
        try:
            declared(mark, models, folder)
        except ConfigError as error:
            found += map(str, error.problems)

    return found
