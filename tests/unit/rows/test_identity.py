"""Identity and generation: which changes of a row, of its template and of the calendar make which tasks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

import pytest
from shop import COUNT, MODEL, Shop, model_of, rows_task, utc

from jittask_prefect.rows import follow, planning

Make = Callable[..., Shop]
OPEN = "Q('status','=','open')"
DAILY = {"repeat": {"repeatType": "day"}}


def test_there_and_back_are_three_identities(shop: Make) -> None:
    s = shop()
    for hour in (10, 11, 10):
        s.save(id=1, at=datetime(2026, 3, 2, hour))
    assert s.tasks() == [
        "1 03-02 10:00 #1 superseded",
        "1 03-02 10:00 #3 pending",
        "1 03-02 11:00 #2 superseded",
    ]
    assert len({e.task_id for e in s.entries()}) == 3
    s.sync()
    assert [o.status for o in s.work("2026-03-02 12:00")] == ["completed"]
    assert s.row(1).count == 1


def test_a_save_without_a_relevant_change_changes_nothing(shop: Make) -> None:
    s = shop(filter=OPEN)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    before = s.entries()
    s.at("2026-03-02 08:30").save(id=1, count=7)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    assert s.entries() == before


def test_a_change_that_moves_the_due_time_raises_the_generation(shop: Make) -> None:
    # "office" closes on Wednesday the 4th only after the task was planned: the same occurrence, a day later.
    office = {"country": None, "closed": []}
    s = shop(
        "day",
        calendar="office",
        skipHoliday=1,
        app_json={"calendars": {"office": office}, "horizon": 96},
    )
    s.save(day=date(2026, 3, 4))
    assert s.did() == []
    s._json["calendars"] = {"office": {"country": None, "closed": ["2026-03-04"]}}
    s.again()
    assert s.did("2026-03-02 08:01") == ["reschedule 1 03-05 00:00"]
    assert s.tasks() == ["1 03-04 00:00 #1 superseded", "1 03-05 00:00 #2 pending"]
    assert {e.nominal for e in s.entries()} == {utc("2026-03-04 00:00")}
    assert s.did("2026-03-02 08:02") == []


def test_times_in_reasons_and_messages_are_those_of_the_task_s_zone(shop: Make) -> None:
    s = shop(timezone="Asia/Shanghai")
    s.save(id=1, at=datetime(2026, 3, 2, 18))
    s.raw(
        "INSERT INTO bill (id, status, count, at) VALUES (2, 'open', 0, '2026-03-03 01:00:00.000000')"
    )
    s.raw("UPDATE bill SET at = '2026-03-02 19:30:00.000000' WHERE id = 1")
    assert [(a.row, a.action, a.reason) for a in s.sync().actions] == [
        ("1", "reschedule", "was due 2026-03-02 18:00"),
        ("2", "create", "due within the horizon"),
    ]
    assert (
        s.entries(generation=1, row_key="1")[0].message
        == "superseded: now due 2026-03-02 19:30"
    )


def test_the_filter_ends_a_task_and_makes_a_new_one(shop: Make) -> None:
    s = shop(filter=OPEN)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.save(id=1, status="paid")
    assert s.tasks() == ["1 03-02 10:00 #1 superseded"]
    s.save(id=1, status="open")
    assert s.tasks() == ["1 03-02 10:00 #1 superseded", "1 03-02 10:00 #2 pending"]


def test_no_date_no_task(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=None)
    assert s.tasks() == [] and s.did() == []
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.save(id=1, at=None)
    assert s.tasks() == ["1 03-02 10:00 #1 superseded"]


def test_a_deleted_row_has_no_task_and_one_of_its_key_has_a_new_one(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.drop(1)
    assert s.tasks() == ["1 03-02 10:00 #1 superseded"]
    s.sync()
    assert [r["state_type"] for r in s.api.all_runs.values()] == ["CANCELLED"]
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    assert s.tasks(status="pending") == ["1 03-02 10:00 #2 pending"]
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]


def test_a_row_that_takes_the_place_of_another_in_one_flush(shop: Make) -> None:
    # SQLAlchemy makes one UPDATE of a delete and an insert of the same key
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    cls = s.element("models.Bill")
    with s.session() as session:
        session.delete(session.get(cls, 1))
        session.add(cls(id=1, at=datetime(2026, 3, 2, 11)))
        session.commit()
    assert s.tasks(status="pending") == ["1 03-02 11:00 #2 pending"]


def test_disabled_ends_and_enabled_again_never_looks_back(shop: Make) -> None:
    s = shop(**DAILY)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.save(id=2, at=datetime(2026, 3, 2, 20))
    s.sync()
    s.config(enable=0)
    assert s.did("2026-03-02 09:00") == ["end 1 03-02 10:00", "end 2 03-02 20:00"]
    s.raw(
        "INSERT INTO bill (id, status, at, count) VALUES (3, 'open', '2026-03-02 10:01:00.000000', 0)"
    )
    assert s.work("2026-03-02 10:01") == []
    s.config(enable=1)
    # 10:00 and 10:01 passed while it was disabled: neither this sync nor the next, with its overlap, goes there
    assert s.did("2026-03-02 10:02") == [
        "create 2 03-02 20:00",
        "create 1 03-03 10:00",
        "create 3 03-03 10:01",
    ]
    assert s.did("2026-03-02 10:03") == []
    assert "2 03-02 20:00 #2 pending" in s.tasks()


def test_the_first_enabling_never_looks_back_but_since_does(shop: Make) -> None:
    s = shop()
    s.raw("INSERT INTO bill (id, status, at, count) VALUES (1,'open','2026-03-02 07:55:00.000000',0),"
          "(2,'open','2026-02-25 07:00:00.000000',0), (3,'open','2026-03-02 09:00:00.000000',0)")  # fmt: skip
    assert s.did("2026-03-02 08:00") == ["create 3 03-02 09:00"]
    assert s.did("2026-03-02 08:01") == [] and s.did("2026-03-02 08:02") == []
    assert s.did(since="2026-02-25 07:00") == [
        "create 1 03-02 07:55"
    ]  # exclusive, as every window
    assert s.did(since="2026-02-25 06:59") == ["create 2 02-25 07:00"]
    assert s.did("2026-03-02 08:03") == []


def test_a_template_that_changes_is_planned_anew(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.save(
        id=2, at=datetime(2026, 3, 3, 12)
    )  # beyond the horizon; known to the ledger by its save
    s.sync()
    timer = {
        "startField": "at",
        "startOffset": {"offsetType": 1, "offset": 30, "offsetUnit": "minute"},
    }
    s.config(timerCfg=timer)
    assert s.did("2026-03-02 08:01") == [
        "reschedule 1 03-02 10:30",
        "end 2 03-03 12:00",
    ]
    assert s.did("2026-03-02 08:02") == []
    s.config(
        timerCfg={
            **timer,
            "repeat": {"repeatType": "hour"},
            "endTimeType": 1,
            "endTime": "2026-03-02 12:00:00",
        }
    )
    assert s.did("2026-03-02 08:03") == ["create 1 03-02 11:30"]
    s.config(filter="Q('id','>',1)")
    assert s.did("2026-03-02 08:04") == ["end 1 03-02 10:30", "end 1 03-02 11:30"]
    s.config(filter="")
    assert s.did("2026-03-02 08:05") == ["create 1 03-02 10:30", "create 1 03-02 11:30"]


def test_an_edit_that_moves_a_date_into_the_past(shop: Make) -> None:
    # as any date that moves there: due at once within lookback (a day), else recorded as missed
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.save(id=2, at=datetime(2026, 3, 2, 20))
    s.sync()
    s.config(
        timerCfg={
            "startField": "at",
            "startOffset": {"offsetType": -1, "offset": 30, "offsetUnit": "hour"},
        }
    )
    assert s.did("2026-03-02 08:01") == [
        "reschedule 1 03-01 04:00",
        "reschedule 2 03-01 14:00",
    ]
    assert s.tasks()[:2] == ["1 03-01 04:00 #2 missed", "2 03-01 14:00 #2 pending"]
    assert [o.status for o in s.work()] == ["completed"]
    assert s.did("2026-03-02 08:02") == []


def test_an_edit_of_a_repeating_task_makes_nothing_good(shop: Make) -> None:
    s = shop(repeat={"repeatType": "hour"})
    s.save(id=1, at=datetime(2026, 3, 2, 8))
    s.sync()
    s.work()
    timer = {"startField": "at", "repeat": {"repeatType": "hour"}}
    s.config(
        timerCfg={
            **timer,
            "startOffset": {"offsetType": -1, "offset": 30, "offsetUnit": "minute"},
        }
    )
    s.sync("2026-03-02 08:01")
    assert s.work() == [] and s.entries(status="pending")[0].due == utc(
        "2026-03-02 08:30"
    )


def test_an_edit_does_not_look_back(shop: Make) -> None:
    # 09:00 was done; half an hour later somebody makes it 09:15: that is no second task for the day
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 9))
    s.sync()
    s.work("2026-03-02 09:00")
    s.sync("2026-03-02 09:29")
    offset = {"offsetType": 1, "offset": 15, "offsetUnit": "minute"}
    s.config(timerCfg={"startField": "at", "startOffset": offset})
    assert s.did("2026-03-02 09:30") == [] and s.did("2026-03-02 09:31") == []


def test_an_edited_function_changes_no_task(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    before = s.entries()
    files = {**s._elements["tasks/Task"], "inner.py": COUNT.replace("+= 1", "+= 10")}
    s.again(**{"tasks/Task": files})
    assert s.did("2026-03-02 08:01") == [] and s.entries() == before
    s.work("2026-03-02 10:00")
    assert s.row(1).count == 10


def test_a_removed_template_has_no_tasks(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.again(**{"tasks/Task": None})
    assert s.did("2026-03-02 08:01") == ["end 1 03-02 10:00"]
    assert [r["state_type"] for r in s.api.all_runs.values()] == ["CANCELLED"]


def test_a_broken_template_keeps_its_tasks(shop: Make) -> None:
    s = shop(more={"tasks/Other": rows_task("at")})
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    (s.folder / "tasks/Task/e.json").write_text("{")
    s.app.close()
    s.app = type(s.app)(s.folder)
    assert s.did("2026-03-02 08:01") == []
    assert len(s.tasks(status="pending")) == 2


def test_the_model_goes_to_another_database(shop: Make) -> None:
    # What was planned in the old one is ended there; the new one is looked at from then on.
    s = shop(app_json={"databases": {"crm": "sqlite:///crm.db"}})
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.again(**{"models/Bill": model_of(database="crm")})
    s.raw(
        "INSERT INTO bill (id, status, at, count) VALUES (1, 'open', '2026-03-02 10:00:00.000000', 0)",
        "crm",
    )
    assert s.did("2026-03-02 08:01") == ["end 1 03-02 10:00", "create 1 03-02 10:00"]
    assert s.tasks() == ["1 03-02 10:00 #1 superseded"]
    assert s.tasks("crm") == ["1 03-02 10:00 #1 pending"]


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_what_was_done_stays_done(shop: Make, outcome: str) -> None:
    s = shop(
        inner=COUNT if outcome == "completed" else "def customFunc(row):\n    1 / 0\n",
        filter=OPEN,
    )
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.work("2026-03-02 10:00")
    s.save(id=1, status="paid")
    s.save(id=1, status="open")
    assert s.did("2026-03-02 10:01") == []
    assert s.tasks() == [f"1 03-02 10:00 #1 {outcome}"]


def test_a_tie_of_generations_is_the_present_dates(shop: Make) -> None:
    # A sync read the row before, and wrote its task after, a hook moved the row's date: both are generation 1.

    s = shop(**DAILY)
    s.raw(
        "INSERT INTO bill (id, status, at, count) VALUES (1, 'open', '2026-03-02 10:00:00.000000', 0)"
    )
    stale = planning.plan(s.app, s.now)
    s.raw("UPDATE bill SET at = '2026-03-02 09:00:00.000000'")
    with (
        s.session() as session
    ):  # the hook's plan, as it was made without knowledge of the sync's
        from jittask_prefect.rows.follow import follow_row

        follow_row(s.app, session.connection(), "models.Bill", "1", s.now)
        session.commit()
    with s.app.engine().begin() as connection:
        for action in stale.actions:
            follow.apply_all(connection, s.app.name, [action], "models.Bill", s.now)
    s.sync()
    assert s.tasks(status="pending") == ["1 03-02 09:00 #1 pending"]
    s.work("2026-03-02 09:00")
    assert s.row(1).count == 1
    assert s.did("2026-03-02 09:01") == []


def test_two_templates_on_one_field(shop: Make) -> None:
    before = {"offsetType": -1, "offset": 1, "offsetUnit": "hour"}
    s = shop(more={"tasks/Early": rows_task("at", startOffset=before)})
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    assert [(e.template, f"{e.due:%H:%M}") for e in s.entries()] == [
        ("tasks.Early", "09:00"),
        ("tasks.Task", "10:00"),
    ]
    s.sync()
    s.work("2026-03-02 10:00")
    assert s.row(1).count == 2


KEYS = MODEL.replace("id: int | None = Field(default=None, primary_key=True)", "{key}")


def keyed(key: str) -> dict[str, object]:
    return {
        "models/Bill": model_of("import uuid\n" + KEYS.replace("{key}", key)),
        "tasks/Task": rows_task("at"),
    }


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (
            "id: str = Field(primary_key=True)",
            {"id": "a/b%c '\"; DROP TABLE bill; -- 合同 🎉 {{x}} \n\t\\"},
        ),
        ("id: str = Field(primary_key=True)", {"id": " 01 "}),
        (
            "id: uuid.UUID = Field(primary_key=True)",
            {"id": "9b2f3c1e-0d4a-4b5f-8a6e-1f2d3c4b5a69"},
        ),
        (
            "id: str = Field(primary_key=True)\n    no: int = Field(primary_key=True)",
            {"id": "1", "no": 1},
        ),
        ("id: date = Field(primary_key=True)", {"id": date(2026, 1, 2)}),
    ],
)
def test_any_primary_key(shop: Make, key: str, values: dict[str, object]) -> None:
    import uuid

    s = shop(elements=keyed(key))
    if "uuid.UUID" in key:
        values = {"id": uuid.UUID(str(values["id"]))}
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add(cls(**values, at=datetime(2026, 3, 2, 10)))
        session.commit()
    assert [a.action for a in planning.plan(s.app, s.now).actions] == ["skip"]
    assert s.sync().actions == []
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]


def test_a_key_that_is_too_long_is_reported_and_the_others_go_on(shop: Make) -> None:
    s = shop(elements=keyed("id: str = Field(primary_key=True)"))
    cls = s.element("models.Bill")
    for key in ("x" * 256, "", "y" * 255):
        with s.session() as session:
            session.add(cls(id=key, at=datetime(2026, 3, 2, 10)))
            session.commit()
    s.raw("DELETE FROM jittask_ledger")
    report = s.sync()
    assert len(report.problems) == 2 and "256 characters" in "".join(report.problems)
    assert [a.row for a in report.actions] == ["y" * 255]
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]
