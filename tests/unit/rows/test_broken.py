"""What cannot be read is broken, and its tasks wait; only what is known to be gone ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import COUNT, MODEL, Shop, model_of, rows_task, utc
from sqlalchemy import text, update

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.ledger import transitions
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
OWN = "from jittask_prefect import DateFieldType\nclass OwnType(DateFieldType):\n    pass\n"
TYPE = {"e.json": {"type": "tasks.Meta", "title": "Own"}, "type.py": OWN}
SERVICE = {
    "e.json": {"type": "services.NormalType", "title": "Count"},
    "service.py": "class CountSvc:\n    def add(self, row):\n        row.count += 1\n",
}
SERVICE["service.py"] = (
    f"from jittask_prefect import NormalService\n{SERVICE['service.py']}".replace(
        "CountSvc:", "CountSvc(NormalService):"
    )
)
GLOBAL = rows_task(funcType="Global", func="services.CountSvc.add")
GLOBAL["e.json"]["type"] = "tasks.OwnType"
SOUND = {
    "models/Bill": model_of(),
    "tasks/OwnType": TYPE,
    "services/CountSvc": SERVICE,
    "tasks/Task": GLOBAL,
}
SLIPS: dict[str, dict[str, Any]] = {
    "a model that does not import": {
        "models/Bill": model_of("import nothing_of_that_name\n" + MODEL)
    },
    "a model without its e.json": {"models/Bill": {"model.py": MODEL}},
    "a model without the field": {
        "models/Bill": model_of(MODEL.replace("at: Naive", "then: Naive"))
    },
    "a Type that does not import": {
        "tasks/OwnType": {**TYPE, "type.py": "import nothing_of_that_name"}
    },
    "a Type of another name": {"tasks/OwnType": None, "tasks/Renamed": TYPE},
    "an e.json that is none": {"tasks/Task": {"inner.py": COUNT, "e.json": "{"}},
    "no e.json beside the code": {"tasks/Task": {"inner.py": COUNT}},
    "a service that is gone": {"services/CountSvc": None},
    "a service that does not import": {
        "services/CountSvc": {**SERVICE, "service.py": "1 / 0"}
    },
    "a filter by an unknown field": {
        "tasks/Task": {
            "e.json": {**GLOBAL["e.json"], "filter": "Q('stat','=','open')"},
            "inner.py": COUNT,
        }
    },
}


def change(s: Shop, elements: dict[str, Any]) -> None:
    """Change the files of elements, and load the app anew; a file that is not named is not there any more."""
    for place in elements:
        for file in (s.folder / place).glob("*.*"):
            file.unlink()
    broken = {
        place: files
        for place, files in elements.items()
        if files and files.get("e.json") == "{"
    }
    s.again(
        **{p: ({"inner.py": COUNT} if p in broken else f) for p, f in elements.items()}
    )
    for place in broken:
        (s.folder / place / "e.json").write_text("{")
        s.again()


@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_a_slip_ends_no_task(shop: Make, slip: str, dispatch: str) -> None:
    """With a slip in a file its tasks wait, also where their flow run begins meanwhile; mended, they run."""
    task = {**GLOBAL, "e.json": {**GLOBAL["e.json"], "dispatch": dispatch}}
    s = shop(elements={**SOUND, "tasks/Task": task})
    s.save(id=1, at=TEN)
    s.save(id=2, at=datetime(2026, 3, 3, 20))  # beyond the horizon
    s.sync()
    slipped = SLIPS[slip]
    change(s, slipped)
    report = s.sync("2026-03-02 09:00")
    assert [e.status for e in s.entries()] == ["pending", "pending"]
    said = any(
        "tasks.Task is broken, and 2 open tasks wait" in problem
        for problem in report.problems
    )
    assert said is ("service" not in slip)  # then rows can be planned as well as ever
    assert {o.status for o in s.work("2026-03-02 10:00")} <= {"ended"}
    for minute in range(1, 4):
        s.sync(f"2026-03-02 10:0{minute}")
        assert s.work() == []  # no run is made in vain
    assert [(e.status, e.attempt) for e in s.entries()] == [
        ("pending", 0),
        ("pending", 0),
    ]
    assert not deploying.deploy(s.app, s.api, s.now, prune=True).removed
    change(
        s,
        {
            **dict.fromkeys(slipped),
            **{k: v for k, v in {**SOUND, "tasks/Task": task}.items() if k in slipped},
        },
    )
    s.sync("2026-03-02 10:05")
    assert [o.status for o in s.work()] == ["completed"] and s.row(1).count == 1
    assert [e.status for e in s.entries()] == ["completed", "pending"]


def test_a_folder_that_is_gone_ends_its_tasks(shop: Make) -> None:
    """And one that is made by the same name later is enabled then: it does not look back."""
    s = shop()
    s.save(id=1, at=TEN)
    s.sync()
    s.again(**{"tasks/Task": None})
    (
        s.folder / "tasks/Task/__pycache__"
    ).mkdir()  # what Python leaves there is no element
    assert [a.reason for a in s.sync().actions] == ["the template was removed"]
    assert deploying.deploy(s.app, s.api, s.now, prune=True).removed == ["tasks.Task"]
    s.sync("2026-03-02 10:00")
    s.again(**{"tasks/Task": rows_task()})
    assert s.did("2026-03-02 11:00") == []


def test_rows_that_are_in_another_database_now(shop: Make) -> None:
    """That is known as well, and its reason is told."""
    s = shop(app_json={"databases": {"crm": "sqlite:///crm.db"}})
    s.save(id=1, at=TEN)
    s.sync()
    s.again(**{"models/Bill": model_of(database="crm")})
    assert [a.reason for a in s.sync().actions] == [
        "the template's rows are in another database now"
    ]


def test_a_model_with_a_column_property_works(shop: Make) -> None:
    """What is mapped and is no column of the table is nothing that a task is due by, and stands in nobody's way."""
    extra = (
        "from sqlalchemy import func\nfrom sqlalchemy.orm import column_property\n"
        "Bill.shout = column_property(func.upper(Bill.status))\n"
    )
    s = shop(
        filter="Q('status','=','open')", more={"models/Bill": model_of(MODEL + extra)}
    )
    assert s.app.check() == []
    s.sync()
    s.save(id=1, at=TEN)
    s.insert(id=2, status="open", at=TEN, count=0)
    bill = s.element("models.Bill")
    with s.session() as session:
        session.execute(
            update(bill).where(bill.id == 1).values(at=TEN + timedelta(minutes=5))
        )
        session.commit()
    s.save(id=1, count=3)
    s.sync()
    assert [o.status for o in s.work("2026-03-02 10:05")] == ["completed"] * 2
    assert (s.row(1).count, s.row(1).shout) == (4, "OPEN")


def test_a_scheduled_run_of_a_broken_task_waits(shop: Make) -> None:
    """The run that its schedule made does nothing; the occurrence gets another run once the task is mended."""
    scheduled = {
        "e.json": {"type": "tasks.NormalType", "title": "T", "timerCfg": {
            "startTime": "2026-03-01 10:00:00", "repeat": {"repeatType": "day"}}},
        "inner.py": "def customFunc():\n    return 7\n",
    }  # fmt: skip
    s = shop(more={"tasks/Daily": scheduled})
    s.sync()
    change(s, {"tasks/Daily": {**scheduled, "inner.py": "1 / 0"}})
    now = s.at("2026-03-02 10:00").now
    outcome = execute(
        s.app, "tasks.Daily", None, Run("by schedule", now, auto=True), lambda: now
    )
    assert outcome.message.startswith(
        "not run: tasks.Daily is broken, its tasks wait until it is mended"
    )
    person = execute(s.app, "tasks.Daily", None, Run("by hand", now), lambda: now)
    assert person.status == "error" and "ZeroDivisionError" in person.message
    s.sync("2026-03-02 10:01")
    assert s.work() == []
    change(s, {"tasks/Daily": scheduled})
    s.sync("2026-03-02 10:02")
    assert [o.result for o in s.work()] == [7]
    assert [(e.status, e.due) for e in s.entries(task_id="by schedule")] == [
        ("completed", utc("2026-03-02 10:00"))
    ]


def test_how_often_a_broken_task_is_tried_is_not_guessed(shop: Make) -> None:
    """Its worker died, and nobody can read how many retries it has: it waits for that."""
    s = shop(retries=1)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection, s.entries()[0].task_id, "dead", "run", s.now, 25
        )
    change(s, {"tasks/Task": {"inner.py": COUNT}})
    s.sync("2026-03-02 10:01")
    assert s.tasks() == ["1 03-02 10:00 #1 executing"]
    change(s, {"tasks/Task": rows_task(retries=1)})
    s.sync("2026-03-02 10:02")
    assert "completed" in [o.status for o in s.work()] and s.row(1).count == 1


def test_an_app_that_is_not_there_has_lost_nothing(shop: Make) -> None:
    """Where app.json cannot be reached, as on a disk that is away, no folder is known to be gone."""
    s = shop()
    assert s.app.gone("tasks.Never") and not s.app.gone("tasks.Task")
    (s.folder / "app.json").rename(s.folder / "away.json")
    assert not s.app.gone("tasks.Never")
    with s.app.engine().connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
