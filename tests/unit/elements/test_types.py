"""Types of the app's own, shadowed built-ins, `app` and `log` in element code, and whose `app` it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from app_files import APP, DAILY, MODEL, PLAIN, REMIND, only, write
from sqlmodel import Session, SQLModel, select

from jittask_prefect import App, DateFieldType, Meta, NormalService, NormalType, TaskSvc
from jittask_prefect.errors import ConfigError
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

AUDITED = """
from jittask_prefect import NormalType


class AuditedType(NormalType):
    seen = []

    def handle(self, task):
        self.seen.append(("handle", task.fullName, task.taskType, task.status, task.row))
        return {"wrapped": super().handle(task)}

    def afterReturn(self, task):
        self.seen.append(("afterReturn", task.status, task.result))
"""


def audited(folder: Path, code: str = AUDITED, **task: Any) -> App:
    return build_app(
        folder,
        {
            "tasks/AuditedType": {
                "e.json": {"type": "tasks.Meta", "title": "Audited"},
                "type.py": code,
            },
            "tasks/Daily": {
                "e.json": DAILY | {"type": "tasks.AuditedType"} | task,
                "inner.py": "def customFunc():\n    return 1\n\ndef other():\n    return 2\n",
            },
        },
    )


def run_once(app: App, name: str = "tasks.Daily", function: str = "customFunc") -> Any:
    """One execution, made with `createTimerTask`, and its outcome."""
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    template = app.getElement(name)
    TaskSvc(app, prefect).createTimerTask(name, NOW, function, template.taskType, {})
    outcomes = prefect.run_due(app, NOW)
    assert len(outcomes) == 1
    return outcomes[0]


def test_a_type_of_the_app_s_own_wraps_its_tasks(tmp_path: Path) -> None:
    app = audited(tmp_path)
    assert app.check() == []
    kind = app.getElement("tasks.AuditedType")
    assert issubclass(kind, NormalType)
    assert isinstance(app.getElement("tasks.Daily"), kind)
    outcome = run_once(app)
    assert (outcome.status, outcome.result) == ("completed", {"wrapped": 1})
    assert kind.seen == [
        ("handle", "tasks.Daily", "tasks.AuditedType", "executing", None),
        ("afterReturn", "completed", {"wrapped": 1}),
    ]


def test_a_type_may_choose_the_function(tmp_path: Path) -> None:
    code = (
        "from jittask_prefect import NormalType\n"
        "class AuditedType(NormalType):\n"
        "    def getFunc(self, task=None):\n"
        "        return self.inner.other\n"
    )
    assert run_once(audited(tmp_path, code)).result == 2


def test_a_type_may_choose_the_time(tmp_path: Path) -> None:
    code = (
        "from datetime import datetime, timezone\n"
        "from jittask_prefect import NormalType\n"
        "class AuditedType(NormalType):\n"
        "    def getNextRunTime(self, task=None, now=None):\n"
        "        return datetime(2030, 1, 1, 12, tzinfo=timezone.utc)\n"
    )
    app = audited(tmp_path, code)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    rules = [
        s["schedule"]["rrule"]
        for s in prefect.all_deployments["tasks.Daily"]["schedules"]
        if s["active"]
    ]
    assert len(rules) == 1
    assert "20300101T12" in rules[0]


def test_an_after_return_that_fails_spoils_nothing(tmp_path: Path) -> None:
    code = (
        "from jittask_prefect import NormalType\n"
        "class AuditedType(NormalType):\n"
        "    def afterReturn(self, task):\n"
        "        raise RuntimeError('no audit')\n"
    )
    assert run_once(audited(tmp_path, code)).status == "completed"


def test_a_type_of_a_type(tmp_path: Path) -> None:
    files = {
        "tasks/First/e.json": {"type": "tasks.Meta", "title": "First"},
        "tasks/First/type.py": "from jittask_prefect import DateFieldType\nclass First(DateFieldType): pass\n",
        "tasks/Second/e.json": {
            "type": "tasks.Meta",
            "title": "Second",
            "extends": "tasks.First",
        },
        "tasks/Second/type.py": "class Second(app.getElement('tasks.First')): pass\n",
        "tasks/Remind/e.json": REMIND | {"type": "tasks.Second"},
    }
    app = write(tmp_path, **files)
    assert app.check() == []
    remind = app.getElement("tasks.Remind")
    assert isinstance(remind, app.getElement("tasks.First"))
    assert isinstance(remind, DateFieldType)
    assert remind.taskType == "tasks.Second"


def test_a_type_that_is_broken_breaks_only_its_own(tmp_path: Path) -> None:
    files = {
        "tasks/Bad/e.json": {"type": "tasks.Meta", "title": "Bad"},
        "tasks/Bad/type.py": "class Other: pass\n",
        "tasks/Daily/e.json": DAILY | {"type": "tasks.Bad"},
    }
    app = write(tmp_path, **files)
    assert {p.file for p in app.check()} == {"tasks/Bad/e.json", "tasks/Daily/e.json"}
    assert [t.fullName for t in app.templates()] == ["tasks.Remind"]


@pytest.mark.parametrize(
    "kind", ["tasks.Meta", "tasks.Remind", "services.NormalType", "tasks.Nothing"]
)
def test_what_is_no_type_for_a_task(tmp_path: Path, kind: str) -> None:
    files = {"tasks/Daily/e.json": DAILY | {"type": kind}}
    assert {p.file for p in write(tmp_path, **files).check()} == {"tasks/Daily/e.json"}


def test_two_types_that_need_each_other(tmp_path: Path) -> None:
    files = {
        "tasks/A/e.json": {"type": "tasks.Meta", "title": "A"},
        "tasks/A/type.py": "class A(app.getElement('tasks.B')): pass\n",
        "tasks/B/e.json": {"type": "tasks.Meta", "title": "B"},
        "tasks/B/type.py": "class B(app.getElement('tasks.A')): pass\n",
    }
    app = write(tmp_path, **files)
    assert {p.file for p in app.check()} == {"tasks/A/type.py", "tasks/B/type.py"}


# --- shadows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base",
    [
        "from jittask_prefect import NormalType as Base",
        "Base = app.getElement('tasks.NormalType')",
    ],
)
def test_a_shadow_of_a_built_in_type(tmp_path: Path, base: str) -> None:
    files = {
        "tasks/NormalType/e.json": {"type": "tasks.Meta", "title": "Ours"},
        "tasks/NormalType/type.py": f"{base}\n\nclass NormalType(Base):\n    ours = True\n",
    }
    app = write(tmp_path, **files)
    assert app.check() == []
    assert app.getElement("tasks.Daily").ours is True
    assert app.getElement("tasks.Daily").taskType == "tasks.NormalType"
    assert not hasattr(app.getElement("tasks.Remind"), "ours")


def test_a_task_cannot_take_a_type_s_name(tmp_path: Path) -> None:
    files = {
        "tasks/NormalType/e.json": DAILY,
        "tasks/NormalType/inner.py": "def customFunc(): ...\n",
    }
    problems = write(tmp_path, **files).check()
    assert ("tasks/NormalType/e.json", "type") in {(p.file, p.key) for p in problems}


def test_a_shadow_of_the_service_type_reaches_every_service(tmp_path: Path) -> None:
    files = {
        "services/NormalType/e.json": {"type": "services.Meta", "title": "Ours"},
        "services/NormalType/type.py": (
            "from jittask_prefect import NormalService\n\n"
            "class NormalType(NormalService):\n    def who(self):\n        return type(self).__name__\n"
        ),
    }
    app = write(tmp_path, **files)
    assert app.check() == []
    notices = app.getElement("services.NoticeSvc")
    assert (notices.who(), notices.send()) == ("NoticeSvc", "sent")
    assert notices.app is app


def test_a_service_type_of_the_app_s_own(tmp_path: Path) -> None:
    files = {
        "services/Logged/e.json": {"type": "services.Meta", "title": "Logged"},
        "services/Logged/type.py": (
            "from jittask_prefect import NormalService\nclass Logged(NormalService):\n    n = 3\n"
        ),
        "services/NoticeSvc/e.json": {"type": "services.Logged", "title": "Notices"},
    }
    app = write(tmp_path, **files)
    assert app.check() == []
    assert app.getElement("services.NoticeSvc").n == 3
    assert isinstance(
        app.getElement("services.NoticeSvc"), app.getElement("services.Logged")
    )


SHADOW_SVC = {
    "services/TaskSvc/e.json": {"type": "services.NormalType", "title": "Tasks"},
    "services/TaskSvc/service.py": (
        "from jittask_prefect import TaskSvc as Base\n\n"
        "class TaskSvc(Base):\n"
        "    def getTaskTmplList(self, queryStr=''):\n"
        "        return [t['fullName'] for t in super().getTaskTmplList(queryStr)]\n"
    ),
}


def test_a_shadow_of_the_task_service(tmp_path: Path) -> None:
    app = write(tmp_path, **SHADOW_SVC)
    assert app.check() == []
    assert app.getElement("services.TaskSvc").getTaskTmplList("") == [
        "tasks.Daily",
        "tasks.Remind",
    ]


def test_a_shadow_of_the_task_service_that_asks_the_app_for_the_built_in_one(
    tmp_path: Path,
) -> None:
    code = (
        "from jittask_prefect import NormalService\n"
        "built_in = app.getElement('services.TaskSvc')\n"
        "class TaskSvc(NormalService):\n"
        "    def names(self):\n"
        "        return [t['fullName'] for t in built_in.getTaskTmplList('')]\n"
    )
    app = write(tmp_path, **SHADOW_SVC | {"services/TaskSvc/service.py": code})
    assert app.check() == []
    assert app.getElement("services.TaskSvc").names() == ["tasks.Daily", "tasks.Remind"]


def test_a_service_keeps_its_state(tmp_path: Path) -> None:
    app = write(tmp_path)
    assert app.getElement("services.NoticeSvc") is app.getElement("services.NoticeSvc")


# --- what getElement gives -------------------------------------------------------------------------------------------


def test_get_element(tmp_path: Path) -> None:
    app = write(tmp_path)
    assert app.getElement("models.Contract").__name__ == "Contract"
    assert isinstance(app.getElement("services.NoticeSvc"), NormalService)
    assert isinstance(app.getElement("services.TaskSvc"), TaskSvc)
    assert app.getElement("tasks.Daily").title == "Daily"
    assert app.getElement("tasks.NormalType") is NormalType
    assert app.getElement("tasks.DateFieldType") is DateFieldType
    assert app.getElement("tasks.Meta") is Meta
    assert app.getElement("services.NormalType") is NormalService


def test_app_and_log_are_there_without_an_import(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {
        "tasks/Daily/inner.py": (
            "name = app.name\n\ndef customFunc():\n    log.info('hello from %s', name)\n    return app.name\n"
        )
    }
    app = write(tmp_path, **files)
    with caplog.at_level("INFO", "jittask"):
        assert app.getElement("tasks.Daily").getFunc()() == "test"
    assert caplog.messages == ["hello from test"]


def test_a_model_of_the_team_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib" / "team_models").mkdir(parents=True)
    (tmp_path / "lib/team_models/__init__.py").write_text(
        MODEL.replace('"contract"', '"team_contract"')
    )
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    app = write(
        tmp_path / "app",
        **{"models/Contract/model.py": "from team_models import Contract\n"},
    )
    import team_models  # type: ignore[import-not-found]

    assert app.check() == []
    assert app.getElement("models.Contract") is team_models.Contract


def test_an_app_that_is_closed_leaves_the_team_s_own_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what an element's file defines is taken out of its metadata, and of what relationships find by name."""
    (tmp_path / "lib" / "team_stays").mkdir(parents=True)
    theirs = MODEL.replace('"contract"', '"team_stays"').replace(
        "class Contract", "class TeamStays"
    )
    (tmp_path / "lib/team_stays/__init__.py").write_text(theirs)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    import team_stays  # type: ignore[import-not-found]

    imports = {
        "models/TeamStays/e.json": {"type": "models.NormalType", "title": "Theirs"},
        "models/TeamStays/model.py": "from team_stays import TeamStays\n",
    }
    app = write(tmp_path / "app", **imports)
    mine = app.getElement("models.Contract")
    assert app.getElement("models.TeamStays") is team_stays.TeamStays
    app.close()
    tables = SQLModel.metadata.tables
    assert "team_stays" in tables and mine.__tablename__ not in tables
    by_name = team_stays.TeamStays._sa_registry._class_registry
    assert by_name["TeamStays"] is team_stays.TeamStays
    # an app whose own model has that table's name does not take it away either
    other = theirs.replace("class TeamStays", "class Contract")
    again = write(tmp_path / "again", **{**imports, "models/Contract/model.py": other})
    assert again.getElement("models.TeamStays") is team_stays.TeamStays
    with pytest.raises(ConfigError, match="team_stays"):
        again.getElement("models.Contract")
    assert tables["team_stays"] is team_stays.TeamStays.__table__
    again.close()


@pytest.mark.parametrize(
    "code, said",
    [
        ("class Contract: pass\n", "class Contract, which SQLAlchemy does not map"),
        (
            "from sqlmodel import SQLModel\nclass Contract(SQLModel): pass\n",
            "table=True",
        ),
        ("", "found no class; allowed: class Contract, a class that SQLAlchemy maps"),
    ],
)
def test_a_model_that_is_no_table(tmp_path: Path, code: str, said: str) -> None:
    problems = write(
        tmp_path,
        **{
            "models/Contract/model.py": code,
            "tasks/Remind/e.json": None,
            "tasks/Remind/inner.py": None,
        },
    ).check()
    assert said in str(only(problems))


# --- sessions --------------------------------------------------------------------------------------------------------


def two_databases(folder: Path) -> App:
    other = MODEL.replace("class Contract", "class Lead").replace(
        '"contract"', '"lead"'
    )
    return build_app(
        folder,
        {
            "models/Contract": {
                "e.json": {"type": "models.NormalType", "title": "C"},
                "model.py": MODEL,
            },
            "models/Lead": {
                "e.json": {
                    "type": "models.NormalType",
                    "title": "L",
                    "database": "crm",
                },
                "model.py": other,
            },
        },
        databases={"crm": "sqlite:///crm.db"},
    )


def test_models_in_two_databases(tmp_path: Path) -> None:
    app = two_databases(tmp_path)
    Contract, Lead = app.getElement("models.Contract"), app.getElement("models.Lead")
    with app.session() as s:
        s.add(Contract(customer="Ada"))
        s.commit()
    with app.session("crm") as s:
        s.add(Lead(customer="Bob"))
        s.commit()
        assert [lead.customer for lead in s.exec(select(Lead))] == ["Bob"]
    assert (tmp_path / "test.db").exists()
    assert (tmp_path / "crm.db").exists()
    with pytest.raises(ConfigError, match="crm"), app.session("cmr"):
        pass


def test_a_session_in_a_row_task_is_the_row_s_own(tmp_path: Path) -> None:
    code = (
        "from sqlalchemy.orm import object_session\n\n"
        "def customFunc(rowData):\n"
        "    with app.session() as s:\n"
        "        same = s is object_session(rowData)\n"
        "        s.add(app.getElement('models.Contract')(customer='made by ' + rowData.customer))\n"
        "        s.commit()\n"
        "    rowData.reminders += 1\n"
        "    if rowData.status == 'bad':\n"
        "        raise ValueError('no')\n"
        "    return same\n"
    )
    app = build_app(
        tmp_path,
        {
            "models/Contract": {
                "e.json": PLAIN["models/Contract/e.json"],
                "model.py": MODEL,
            },
            "tasks/Remind": {"e.json": REMIND, "inner.py": code},
        },
    )
    Contract = app.getElement("models.Contract")
    with Session(app.engine()) as s:
        s.add(Contract(id=1, customer="Ada", endDate=NOW.date()))
        s.add(Contract(id=2, customer="Bob", endDate=NOW.date(), status="bad"))
        s.commit()
    from jittask_prefect.running.trial import run_here

    assert run_here(app, "tasks.Remind", "1", NOW, dry=False)["result"] is True
    with pytest.raises(ValueError, match="no"):
        run_here(app, "tasks.Remind", "2", NOW, dry=False)
    with app.session() as s:
        assert s.exec(select(Contract.customer).order_by(Contract.id)).all() == [
            "Ada",
            "Bob",
            "made by Ada",
        ]
        assert s.get(Contract, 1).reminders == 1
        assert s.get(Contract, 2).reminders == 0


# --- the current app, in processes of their own ----------------------------------------------------------------------


def python(code: str, cwd: Path, *arguments: str) -> str:
    """What a fresh Python prints."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("JITTASK_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=plain,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# A Python that has imported the package, and does nothing with it but fork: for each folder, and each JITTASK_APP.
FORKS = """
import json, os, sys
import jittask_prefect.elements.app
for folder, named in json.loads(sys.argv[2]):
    child = os.fork()
    if not child:
        os.chdir(folder)
        if named:
            os.environ["JITTASK_APP"] = named
        exec(sys.argv[1])
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def forks(code: str, *cases: tuple[Path, str]) -> list[str]:
    """What some code prints in each folder, with each JITTASK_APP."""
    given = json.dumps([[str(folder), named] for folder, named in cases])
    return python(FORKS, cases[0][0], code, given).splitlines()


CHEAP = """
import socket, sys
def no(*a, **k): raise AssertionError("network")
socket.socket.connect = no
socket.getaddrinfo = no
import jittask_prefect
light = sorted(m for m in ("prefect", "sqlalchemy", "sqlmodel", "pydantic", "holidays", "httpx") if m in sys.modules)
from jittask_prefect import app, NormalType, DateFieldType, NormalService, Timer
print(light, "prefect" in sys.modules, NormalType.__name__, Timer.__name__, repr(app))
"""


def test_importing_the_package_is_cheap_and_needs_no_app(tmp_path: Path) -> None:
    assert (
        python(CHEAP, tmp_path) == "[] False NormalType Timer <the current jittask app>"
    )
    assert list(tmp_path.iterdir()) == []


USED = """
from jittask_prefect import app, JittaskError
try:
    print(app.name)
except JittaskError as error:
    print(type(error).__name__, "app.json" in str(error), "JITTASK_APP" in str(error), "jittask init" in str(error))
"""


def test_using_the_app_where_there_is_none_says_what_to_do(tmp_path: Path) -> None:
    said = forks(USED, (tmp_path, ""), (tmp_path, str(tmp_path / "nowhere")))
    assert said == ["ConfigError True True True", "ConfigError True True False"]


def test_which_app_is_the_current_one(tmp_path: Path) -> None:
    inside = tmp_path / "near" / "deep" / "deeper"
    inside.mkdir(parents=True)
    for name in ("near", "named"):
        write(tmp_path / name, **{"app.json": APP | {"name": name}})
    named = tmp_path / "named"
    code = (
        "import os, pathlib; from jittask_prefect import app\n"
        "from jittask_prefect.elements.app import current_app\n"
        "here = current_app(); os.environ['JITTASK_APP'] = str(here.path / 'app.json')\n"
        "print(app.name, current_app() is here)"
    )
    assert forks(
        code,
        (inside, ""),
        (tmp_path / "near", ""),
        (inside, str(named)),
        (inside, str(named / "app.json")),
        (inside, "../../../named"),
    ) == ["near True", "near True", "named True", "named True", "named True"]
