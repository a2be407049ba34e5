"""An import's error is short, its cause last; a call that Python refuses names the argument and the allowed ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import project_in

from jittask_prefect.elements.check import problems
from jittask_prefect.elements.decorated.import_errors import text_of

HEAD = "from jittask_prefect import *\n\n"


def problem(folder: Path, text: str) -> str:
    with project_in(folder) as made:
        (found,) = problems(made.write("tasks", tasks=HEAD + text).app)
        return str(found).replace(f"{made.package}/", "")


@pytest.mark.parametrize(
    ("call", "argument", "hint", "known"),
    [
        ("date_field_task(None, wher=3)", "wher", "date_field_task (did you mean where?)", "where, skip_holiday"),
        ("scheduled_task(Daily(), where=3)", "where", "scheduled_task; allowed", "rule, until, arguments"),
        ("task(rule=Daily())", "rule", "task; allowed", "function, window, timezone"),
        ("scheduled_task(Weekly(weekday=['mon', 'fri']))", "weekday", "Weekly (did you mean weekdays?)",
         "*weekdays, every, start, at"),
        ("date_field_task(None, Before(hour=3))", "hour", "Before and After (did you mean hours?)", "field, seconds"),
    ],
)  # fmt: skip
def test_an_argument_that_a_call_does_not_take(
    tmp_path: Path, call: str, argument: str, hint: str, known: str
) -> None:
    said = problem(tmp_path, f"@{call}\ndef f(row=None): ...\n")
    assert said.startswith(
        f"tasks.py, line 3: {argument}: found an unknown argument of {hint}"
    )
    assert "; allowed: the arguments of " in said
    assert known in said


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("scheduled_task()", "a call of scheduled_task: missing 1 required positional argument: 'rule'"),
        ("scheduled_task(Daily('09:00'))", "a call of Minutely, Hourly, Daily and Workdays: takes 1 positional argument but 2 were given"),
    ],
)  # fmt: skip
def test_a_call_with_too_few_or_too_many_arguments(
    tmp_path: Path, call: str, found: str
) -> None:
    said = problem(tmp_path, f"@{call}\ndef f(): ...\n")
    assert said.startswith("tasks.py, line 3: found ")
    assert f"found {found}; allowed: the arguments of" in said


def test_a_long_error_is_a_line_and_its_cause_another() -> None:
    lines = "\n".join(["The settings are wrong", *(f"field {n}" for n in range(99))])
    try:
        try:
            raise KeyError("DATABASE_URL")
        except KeyError as cause:
            raise RuntimeError(lines) from cause
    except RuntimeError as error:
        said = text_of(error)

    assert said == (
        "RuntimeError: The settings are wrong … field 98; because of KeyError: 'DATABASE_URL'"
    )
    assert len(text_of(ValueError("x" * 5_000))) < 300


def test_causes_in_a_circle_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert text_of(one) == "ValueError: one; because of ValueError: two"
