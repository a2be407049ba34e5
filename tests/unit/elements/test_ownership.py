"""A task calls what the app's own files define: not what they import, and nothing whose name begins with _."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from app_files import DAILY, only, write

from jittask_prefect import App, UnknownElement

INNER = """
import functools
import subprocess
from os import getcwd
from shutil import copytree as copied
from subprocess import run

from helpers_of_the_app import beside
from services_of_the_team import theirs


def customFunc(): ...
def mine(): return "mine"
def _hidden(): ...
def __dunder__(): ...
async def later(): ...
short = lambda: "short"
@functools.lru_cache
def cached(): ...
@functools.singledispatch
def wrapped_by_a_library(x): return x
def logged(f):
    @functools.wraps(f)
    def call(*a, **k): return f(*a, **k)
    return call
@logged
def wrapped_by_the_app(): ...
imported_and_wrapped = logged(subprocess.run)
def bare(f):
    def call(*a, **k): return f(*a, **k)
    return call
wrapped_without_a_word = bare(mine)
@functools.wraps(subprocess.run)
def named_like_run(): ...
forged = functools.update_wrapper(theirs, mine)
partial = functools.partial(mine)
class Klass:
    def __call__(self): ...
thing = Klass()
bound = thing.__call__
builtin = len
printing = functools.partial(print)
taken = functools.lru_cache(subprocess.run)
circle = logged(mine)
circle.__wrapped__ = circle
"""
SERVICE = """
import subprocess
from functools import cached_property, partial, partialmethod

import string
from jittask_prefect import NormalService
from services_of_the_team import Foreign


class OwnSvc(string.Formatter, Foreign, NormalService):
    opened = []
    def send(self): return "sent"
    @staticmethod
    def still(): return "still"
    @classmethod
    def of_class(cls): return cls.__name__
    def _hidden(self): ...
    @property
    def prop(self): self.opened.append(1); return lambda: 1
    @cached_property
    def kept(self): self.opened.append(1); return lambda: 1
    run = staticmethod(subprocess.run)
    call = subprocess.call
    part = partial(print)
    partm = partialmethod(send)
    class Inner: ...
    def __init__(self): self.late = subprocess.run
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An app in a folder, with `commons` in it, and modules of somebody else's beside it."""
    place = tmp_path_factory.mktemp("own")
    (place / "app/commons").mkdir(parents=True)
    (place / "app/commons/helpers_of_the_app.py").write_text(
        "def beside(): return 'beside'\n", encoding="utf-8"
    )
    (place / "lib").mkdir()
    foreign = "class Foreign:\n    def inherited(self): ...\ndef theirs(): ...\n"
    team = "from jittask_prefect import NormalService\nclass TeamSvc(NormalService):\n    def send(self): return 'team'\n"
    (place / "lib/services_of_the_team.py").write_text(foreign, encoding="utf-8")
    (place / "lib/team.py").write_text(team, encoding="utf-8")
    files = {
        "tasks/Own/e.json": DAILY,
        "tasks/Own/inner.py": INNER,
        "services/OwnSvc/e.json": {"type": "services.NormalType"},
        "services/OwnSvc/service.py": SERVICE,
        "services/TeamSvc/e.json": {"type": "services.NormalType"},
        "services/TeamSvc/service.py": "from team import TeamSvc\n",
    }
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("app/commons", "lib"):
            patch.syspath_prepend(str(place / folder))
        app = write(place / "app", **files)
        assert app.check() == []
        yield app


OWN = ("customFunc", "mine", "later", "short", "wrapped_by_a_library", "wrapped_by_the_app", "beside", "logged", "bare",
       "wrapped_without_a_word", "named_like_run", "partial", "thing", "bound", "cached")  # fmt: skip
OTHERS = ("run", "getcwd", "copied", "theirs", "forged", "imported_and_wrapped", "_hidden", "__dunder__",
          "Klass", "builtin", "circle", "printing", "taken", "subprocess", "functools", "app", "log", "nothing",
          "")  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_a_function_that_the_app_defines(app: App, name: str) -> None:
    assert callable(app.template("tasks.Own").function(name))


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_app_imports_or_hides_is_no_function_of_a_task(
    app: App, name: str
) -> None:
    """The answer lists the functions that are."""
    with pytest.raises(UnknownElement) as error:
        app.template("tasks.Own").function(name)
    said = str(error.value).split("its inner.py has ")[1].split(";")[0].split(", ")
    assert said == sorted(OWN)


@pytest.mark.parametrize(
    "name, gives",
    [
        ("send", "sent"),
        ("still", "still"),
        ("of_class", "OwnSvc"),
        ("inherited", None),
        ("partm", "sent"),
    ],
)
def test_a_method_that_the_service_defines(app: App, name: str, gives: str) -> None:
    assert app.service_function(f"services.OwnSvc.{name}")() == gives


@pytest.mark.parametrize(
    "name",
    ["format", "vformat", "run", "call", "part", "prop", "kept", "Inner", "_hidden", "__init__",
     "late", "app", "opened", "nothing"],
)  # fmt: skip
def test_what_a_service_inherits_or_holds_is_no_service_function(
    app: App, name: str
) -> None:
    """Nor is a property even looked at: its getter would run."""
    with pytest.raises(
        UnknownElement, match=r"it has inherited, of_class, partm, send, still$"
    ):
        app.service_function(f"services.OwnSvc.{name}")
    assert app.getElement("services.OwnSvc").opened == []


def test_a_method_that_a_test_replaces_is_called(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.getElement("services.OwnSvc"), "send", dict)
    assert app.service_function("services.OwnSvc.send")() == {}


def test_a_service_whose_class_is_the_team_s(app: App) -> None:
    """An element's module may import its class: then that class's own methods are the app's."""
    assert app.service_function("services.TeamSvc.send")() == "team"


def test_a_built_in_service_has_no_functions_for_tasks(app: App) -> None:
    with pytest.raises(UnknownElement):
        app.service_function("services.TaskSvc.forcedEnd")


def test_check_names_a_function_that_is_none_of_the_app_s(tmp_path: Path) -> None:
    service = "import subprocess\nfrom jittask_prefect import NormalService\n"
    service += "class RunSvc(NormalService):\n    run = staticmethod(subprocess.run)\n"
    files = {
        "tasks/Daily/e.json": DAILY
        | {"funcType": "Global", "func": "services.RunSvc.run"},
        "services/RunSvc/e.json": {"type": "services.NormalType"},
        "services/RunSvc/service.py": service,
    }
    problem = only(write(tmp_path, **files).check())
    assert (problem.file, problem.key, problem.found) == (
        "tasks/Daily/e.json",
        "func",
        "services.RunSvc.run",
    )
    assert "that the app defines" in problem.allowed


def test_customFunc_may_be_an_import(tmp_path: Path) -> None:
    """Its name is the contract's: whoever imports something under it means it."""
    (tmp_path / "jobs_of_the_team.py").write_text(
        "def customFunc(): return 'team'\n", encoding="utf-8"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        app = write(
            tmp_path / "app",
            **{"tasks/Daily/inner.py": "from jobs_of_the_team import customFunc\n"},
        )
        assert app.check() == []
        assert app.template("tasks.Daily").getFunc()() == "team"


WAYS = {
    "a cache": "import functools\n@functools.lru_cache\ndef customFunc(): return 'done'\n",
    "an object": "class Job:\n    def __call__(self): return 'done'\ncustomFunc = Job()\n",
    "a part": "from functools import partial\ncustomFunc = partial(lambda said: said, 'done')\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_customFunc_may_be_any_callable(tmp_path: Path, way: str) -> None:
    app = write(tmp_path, **{"tasks/Daily/inner.py": WAYS[way]})
    assert app.check() == [] and app.template("tasks.Daily").getFunc()() == "done"


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_function_with_yield_is_a_mistake(tmp_path: Path, kind: str) -> None:
    """Nothing of such a function runs when it is called."""
    problem = only(
        write(
            tmp_path, **{"tasks/Daily/inner.py": f"{kind} customFunc():\n    yield 1\n"}
        ).check()
    )
    assert (problem.key, problem.found) == ("customFunc", "customFunc() with `yield`")


def test_parameters_that_cannot_be_read_are_a_mistake(tmp_path: Path) -> None:
    inner = "def customFunc(): ...\ncustomFunc.__wrapped__ = customFunc\n"
    problem = only(write(tmp_path, **{"tasks/Daily/inner.py": inner}).check())
    assert problem.key == "customFunc" and "cannot be read" in problem.found


def test_libraries_within_the_app_folder_are_none_of_the_app_s(tmp_path: Path) -> None:
    library = tmp_path / ".venv/lib/python3/site-packages"
    library.mkdir(parents=True)
    (library / "library_in_the_folder.py").write_text(
        "def inside(): ...\n", encoding="utf-8"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(library))
        inner = "from library_in_the_folder import inside\ndef customFunc(): ...\n"
        app = write(tmp_path, **{"tasks/Daily/inner.py": inner})
        with pytest.raises(UnknownElement):
            app.template("tasks.Daily").function("inside")
    sys.modules.pop(
        "library_in_the_folder"
    )  # other tests look at the modules of this process
