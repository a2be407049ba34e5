"""Wrong objects as arguments: each message says the argument, the object and the allowed values, and no place in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from marked import marks_of, problems

from jittask_prefect.elements.decorated.declared import declared
from jittask_prefect.elements.decorated.decorators import (
    date_field_task,
    scheduled_task,
    task,
)
from jittask_prefect.errors import ConfigError
from jittask_prefect.validation import quoted, shown

OBJECTS = [
    "Appointment.status", "aliased(Appointment).starts_at", "aliased(Appointment)", "Appointment.patient", "Appointment",
    "sa.select(Appointment)", "sa.insert(Patient)", "sa.func.now()", "Appointment.starts_at.desc()",
    "Appointment.starts_at + 1", "object()", "[object()]", '{"a": object()}', "lambda: object()", "print", "Daily",
    "lambda: sa.select(Appointment)", "lambda: object().missing", "Base", "(n for n in [1])",
]  # fmt: skip
ROWS = [
    name for name in date_field_task.__annotations__ if name not in ("return", "field")
]
SCHEDULED = [
    name for name in scheduled_task.__annotations__ if name not in ("return", "rule")
]
CODE = [name for name in task.__annotations__ if name not in ("return", "function")]
PIECES = [
    "Before(days={})", "After(days=1, at={})", "Before({}, days=1)", "Monthly(day={})", "Yearly(month={})", "Once({})",
    "Weekly({})", "Daily(at={})", "Daily(start={}, every=2)", "Hourly(every={})", "Cron({})", "RRule({})", "Dates({})",
    "Monthly(month_end={})",
]  # fmt: skip


def told(folder: Path, wrong: str) -> list[str]:
    """What is said of a wrong object in the place of every argument."""
    calls = [f"date_field_task({wrong})", f"scheduled_task({wrong})"]
    calls += [f"date_field_task(Appointment.starts_at, {n}={wrong})" for n in ROWS]
    calls += [f"scheduled_task(Daily(), {n}={wrong})" for n in SCHEDULED]
    calls += [f"task({n}={wrong})" for n in CODE]
    for piece in PIECES:
        made = piece.format(wrong)
        calls += [f"scheduled_task({made})"]
        calls += [
            f"date_field_task(Appointment.starts_at, {made}, repeat={made}, until={made})"
        ]

    text = "\n".join(
        f"@{call}\ndef f{n}(row=None): ...\n" for n, call in enumerate(calls)
    )
    return problems(folder, text)


@pytest.mark.parametrize("wrong", OBJECTS)
def test_no_message_holds_a_place_in_memory(tmp_path: Path, wrong: str) -> None:
    said = told(tmp_path, wrong)
    assert len(said) > 60
    assert [text for text in said if " at 0x" in text] == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("scheduled_task(Daily(), timezone=Appointment.status)", "timezone: found Appointment.status; allowed: a text"),
        ("scheduled_task(Daily(), until=Appointment.ends_at)", "until: found Appointment.ends_at; allowed: a wall time"),
        ("date_field_task(aliased(Appointment).starts_at)", "field: found aliased(Appointment).starts_at; allowed: a mapped"),
        ("date_field_task(Appointment.starts_at, where=sa.select(Appointment.id))",
         "where: found a clause of type Select: SELECT appointments.id FROM appointments; allowed: a condition"),
        ("scheduled_task(Daily(), timeout=-1)", "timeout: found -1; allowed: more than 0"),
        ("scheduled_task(Daily(), timeout='x')", 'timeout: found "x"; allowed: a number'),
        ("scheduled_task(Daily(), retries=-1)", "retries: found -1; allowed: at least 0"),
        ("scheduled_task(Daily(), tags='a')", 'tags: found "a"; allowed: a list of texts: tags=["billing"]'),
        ("scheduled_task(Daily(), tags=['a', 3])", 'tags: found 3; allowed: a list of texts: tags=["billing"]'),
        ("scheduled_task(Daily(), missed=5)", 'missed: found 5; allowed: "latest", "all", "none", or {"policy"'),
        ("scheduled_task(Daily(), concurrency='x')", 'concurrency: found "x"; allowed: a number, or {"limit": 1'),
        ("scheduled_task(Daily(), arguments=[1])", "arguments: found [1]; allowed: JSON values by name"),
    ],
)  # fmt: skip
def test_the_argument_the_object_and_the_allowed_values(
    tmp_path: Path, call: str, said: str
) -> None:
    (text,) = problems(tmp_path, f"@{call}\ndef f(row=None): ...\n")
    assert said in text


def test_a_text_that_looks_like_an_object_stays() -> None:
    text = "<object at 0x7f00>"
    assert quoted(text) == repr(text)
    assert shown(text) == f'"{text}"'
    assert quoted(object()) == shown(object()) == "<object>"


def test_marks_are_read_without_touching_the_mappers(tmp_path: Path) -> None:
    """A condition of columns configures nothing."""
    (mark,), models = marks_of(
        tmp_path,
        "@date_field_task(Appointment.starts_at, where=Appointment.status == 'a')\ndef f(a): ...",
    )
    with pytest.raises(ConfigError):
        declared(mark, {}, tmp_path)
    assert declared(mark, models, tmp_path).where is not None
