"""Import statements of element code: what each finds, and that nothing of it is seen elsewhere."""

from __future__ import annotations

import json
import pickle
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.elements.original.virtual_modules import clear_path
from jittask_prefect.elements.types import (
    DateFieldType,
    Meta,
    NormalService,
    NormalType,
)
from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.testing import build_app

SERVICE = {"type": "services.NormalType"}
MODEL = {"type": "models.NormalType"}
TASK = {
    "type": "tasks.NormalType",
    "title": "Task",
    "timerCfg": {"startTime": "2026-01-01 09:00:00"},
}
MEETING = """
from sqlmodel import Field, SQLModel

ROOMS = ("A", "B")

class Meeting(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    room: str = "A"
"""
MEETING_SVC = """
from services.NormalType import NormalService

LIMIT = 3

class MeetingSvc(NormalService):
    def count(self):
        return LIMIT
"""
ELEMENTS: dict[str, dict[str, Any]] = {
    "models/Meeting": {
        "e.json": MODEL,
        "model.py": MEETING,
        "__init__.py": "from .model import Meeting\n",
    },
    "services/MeetingSvc": {
        "e.json": SERVICE,
        "service.py": MEETING_SVC,
        "helper.py": "def double(n):\n    return 2 * n, app.name\n",
        "__init__.py": "# -*-coding:utf-8-*-\nfrom .service import MeetingSvc\nFROM_INIT = 7\n",
    },
    "tasks/Daily": {
        "e.json": TASK,
        "inner.py": "def customFunc():\n    return 'daily'\n",
    },
    "commons": {"rates.py": "VAT = 19\n"},
    "commons/deep": {
        "__init__.py": "TOP = 1\n",
        "more.py": "from ..rates import VAT\nDEEP = VAT + 1\n",
    },
}


def built(folder: Path, code: str = "", **more: Any) -> Any:
    """An app whose service `Try` has this code."""
    source = textwrap.dedent(code) + "\nclass Try:\n    pass\n"
    elements = {**ELEMENTS, "services/Try": {"e.json": SERVICE, "service.py": source}}
    return build_app(folder, {**elements, **more}, ready=False)


def values(folder: Path, code: str, **more: Any) -> dict[str, Any]:
    """The names of element code after its import statements."""
    return vars(built(folder, code, **more).module("services.Try", "service"))


def failure(folder: Path, code: str, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        values(folder, code, **more)
    return str(caught.value)


IMPORTS = {
    "from jit.commons.utils.logger import log\nx = callable(log.exception)": True,
    "import jit.commons.utils.logger as l\nx = callable(l.log.critical)": True,
    "from services.NormalType import NormalService as x": NormalService,
    "from services.Meta import Meta as x": NormalService,
    "from services.TaskSvc import TaskSvc as x": TaskSvc,
    "from tasks.NormalType import NormalType as x": NormalType,
    "from tasks.DateFieldType import DateFieldType as x": DateFieldType,
    "from tasks.Meta import BaseTask as x": Meta,
    "from services.MeetingSvc import MeetingSvc\nx = MeetingSvc().count()": 3,
    "from services.MeetingSvc import LIMIT as x": 3,
    "from services.MeetingSvc import FROM_INIT as x": 7,
    "from services.MeetingSvc.service import LIMIT as x": 3,
    "from services.MeetingSvc.helper import double\nx = double(2)": (4, "test"),
    "from services.MeetingSvc import helper\nx = helper.double(1)": (2, "test"),
    "from services import MeetingSvc\nx = MeetingSvc.LIMIT": 3,
    "import services.MeetingSvc\nx = services.MeetingSvc.LIMIT": 3,
    "import services.MeetingSvc as m\nx = m.MeetingSvc.__name__": "MeetingSvc",
    "import services\nx = services.MeetingSvc.LIMIT": 3,
    "from services.MeetingSvc import *\nx = MeetingSvc().count(), LIMIT": (3, 3),
    "from models.Meeting import Meeting\nx = Meeting is app.getElement('models.Meeting')": True,
    "from models.Meeting import ROOMS as x": ("A", "B"),
    "import models.Meeting\nx = models.Meeting.Meeting is app.getElement('models.Meeting')": True,
    "from tasks.Daily.inner import customFunc\nx = customFunc()": "daily",
    "from tasks.Daily import customFunc\nx = customFunc()": "daily",
    "from commons.rates import VAT as x": 19,
    "from commons import rates\nx = rates.VAT": 19,
    "import commons.rates\nx = commons.rates.VAT": 19,
    "from commons.deep import TOP as x": 1,
    "from commons.deep.more import DEEP as x": 20,
    "from ..MeetingSvc.service import LIMIT as x": 3,
    "from ...commons.rates import VAT as x": 19,
    "def f():\n    from services.MeetingSvc import LIMIT\n    return LIMIT\nx = f()": 3,
    "import json as x": json,
    "from os.path import join\nx = join('a', 'b')": "a/b",
    "x = __import__('services.MeetingSvc', fromlist=['LIMIT']).LIMIT": 3,
}


@pytest.mark.parametrize("code", IMPORTS)
def test_an_import_finds(tmp_path: Path, code: str) -> None:
    before = {
        name: sys.modules.get(name)
        for name in ("services", "models", "tasks", "commons", "jit")
    }
    path, finders = list(sys.path), list(sys.meta_path)
    found = values(tmp_path, code)["x"]
    assert found == IMPORTS[code]
    assert {name: sys.modules.get(name) for name in before} == before
    assert (sys.path, sys.meta_path) == (path, finders)


def test_a_timer_has_the_zone_and_the_calendars_of_the_app(tmp_path: Path) -> None:
    code = """
    from tasks.Meta import Timer
    x = Timer({"startTime": "2026-12-24 09:00:00", "repeat": {"repeatType": "day"}, "skipHoliday": 1, "calendar": "office"})
    """
    app = json.dumps(
        {
            "name": "t",
            "timezone": "Asia/Shanghai",
            "calendars": {"office": {"country": "DE"}},
        }
    )
    timer = values(tmp_path, code, **{".": {"app.json": app}})["x"]
    assert isinstance(timer, Timer)
    # 25 and 26 December are holidays; the 27th is a Sunday, on which skipHoliday alone lets a task run.
    noon = datetime(2026, 12, 24, 12, tzinfo=UTC)
    assert str(timer.nextTime(now=noon)) == "2026-12-27 09:00:00+08:00"


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own packages `services` and `commons`, outside of the app."""
    folder = tmp_path / "site"
    for file, text in {
        "services/__init__.py": "REAL = 1\n",
        "services/mail.py": "SENT = 2\n",
        "services/MeetingSvc.py": "LIMIT = 'the real'\n",
        "commons/__init__.py": "",
        "commons/tools.py": "TOOL = 5\n",
    }.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)

    monkeypatch.syspath_prepend(str(folder))
    for name in [
        n for n in sys.modules if n.partition(".")[0] in ("services", "commons")
    ]:
        monkeypatch.delitem(sys.modules, name)
    yield folder  # type: ignore[misc]
    for name in [
        n for n in sys.modules if n.partition(".")[0] in ("services", "commons")
    ]:
        del sys.modules[name]


REAL = {
    "from services.mail import SENT as x": 2,
    "from services import mail\nx = mail.SENT": 2,
    "import services.mail\nx = services.mail.SENT, services.MeetingSvc.LIMIT": (2, 3),
    "import services\nx = services.REAL": 1,
    "from services.MeetingSvc import LIMIT as x": 3,
    "from commons.tools import TOOL as x": 5,
    "from commons.rates import VAT as x": 19,
}


@pytest.mark.parametrize("code", REAL)
def test_elements_win_in_element_code_then_the_real_package(
    tmp_path: Path, real: Path, code: str
) -> None:
    assert values(tmp_path / "app", code)["x"] == REAL[code]


def test_outside_of_element_code_the_real_package_wins(
    tmp_path: Path, real: Path
) -> None:
    values(tmp_path / "app", "from services.MeetingSvc import LIMIT")
    from services.MeetingSvc import LIMIT  # type: ignore[import-not-found]

    assert LIMIT == "the real"


def test_print_of_element_code_is_that_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect replaces `print` while a flow runs."""
    found = values(tmp_path, "def show(text):\n    print(text, end='!')")
    printed: list[str] = []
    monkeypatch.setattr(
        "builtins.print", lambda text, end: printed.append(f"{text}{end}")
    )
    found["show"]("seven")
    assert printed == ["seven!"]


def test_builtins_of_element_code_are_an_ordinary_dict(tmp_path: Path) -> None:
    """Python looks names up in a subclass of dict two to four times more slowly."""
    found = values(tmp_path, "import sys\nnames = sys._getframe().f_builtins")
    assert type(found["names"]) is dict


def test_two_apps_do_not_see_each_others_elements(tmp_path: Path) -> None:
    code = "from services.MeetingSvc import LIMIT as x\nfrom commons.rates import VAT"
    other = {
        "services/MeetingSvc": {
            "e.json": SERVICE,
            "service.py": MEETING_SVC.replace("= 3", "= 4"),
        },
        "commons": {"rates.py": "VAT = 7\n"},
    }
    one, two = values(tmp_path / "one", code), values(tmp_path / "two", code, **other)
    assert (one["x"], one["VAT"], two["x"], two["VAT"]) == (3, 19, 4, 7)


def test_a_model_is_executed_once(tmp_path: Path) -> None:
    """A second execution would define its table twice."""
    app = built(
        tmp_path,
        "from models.Meeting import Meeting\nfrom models.Meeting.model import Meeting as M",
    )
    module = app.module("services.Try", "service")
    assert module.Meeting is module.M is app.getElement("models.Meeting")


def test_instances_of_elements_pickle(tmp_path: Path) -> None:
    app = built(tmp_path, "from services.MeetingSvc import MeetingSvc as x")
    row = app.getElement("models.Meeting")(id=4)
    assert pickle.loads(pickle.dumps(row)).id == 4
    made = app.module("services.Try", "service").x()
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_a_service_may_be_one_file(tmp_path: Path) -> None:
    code = "from services.OneSvc import OneSvc, HALF\nfrom services.plain import f\nx = OneSvc().go(), HALF, f()"
    one = "from .MeetingSvc import LIMIT\nHALF = 0.5\nclass OneSvc:\n    def go(self):\n        return LIMIT\n"
    single = {
        "services": {"OneSvc.py": one, "plain.py": "def f():\n    return 'helper'\n"}
    }
    app = built(tmp_path, code, **single)
    assert app.module("services.Try", "service").x == (3, 0.5, "helper")
    assert app.getElement("services.OneSvc").go() == 3
    assert "services.OneSvc" in app.names(
        "services"
    ) and "services.plain" not in app.names("services")
    assert app.service_function("services.OneSvc.go")() == 3
    assert app.check() == []


def test_an_own_type_shadows_a_built_in_and_extends_it(tmp_path: Path) -> None:
    kind = "from tasks.NormalType import NormalType as Base\n\nclass NormalType(Base):\n    mark = 1\n"
    shadow = {"tasks/NormalType": {"e.json": {"type": "tasks.Meta"}, "type.py": kind}}
    code = "from tasks.NormalType import NormalType as x"
    app = built(tmp_path, code, **shadow)
    assert app.getElement("tasks.NormalType").mark == 1
    assert app.module("services.Try", "service").x is app.getElement("tasks.NormalType")


def test_the_app_folder_leaves_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect puts the folder of the flow file on the path, and the worker its working directory."""
    app, place = built(tmp_path), str(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", place, "/elsewhere", place])
    clear_path(app, "")
    assert sys.path == ["/elsewhere"]
    monkeypatch.setattr(sys, "path", [place, "/elsewhere"])
    clear_path(app, f"/x:{place}")
    assert sys.path == [place, "/elsewhere"]


def test_flows_leave_no_app_folder_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jittask_prefect.running.flows import flows_of

    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "NormalType" in flows_of(built(tmp_path))
    assert str(tmp_path) not in sys.path


# Mistakes: a sentence each, with file, line and what to do


def test_modules_that_are_nowhere(tmp_path: Path) -> None:
    assert failure(tmp_path / "1", "from services.Nope import x") == (
        "services/Try/service.py: line 1: found ModuleNotFoundError: services.Nope is no element of test, and no package; "
        "services has MeetingSvc, Try; allowed: a module that imports"
    )
    assert (
        "the app has no module commons/nope.py, and Python no package commons.nope"
        in failure(tmp_path / "2", "import commons.nope")
    )
    assert "No module named 'nowhere'" in failure(
        tmp_path / "3", "import nowhere.at_all"
    )
    assert "relative import" in failure(tmp_path / "4", "from .....x import y")


def test_a_model_import_of_a_class_that_is_not_there(tmp_path: Path) -> None:
    assert failure(tmp_path, "from models.Meeting import Meting") == (
        "services/Try/service.py: line 1: found ImportError: models.Meeting has no name Meting; it has Meeting, ROOMS; "
        "allowed: a module that imports"
    )


def test_an_import_of_an_element_that_raises(tmp_path: Path) -> None:
    bad = {"services/Bad": {"e.json": SERVICE, "service.py": "x = 1\ny = 1 / 0\n"}}
    assert failure(tmp_path, "\n\nfrom services.Bad import x", **bad) == (
        "services/Try/service.py: line 3: found an element that is broken: services/Bad/service.py: line 2: found "
        "ZeroDivisionError: division by zero; allowed: a module that imports; allowed: a module that imports"
    )


def test_services_that_import_each_other(tmp_path: Path) -> None:
    one = "from services.Two import Two\nclass One:\n    pass\n"
    two = "from services.One import One\nclass Two:\n    pass\n"
    circle = {
        "services/One": {"e.json": SERVICE, "service.py": one},
        "services/Two": {"e.json": SERVICE, "service.py": two},
    }
    app = built(tmp_path, **circle)
    found = [str(problem) for problem in app.check()]
    assert len(found) == 2
    assert found[0].startswith("services/One/service.py: line 1: found ")
    assert (
        "services.One has no One yet: the two import each other; import One inside the function that uses it"
        in found[0]
    )


def test_services_that_import_each_other_as_modules(tmp_path: Path) -> None:
    one = "import services.Two as two\nclass One:\n    def go(self):\n        return two.Two().n\n"
    two = "import services.One as one\nclass Two:\n    n = 5\n"
    circle = {
        "services/One": {"e.json": SERVICE, "service.py": one},
        "services/Two": {"e.json": SERVICE, "service.py": two},
    }
    app = built(tmp_path, **circle)
    assert app.check() == []
    assert app.getElement("services.One").go() == 5


def test_models_that_import_each_other(tmp_path: Path) -> None:
    def model(name: str, other: str) -> dict[str, Any]:
        source = f"from models.{other} import {other}\n" + MEETING.replace(
            "Meeting", name
        )
        return {"e.json": MODEL, "model.py": source}

    app = built(
        tmp_path,
        **{
            "models/Left": model("Left", "Right"),
            "models/Right": model("Right", "Left"),
        },
    )
    found = [str(problem) for problem in app.check()]
    assert "models.Left has no Left yet: the two import each other" in found[0]
    assert len(found) == 2


TRAVERSALS = (
    "services/../../secret",
    "services...secret",
    "services.MeetingSvc.__init__",
    "commons.-",
    "services. x",
)


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_name_leads_out_of_the_app(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.py").write_text("raise SystemExit('executed')\n")
    found = failure(tmp_path / "app", f"__import__({name!r}, fromlist=['x']).x")
    assert "executed" not in found


def test_an_element_that_imports_itself(tmp_path: Path) -> None:
    assert "services.Try has no Try yet" in failure(
        tmp_path, "from services.Try import Try"
    )


def test_titles_in_any_language_and_names_in_ascii(tmp_path: Path) -> None:
    code = "class 会议服务:\n    def 发送(self):\n        return '好'\n"
    more = {
        "services/HuiYi": {
            "e.json": {**SERVICE, "title": "会议服务"},
            "service.py": code,
        },
        "services/会议": {"e.json": SERVICE, "service.py": code},
    }
    app = built(tmp_path, **more)
    assert app.getElement("services.HuiYi").发送() == "好"
    [problem] = app.check()
    assert (
        problem.key == "folder name"
        and "a title may be in any language" in problem.allowed
    )
