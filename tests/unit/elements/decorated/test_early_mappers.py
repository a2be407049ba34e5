"""A relationship used while a module is imported is told, and the mappers of the other tasks stay whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import BASE, project_in

from jittask_prefect.elements.check import problems

MODELS = (
    BASE
    + """
from datetime import datetime
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

class Visit(Base):
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime]
    doctor_id: Mapped[int] = mapped_column(sa.ForeignKey("doctors.id"))
    doctor: Mapped["Doctor"] = relationship()
"""
)
DOCTORS = """from sqlalchemy.orm import Mapped, mapped_column
from {package}.models import Base

class Doctor(Base):
    __tablename__ = "doctors"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
EARLY = """from jittask_prefect import date_field_task
from {package}.models import Visit

@date_field_task(Visit.starts_at, where=CONDITION)
def early(visit): ...
"""
GOOD = """from jittask_prefect import date_field_task
from {package}.models import Visit
IMPORT
@date_field_task(Visit.starts_at, where=lambda: Visit.doctor.has())
def good(visit): ...
"""
CONDITIONS = ["Visit.doctor == None", "Visit.doctor != None", "Visit.doctor.has()"]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_other_modules_work(tmp_path: Path, condition: str) -> None:
    """`early` is imported before the class that its relationship leads to."""
    early = EARLY.replace("CONDITION", condition)
    good = GOOD.replace("IMPORT", "from {package}.doctors import Doctor")
    with project_in(tmp_path) as made:
        app = made.write(
            "early", "good", models=MODELS, doctors=DOCTORS, early=early, good=good
        ).app
        (problem,) = problems(app)
        assert problem.file.endswith("early.py") and problem.key == "line 4"
        assert "while Doctor, which Visit.doctor leads to, is not" in problem.found
        assert "a lambda: where=lambda: Invoice.customer.has(…)" in problem.allowed
        assert app.getElement("tasks.Good").filter.text


@pytest.mark.parametrize("condition", CONDITIONS)
def test_where_all_classes_are_there_only_the_task_is_refused(
    tmp_path: Path, condition: str
) -> None:
    early = EARLY.replace("CONDITION", condition)
    good = GOOD.replace("IMPORT", "from {package}.doctors import Doctor")
    with project_in(tmp_path) as made:
        app = made.write(
            "good", "early", models=MODELS, doctors=DOCTORS, early=early, good=good
        ).app
        (problem,) = problems(app)
        assert problem.key == "where"
        assert "used while the module is imported" in problem.found
        assert app.getElement("tasks.Good").filter.text


def test_a_class_that_nobody_imports_is_a_problem_of_the_task(tmp_path: Path) -> None:
    plain = "GOOD\n@date_field_task(Visit.starts_at)\ndef plain(visit): ...\n"
    good = plain.replace("GOOD", GOOD.replace("IMPORT", ""))
    with project_in(tmp_path) as made:
        app = made.write("good", models=MODELS, good=good).app
        found = {p.key: str(p) for p in problems(app)}
        assert "'Doctor' failed to locate a name" in found["field"]
        assert "relationships lead to classes that are imported too" in found["field"]
        assert found.keys() == {"field", "where"}
