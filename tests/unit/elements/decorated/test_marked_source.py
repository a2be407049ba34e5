"""The tasks of a module that does not import, by its source."""

from __future__ import annotations

import pytest

from jittask_prefect.elements.decorated.marked_source import (
    SourceNames,
    names_in,
    task_name,
)

FROM = "from jittask_prefect import Before, date_field_task, task\n"


def names(source: str) -> tuple[list[str], bool]:
    found: SourceNames = names_in(source)
    return sorted(found.names), found.exact


CASES: dict[str, tuple[str, list[str], bool]] = {
    "plain": (f"{FROM}@task\ndef export(month): ...\n", ["Export"], True),
    "with arguments": (
        f"{FROM}@date_field_task(Visit.at, Before(days=2))\nasync def remind_patient(v): ...\n",
        ["RemindPatient"],
        True,
    ),
    "with a name": (f"{FROM}@task(name='Out')\ndef x(): ...\n", ["Out"], True),
    "name=None": (f"{FROM}@task(name=None)\ndef x(): ...\n", ["X"], True),
    "a name from elsewhere": (
        f"{FROM}@task(name=NAME)\ndef x(): ...\n",
        ["X"],
        False,
    ),
    "arguments from elsewhere": (
        f"{FROM}@task(**COMMON)\ndef x(): ...\n",
        ["X"],
        False,
    ),
    "another name of the package": (
        "import jittask_prefect as j\n@j.task\ndef x(): ...\n@j.scheduled_task(1)\ndef y(): ...\n",
        ["X", "Y"],
        True,
    ),
    "another name of the decorator": (
        "from jittask_prefect import task as t\n@t\ndef x(): ...\n",
        ["X"],
        True,
    ),
    "somebody else's decorator": (
        "from celery import task\n@task\ndef x(): ...\n",
        [],
        True,
    ),
    "called, not written above": (
        f"{FROM}def x(): ...\ny = task(x)\n",
        [],
        False,
    ),
    "under a condition": (
        f"{FROM}if True:\n    @task\n    def x(): ...\n",
        ["X"],
        True,
    ),
    "a syntax error": (
        f"{FROM}@task\ndef x():\n    return (\n\n@date_field_task(\n    Visit.at,\n)\nasync def y(v): ...\n",
        ["X", "Y"],
        False,
    ),
    "a null character": (f"{FROM}@task\ndef x(): ...\n\0", ["X"], False),
}


@pytest.mark.parametrize("source, found, exact", CASES.values(), ids=CASES)
def test_names_in_a_source(source: str, found: list[str], exact: bool) -> None:
    assert names(source) == (found, exact)


def test_the_name_of_a_function() -> None:
    assert task_name("remind_patient") == "RemindPatient"
    assert task_name("closeBooks") == "CloseBooks"
    assert task_name("_send__bills_2") == "SendBills2"
