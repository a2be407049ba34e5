"""What Python evaluates before SQLAlchemy sees a condition is found in the source, with its line and the right spelling."""

from __future__ import annotations

from pathlib import Path

import pytest
from marked import LINES, module, problems

HEAD = "@date_field_task(Appointment.starts_at, where={})\ndef f(appointment): ...\n"


@pytest.mark.parametrize(
    ("where", "found", "allowed"),
    [
        ("Appointment.status == 'a' and Appointment.kind == 2",
         "Appointment.status == 'a' and Appointment.kind == 2", "& for and"),
        ("Appointment.status == 'a' or Appointment.kind == 2",
         "Appointment.status == 'a' or Appointment.kind == 2", "| for or"),
        ("(Appointment.kind == 2) & (not Appointment.status)", "not Appointment.status", "~(…) for not"),
        ("(Appointment.kind == 2) & (Appointment.ends_at is None)", "Appointment.ends_at is None", ".is_(None)"),
        ("(Appointment.kind == 2) | (Appointment.ends_at is not None)", "Appointment.ends_at is not None", ".is_not(None)"),
        ("Appointment.ends_at is None", "Appointment.ends_at is None", ".is_(None)"),
        ("lambda: Appointment.kind == 1 & Appointment.kind == 2", "Appointment.kind == 1 & Appointment.kind == 2",
         "two comparisons joined by &"),
        ("lambda: 1 == Appointment.kind == 2", "1 == Appointment.kind == 2", ".between(low, high)"),
        ("lambda: Appointment.status in ['a', 'b']", "Appointment.status in ['a', 'b']", ".in_([…])"),
        ("lambda: Appointment.status not in ['a']", "Appointment.status not in ['a']", ".not_in([…])"),
        ("lambda: Appointment.kind == 1 if Appointment.status == 'a' else Appointment.kind == 2",
         "Appointment.kind == 1 if Appointment.status == 'a' else Appointment.kind == 2", "sqlalchemy.case(…)"),
        ("lambda: Appointment.patient.has(Patient.active and Patient.born == None)",
         "Patient.active and Patient.born == None", "& for and"),
        ("Appointment.starts_at > datetime.datetime.now()", "datetime.datetime.now()", "now(…) or today(…) of jittask_prefect"),
        ("Appointment.starts_at > datetime.datetime.utcnow()", "datetime.datetime.utcnow()", "now(…) or today(…)"),
        ("lambda: Appointment.kind > time.time()", "time.time()", "now(…) or today(…)"),
        ("lambda: Appointment.starts_at > date.today() - timedelta(days=1)", "date.today()", "now(…) or today(…)"),
        ("lambda: Appointment.starts_at > datetime.datetime.now(tz=datetime.UTC)",
         "datetime.datetime.now(tz=datetime.UTC)", "now(…) or today(…)"),
    ],
)  # fmt: skip
def test_python_s_own_operators_and_clocks_are_refused(
    tmp_path: Path, where: str, found: str, allowed: str
) -> None:
    (text,) = problems(tmp_path, "import time\n" + HEAD.format(where))
    assert text.startswith(f"tasks.py, line {LINES + 2}: where: found {found}; ")
    assert allowed in text


@pytest.mark.parametrize(
    "where",
    [
        "Appointment.ends_at.is_(None) & (Appointment.kind == 2)",
        "Appointment.starts_at > now(hours=2)",
        "Appointment.starts_at > sa.func.now()",
        "Appointment.kind == (KIND or 3)",
        "lambda: Appointment.kind.in_([n for n in (1, 2, 3) if n > 1 and n is not None])",
        "lambda: ~Appointment.patient.has(Patient.born < today(years=-18))",
        "CONDITION",
    ],
)
def test_what_concerns_no_column_is_allowed(tmp_path: Path, where: str) -> None:
    text = "KIND = None\nCONDITION = Appointment.kind == 3\n" + HEAD.format(where)
    assert problems(tmp_path, text) == []


def test_names_of_the_module_are_followed(tmp_path: Path) -> None:
    text = (
        "BOOKED = Appointment.status == 'a' and Appointment.kind == 2\n"
        "TODAY = date.today()\n"
        "NEW = Appointment.starts_at > TODAY\n" + HEAD.format("BOOKED & NEW")
    )
    assert problems(tmp_path, text) == [
        f"tasks.py, line {LINES + 1}: where: found Appointment.status == 'a' and Appointment.kind == 2; "
        "allowed: & for and, each comparison in parentheses",
        f"tasks.py, line {LINES + 2}: where: found date.today(); "
        "allowed: now(…) or today(…) of jittask_prefect, which are bound anew at each look",
    ]


def test_a_named_function_is_read_in_the_file_where_it_stands(tmp_path: Path) -> None:
    text = (
        "def booked():\n"
        "    kinds = [1] if KIND and True else [2]\n"
        "    return Appointment.kind.in_(kinds) & (Appointment.ends_at is None)\n"
        "KIND = 1\n" + HEAD.format("booked")
    )
    (found,) = problems(tmp_path, text)
    assert found.startswith(
        f"tasks.py, line {LINES + 3}: where: found Appointment.ends_at is None; "
    )


def test_a_condition_of_several_lines_names_its_own(tmp_path: Path) -> None:
    text = (
        "@date_field_task(\n    Appointment.starts_at,\n    where=(Appointment.kind == 2)\n"
        "    & (Appointment.ends_at is None),\n)\ndef f(appointment): ...\n"
    )
    (found,) = problems(tmp_path, text)
    assert found.startswith(f"tasks.py, line {LINES + 4}: where: ")


def test_and_with_a_comparison_of_order_fails_at_the_import(tmp_path: Path) -> None:
    """SQLAlchemy itself refuses there; the module is broken, and its message names the line."""
    with pytest.raises(TypeError, match="Boolean value of this clause is not defined"):
        module(tmp_path, HEAD.format("Appointment.kind > 1 and Appointment.kind < 5"))


def test_without_a_source_only_the_value_speaks(tmp_path: Path) -> None:
    text = HEAD.format("Appointment.ends_at is None")
    from jittask_prefect.elements.decorated.condition_source import source_problems
    from jittask_prefect.elements.decorated.decorators import MARKS

    module(tmp_path, text)
    mark = MARKS.pop()
    (tmp_path / "tasks.py").unlink()
    assert source_problems(mark) == []
