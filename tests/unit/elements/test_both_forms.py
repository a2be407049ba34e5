"""A decorated function and an e.json that say the same are the same template; a mistake stays with its own task."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from projects import MODELS, Project

from jittask_prefect.deploying.deployments import description
from jittask_prefect.rows.template_planner import fingerprint

TASKS = """from jittask_prefect import After, Before, Monthly, Weekly, date_field_task, scheduled_task
from {package}.models import Visit

@date_field_task(
    Visit.starts_at, Before(days=2, at="09:00"), repeat=Weekly("mon"), until=After(Visit.starts_at, months=1),
    where="Q(status='booked')", skip_holiday=True, calendar="DE", title="Remind",
)
def remind(visit): ...

@scheduled_task(Monthly(day=-1, at="18:00"), holiday_policy="previous", skip_holiday=True, calendar="DE")
def close_books():
    '''Close'''
"""
REMIND = {
    "type": "tasks.DateFieldType",
    "title": "Remind",
    "modelPath": "models.Visit",
    "filter": "Q(status='booked')",
    "timerCfg": {
        "startField": "starts_at",
        "startOffset": {
            "offsetType": -1,
            "offset": 2,
            "offsetUnit": "day",
            "time": "09:00",
        },
        "repeat": {"repeatType": "week", "weekday": [1]},
        "endTimeType": 2,
        "endField": "starts_at",
        "endOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "month"},
        "skipHoliday": 1,
        "calendar": "DE",
    },
}
CLOSE = {
    "type": "tasks.NormalType",
    "title": "Close",
    "timerCfg": {
        "startTime": "2000-01-01 18:00:00",
        "repeat": {"repeatType": "month", "day": -1},
        "skipHoliday": 1,
        "holidayPolicy": "previous",
        "calendar": "DE",
    },
}
LEVELS = """from jittask_prefect import After, Before, Weekly, date_field_task
from {package}.models import Visit

@date_field_task(
    Visit.starts_at,
    [
        Before(workdays=2, at="09:00", name="early"),
        After(days=0, name="day"),
        After(hours=3, name="late"),
    ],
    repeat=Weekly(), title="Remind",
)
def remind(visit): ...
"""
REMIND_OFTEN = {
    "type": "tasks.DateFieldType",
    "title": "Remind",
    "modelPath": "models.Visit",
    "timerCfg": {
        "startField": "starts_at",
        "startOffset": [
            {
                "name": "early",
                "offsetType": -1,
                "offset": 2,
                "offsetUnit": "workday",
                "time": "09:00",
            },
            {"name": "day", "offsetType": 0},
            {"name": "late", "offsetType": 1, "offset": 3, "offsetUnit": "hour"},
        ],
        "repeat": {"repeatType": "week"},
    },
}
WINDOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)


def by_hand(project: Project, name: str, config: dict[str, Any], code: str) -> None:
    folder = project.folder / "flows" / "tasks" / name
    folder.mkdir(parents=True)
    (folder / "e.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "inner.py").write_text(code, encoding="utf-8")


def test_both_forms_are_one_template(project: Project) -> None:
    project.write("tasks", models=MODELS, tasks=TASKS)
    by_hand(project, "RemindByHand", REMIND, "def customFunc(visit): ...\n")
    by_hand(project, "CloseByHand", CLOSE, "def customFunc(): ...\n")
    app = project.app
    assert [str(problem) for problem in app.check()] == []
    visit = app.getElement("models.Visit")(starts_at=datetime(2026, 4, 8, 10))
    for name, row in (("Remind", visit), ("CloseBooks", None)):
        declared: Any = app.getElement(f"tasks.{name}")
        hand: Any = app.getElement(f"tasks.{name.removesuffix('Books')}ByHand")
        assert declared.config == hand.config
        assert declared.cfg == hand.cfg
        assert fingerprint(declared) == fingerprint(hand)
        told = declared.explain(*WINDOW, row), hand.explain(*WINDOW, row)
        assert told[0] == told[1] != []

    # Two days before 8 April is Easter Monday: the working day after. The other is 31 March, a Tuesday.
    first = next(app.getElement("tasks.Remind").occurrences(*WINDOW, row=visit))
    assert first == datetime(2026, 4, 7, 9, tzinfo=UTC)
    first = next(app.getElement("tasks.CloseBooks").occurrences(*WINDOW))
    assert first == datetime(2026, 3, 31, 18, tzinfo=UTC)


def test_a_list_of_named_offsets_is_the_same_in_both_forms(project: Project) -> None:
    project.write("tasks", models=MODELS, tasks=LEVELS)
    by_hand(project, "RemindByHand", REMIND_OFTEN, "def customFunc(visit): ...\n")
    app = project.app
    assert [str(problem) for problem in app.check()] == []
    declared: Any = app.getElement("tasks.Remind")
    hand: Any = app.getElement("tasks.RemindByHand")
    assert declared.config == hand.config
    assert fingerprint(declared) == fingerprint(hand)

    # 8 April 2026 is a Wednesday.
    visit = app.getElement("models.Visit")(starts_at=datetime(2026, 4, 8, 10))
    found = declared.explain(WINDOW[0], datetime(2026, 4, 20, tzinfo=UTC), visit)
    assert found == hand.explain(WINDOW[0], datetime(2026, 4, 20, tzinfo=UTC), visit)
    assert [(f"{each.due:%m-%d %H:%M}", each.level) for each in found] == [
        ("04-06 09:00", "early"),
        ("04-08 10:00", "day"),
        ("04-08 13:00", "late"),
        ("04-15 13:00", "late"),
    ]
    assert found[2].origin == (
        "level late: 3 hours after `starts_at` (2026-04-08 10:00)"
    )


MISTAKES = """from datetime import datetime
from jittask_prefect import Before, Daily, date_field_task, scheduled_task
from {package}.models import Visit

@date_field_task(Visit.starts_at, where=Visit.status == "booked" and Visit.reminded == False)
def one(visit): ...

@date_field_task(Visit.status, where=Visit.starts_at > datetime.now())
def two(visit): ...

@scheduled_task(Daily(every=3))
def three(): ...

@date_field_task(Visit.reminded)
def four(visit, more): ...

@scheduled_task(Daily())
def sound(): ...

@date_field_task(Visit.starts_at, where=Visit.status == "booked")
def sound_too(visit): ...
"""


def test_check_names_file_line_and_argument(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=MISTAKES).app
    file = f"{project.package}/tasks.py"
    said = [str(problem) for problem in app.check()]
    begins = [text.partition("; allowed")[0] for text in said]
    assert f"{file}, line 5: where: found Visit.status == \"booked\" and Visit.reminded == False" in begins  # fmt: skip
    assert f"{file}, line 8: where: found datetime.now()" in begins
    assert f"{file}, line 11: rule.start: found nothing, in Daily(every=3)" in begins
    assert any(text.startswith(f"{file}, line 14: field: found") for text in begins)
    assert all(text.startswith(f"{file}, line ") for text in begins)
    template: Any = app.getElement("tasks.SoundToo")
    assert template.config["filter"] == "visits.status = 'booked'"
    assert "Only rows with `visits.status = 'booked'`." in description(template)
    assert app.getElement("tasks.Sound").enable
