"""A decorated function as the e.json that says the same; each mistake with file, line, argument, found and allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from marked import LINES, declare, marks_of, problems

from jittask_prefect.elements.config import read_task
from jittask_prefect.elements.decorated.declared import argument_of, declared
from jittask_prefect.errors import ConfigError


def test_a_row_task_is_the_e_json_by_hand(tmp_path: Path) -> None:
    found = declare(
        tmp_path,
        '''
        @date_field_task(Appointment.starts_at, Before(days=2, at="09:00"), where=Appointment.status == "booked", skip_holiday=True)
        def remind_patient(appointment):
            """Remind the patient.

            By letter.
            """
        ''',
    )
    assert found.full_name == "tasks.RemindPatient"
    assert found.kind == "rows"
    assert found.source == f"tasks.py, line {LINES + 1}"
    assert found.config == {
        "type": "tasks.DateFieldType",
        "title": "Remind the patient.",
        "modelPath": "models.Appointment",
        "filter": "appointments.status = 'booked'",
        "timerCfg": {
            "startField": "starts_at",
            "startOffset": {
                "offsetType": -1,
                "offset": 2,
                "offsetUnit": "day",
                "time": "09:00",
            },
            "repeat": {"repeatType": "normal"},
            "skipHoliday": 1,
        },
    }
    assert found.where is not None
    assert found.where.text == found.config["filter"]
    json.dumps(found.config)
    read_task(found.config, rows=True)


def test_every_argument_has_its_key(tmp_path: Path) -> None:
    found = declare(
        tmp_path,
        """
        @date_field_task(
            Appointment.starts_at, repeat=Weekly("mon"), until=After(Appointment.ends_at, months=1),
            where="Q(status='booked')", skip_holiday=True, holiday_policy="previous", workdays_only=True,
            window=[Window("08:00", datetime.time(12), weekdays=["mon", "Friday"]), Window("22:00", "06:00", workdays=True)],
            calendar="DE", timezone="Europe/Berlin", name="Remind", title="提醒", enable=False, timeout=60, retries=2,
            retry_delay=5, missed={"policy": "all", "grace": 5, "lookback": 60}, dispatch="batch", row_runs="all",
            concurrency={"limit": 4, "overlap": "queue"}, row_label="status", parallel=3, rate="100/minute", digest=None,
            type="tasks.Audited", work_pool="heavy", tags=("a", "b"), description="*Why*",
        )
        def f(appointment): ...
        """,
    )
    assert found.full_name == "tasks.Remind"
    assert found.where is None
    assert found.config == {
        "type": "tasks.Audited",
        "title": "提醒",
        "enable": 0,
        "modelPath": "models.Appointment",
        "filter": "Q(status='booked')",
        "timerCfg": {
            "startField": "starts_at",
            "repeat": {"repeatType": "week", "weekday": [1]},
            "endTimeType": 2,
            "endField": "ends_at",
            "endOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "month"},
            "skipHoliday": 1,
            "holidayPolicy": "previous",
            "workdaysOnly": 1,
            "window": [
                {"from": "08:00", "to": "12:00", "weekdays": [1, 5]},
                {"from": "22:00", "to": "06:00", "workdays": 1},
            ],
            "calendar": "DE",
            "timezone": "Europe/Berlin",
        },
        "timeout": 60,
        "retries": 2,
        "retryDelay": 5,
        "missed": {"policy": "all", "grace": 5, "lookback": 60},
        "dispatch": "batch",
        "rowRuns": "all",
        "concurrency": {"limit": 4, "overlap": "queue"},
        "parallel": 3,
        "rate": "100/minute",
        "workPool": "heavy",
        "tags": ["a", "b"],
        "description": "*Why*",
    }


def test_a_scheduled_task(tmp_path: Path) -> None:
    found = declare(
        tmp_path,
        """
        @scheduled_task(Monthly(day=-1, at="18:00"), until="2030-12-31", arguments={"month": 3}, missed="none", concurrency=1, rate="1/day")
        def closeBooks(month): ...
        """,
    )
    assert found.full_name == "tasks.CloseBooks"
    assert found.config == {
        "type": "tasks.NormalType",
        "title": "Close Books",
        "timerCfg": {
            "startTime": "2000-01-01 18:00:00",
            "repeat": {"repeatType": "month", "day": -1},
            "endTime": "2030-12-31",
        },
        "missed": {"policy": "none"},
        "concurrency": {"limit": 1},
        "rate": "1/day",
        "argDict": {"month": 3},
    }


def test_a_task_by_code_is_never_due_of_itself(tmp_path: Path) -> None:
    found = declare(tmp_path, "@task\ndef export(month): ...\n")
    assert (found.full_name, found.kind) == ("tasks.Export", "code")
    assert found.config == {
        "type": "tasks.NormalType",
        "title": "Export",
        "timerCfg": {
            "startTime": "2000-01-01 00:00:00",
            "repeat": {"repeatType": "normal"},
        },
    }


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("remind_patient", "RemindPatient"),
        ("sendBills", "SendBills"),
        ("SendBills", "SendBills"),
        ("_collect", "Collect"),
        ("s3_sync", "S3Sync"),
        ("step_2", "Step2"),
    ],
)
def test_the_name_is_the_function_s_in_camel_case(
    tmp_path: Path, function: str, name: str
) -> None:
    found = declare(tmp_path, f"@task\ndef {function}(): ...\n")
    assert found.full_name == f"tasks.{name}"


@pytest.mark.parametrize(
    ("doc", "title"),
    [
        ('"""  Send bills.\n\n    More."""', "Send bills."),
        ('"""{{ secret }}"""', "Send bills"),
        ('"""' + "x" * 300 + '"""', "x" * 200),
        ("pass", "Send bills"),
    ],
)
def test_the_title_is_the_docstring_s_first_line(
    tmp_path: Path, doc: str, title: str
) -> None:
    found = declare(tmp_path, f"@task\ndef send_bills():\n    {doc}\n")
    assert found.config["title"] == title


def test_a_lambda_is_evaluated_when_the_app_loads(tmp_path: Path) -> None:
    found = declare(
        tmp_path,
        """
        @date_field_task(Appointment.starts_at, where=lambda: Appointment.patient.has(Patient.active))
        def f(appointment): ...
        """,
    )
    assert found.where is not None and found.where.follows_relationships
    assert found.config["filter"] == (
        "EXISTS (SELECT 1 FROM patients WHERE patients.id = appointments.patient_id AND patients.active)"
    )


def test_every_problem_of_a_task_is_told_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        @date_field_task(
            Appointment.starts_at, Before(days=-1), repeat=Weekly("mo"), until="soon", where=Patient.active,
            holiday_policy="never", timezone="Mars", title="", timeout=0, retries=-1, retry_delay="5",
            missed="some", dispatch="rows", row_runs=1, work_pool=5, concurrency=0, parallel=True, rate="5", tags="a", enable="yes", skip_holiday=2,
        )
        def f(appointment): ...
        """,
    )
    place = f"tasks.py, line {LINES + 1}: "
    assert all(text.startswith(place) for text in found)
    assert [text.removeprefix(place).partition(":")[0] for text in found] == [
        "enable",
        "offset.days",
        "repeat.weekdays",
        "until",
        "where",
        "skip_holiday",
        "title",
        "timeout",
        "retries",
        "retry_delay",
        "missed.policy",
        "dispatch",
        "row_runs",
        "concurrency.limit",
        "parallel",
        "rate",
        "work_pool",
        "tags",
        "holiday_policy",
        "timezone",
    ]
    assert f"{place}where: found patients.active, a column of another model; " in "\n".join(found)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "class A:\n    @task\n    def f(self): ...\n",
            "line {2}: function: found f, a method of A; allowed: a function at the top of a module",
        ),
        (
            "f = task(lambda: None)\n",
            "line {1}: name: found <lambda>; allowed: name=",
        ),
        (
            "f = task(name='F')(lambda: None)\n",
            "line {1}: function: found a lambda; allowed: a function at the top of a module",
        ),
        (
            "def outer():\n    @task\n    def inner(): ...\nouter()\n",
            "line {2}: function: found inner, a function within outer",
        ),
        ("@task(name='F')\nclass A: ...\n", "line {1}: function: found <class 'tasks.A'>, a type"),
        ("@task\ndef 提醒(): ...\n", "line {1}: name: found 提醒; allowed: name="),
        ("@task(name='tasks.F')\ndef f(): ...\n", "line {1}: name: found 'tasks.F'; allowed: name="),
        ("@task(name=5)\ndef f(): ...\n", "line {1}: name: found 5; allowed: name="),
        (
            "@task\ndef send_bills(): ...\n@task\ndef sendBills(): ...\n",
            "line {3}: name: found tasks.SendBills in tasks.py, line {1} and in tasks.py, line {3}; "
            "allowed: a name for each function",
        ),
        (
            "@scheduled_task(Daily(every=2))\ndef f(): ...\n",
            "line {1}: rule.start: found nothing, in Daily(every=2); allowed: with start=",
        ),
        (
            "@scheduled_task(Cron('0 6 * *'))\ndef f(): ...\n",
            'line {1}: rule.text: found "0 6 * *"; allowed: ',
        ),
        (
            "@scheduled_task(Monthly(day=32))\ndef f(): ...\n",
            "line {1}: rule.day: found 32; allowed: 1 to 31",
        ),
        (
            "@scheduled_task(Yearly(month=[13]))\ndef f(): ...\n",
            "line {1}: rule.month: found ",
        ),
        (
            "@scheduled_task(Yearly(month=2, day=30, month_end='skip'))\ndef f(): ...\n",
            "line {1}: rule.day: found [30]; allowed: a day that month 2 has",
        ),
        (
            "@scheduled_task(Daily(start='2026-03-01'), until='2026-02-01')\ndef f(): ...\n",
            'line {1}: until: found "2026-02-01"; allowed: a time from rule.start',
        ),
        (
            "@scheduled_task(Daily(), arguments={'day': date(2026, 1, 1)})\ndef f(day): ...\n",
            "line {1}: arguments: found {'day': datetime.date(2026, 1, 1)}; allowed: JSON values",
        ),
        (
            "@date_field_task(Appointment.starts_at, dispatch='batch', concurrency={'limit': 1, 'overlap': 'skip'})\n"
            "def f(a): ...\n",
            "line {1}: concurrency.overlap: found skip with dispatch batch; allowed: queue",
        ),
        (
            "@date_field_task(Appointment.starts_at, where=\"Q('a')\")\ndef f(a): ...\n",
            "line {1}: where: found Q('a'); allowed: ",
        ),
        (
            "@date_field_task(Appointment.starts_at, where=\"Q(stats='a')\")\ndef f(a): ...\n",
            "line {1}: where: found the field 'stats'; allowed: a mapped column of Appointment",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_a_sentence_with_file_and_line(
    tmp_path: Path, text: str, said: str
) -> None:
    found = problems(tmp_path, text)
    for n in (1, 2, 3):
        said = said.replace(f"{{{n}}}", str(LINES + n))
    assert found[0].startswith(f"tasks.py, {said}"), found


def test_a_class_that_is_no_model_of_the_app(tmp_path: Path) -> None:
    text = "@date_field_task(Appointment.starts_at)\ndef f(a): ...\n"
    (mark,), models = marks_of(tmp_path, text)
    only = {cls: name for cls, name in models.items() if name == "models.Patient"}
    with pytest.raises(ConfigError) as caught:
        declared(mark, only, tmp_path)
    assert str(caught.value) == (
        f"tasks.py, line {LINES + 1}: field: found an attribute of tasks.Appointment, which is no model of the app; "
        "allowed: an attribute of a mapped class of the app's modules: Patient"
    )


def test_concrete_inheritance_is_refused(tmp_path: Path) -> None:
    text = """
class Visit(Patient):
    __tablename__ = "visit"
    __mapper_args__ = {"concrete": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    begins: Mapped[datetime.datetime]

@date_field_task(Visit.begins)
def f(a): ...
"""
    (mark,), _ = marks_of(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        declared(mark, {}, tmp_path)
    assert str(caught.value) == (
        f"tasks.py, line {LINES + 7}: field: found an attribute of tasks.Visit, which is mapped with concrete "
        "inheritance: equal keys stand in several tables; "
        "allowed: single-table or joined inheritance, or a mapping without inheritance"
    )


def test_wrong_types_in_every_argument_are_problems_and_never_python_s_errors(
    tmp_path: Path,
) -> None:
    """Each argument of each decorator with values of every wrong kind."""
    values = ["None", "0", "-1", "1.5", "True", "''", "'x'", "[]", "{}", "{'a': 1}", "object()", "Daily", "Daily()",
              "Before(days=1)", "[Before(days=1, name='a')]", "[Before(days=1, name=[])]", "[Before(days=1, name=10**5000)]",
              "Patient", "lambda: 1", "float('nan')", "'\\ud800'", "10**5000"]  # fmt: skip
    rows = {
        "offset": "", "repeat": "", "until": "", "where": "", "skip_holiday": "", "holiday_policy": "",
        "workdays_only": "", "window": "", "calendar": "", "timezone": "", "name": "", "title": "", "enable": "", "timeout": "",
        "retries": "", "retry_delay": "", "missed": "", "dispatch": "", "row_runs": "", "concurrency": "", "parallel": "", "rate": "",
        "type": "", "work_pool": "",
        "tags": "", "description": "",
    }  # fmt: skip
    text = ""
    for n, (argument, value) in enumerate((a, v) for a in rows for v in values):
        text += f"@date_field_task(Appointment.starts_at, {argument}={value})\ndef f{n}(a): ...\n"
    for n, value in enumerate(values):
        text += f"@date_field_task({value})\ndef g{n}(a): ...\n"
        text += f"@scheduled_task({value})\ndef h{n}(): ...\n"
        text += f"@scheduled_task(Daily(), until={value}, arguments={value})\ndef i{n}(): ...\n"
        for piece in ("Daily(every={})", "Daily(at={})", "Weekly({})", "Monthly(day={})", "Cron({})", "RRule({})",
                      "Dates({})", "Once({})", "Yearly(month={})", "Daily(start={})", "Monthly(month_end={})"):  # fmt: skip
            text += f"@scheduled_task({piece.format(value)})\ndef k{n}_{abs(hash(piece))}(): ...\n"

    found = problems(tmp_path, text)
    assert len(found) > 400
    assert all("found" in line and "allowed" in line for line in found)
    assert all(line.startswith("tasks.py, line ") for line in found)


@pytest.mark.parametrize(
    ("key", "kind", "argument"),
    [
        ("timerCfg.startOffset.time", "rows", "offset.at"),
        ("timerCfg.startOffset.1.name", "rows", "offset"),
        ("timerCfg.startField", "rows", "field"),
        ("timerCfg.endField", "rows", "until"),
        ("timerCfg.endOffset.offset", "rows", "until"),
        ("timerCfg.repeat.period", "rows", "repeat.every"),
        ("timerCfg.repeat.dates.3", "scheduled", "rule.dates"),
        ("timerCfg.repeat.cron", "scheduled", "rule.text"),
        ("timerCfg.startTime", "scheduled", "rule.start"),
        ("timerCfg.repeat", "scheduled", "rule"),
        ("timerCfg.skipHoliday", "rows", "skip_holiday"),
        ("timerCfg.calendar", "rows", "calendar"),
        ("timerCfg.window.1.from", "rows", "window.opens"),
        ("timerCfg.window.to", "scheduled", "window.closes"),
        ("modelPath", "rows", "field"),
        ("filter", "rows", "where"),
        ("retryDelay", "code", "retry_delay"),
        ("argDict.month", "scheduled", "arguments"),
        ("customFunc", "rows", "function"),
        ("missed.grace", "rows", "missed.grace"),
    ],
)
def test_keys_of_the_validator_are_told_as_arguments(
    key: str, kind: Any, argument: str
) -> None:
    assert argument_of(key, kind) == argument


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("Appointment.status", "status"),
        ('"status"', "status"),
        ("Appointment.who", "who"),
        ('"who"', "who"),
    ],
)
def test_a_row_label_is_a_field_or_a_method_of_the_class(
    tmp_path: Path, given: str, label: str
) -> None:
    found = declare(
        tmp_path,
        f"""
        Appointment.who = lambda self: self.status
        Appointment.who.__name__ = "who"

        @date_field_task(Appointment.starts_at, row_label={given})
        def remind(appointment): ...
        """,
    )
    assert found.row_label == label
    assert "rowLabel" not in found.config


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("3", "found 3; allowed: Appointment.name, a method of the class"),
        ('"patients"', "found patients, which Appointment does not have"),
        ("Appointment.patient", "found patient, which leads to other rows"),
        ("Patient.active", "found active, which Appointment does not have"),
        ("Patient.id", "which is not of Appointment"),
        ('"__str__"', "found '__str__'"),
    ],
)
def test_a_wrong_row_label_is_named(tmp_path: Path, given: str, found: str) -> None:
    [problem] = problems(
        tmp_path,
        f"""
        @date_field_task(Appointment.starts_at, row_label={given})
        def remind(appointment): ...
        """,
    )
    assert ": row_label: " in problem
    assert found in problem
