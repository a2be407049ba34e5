"""A function is called within the context manager that app.json's `around` names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from app_files import only
from shop import Shop

Make = Callable[..., Shop]
CONTEXTS = """
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

CURRENT = ContextVar("shop_current", default="outside")
seen = []

@contextmanager
def sync():
    token = CURRENT.set("inside")
    seen.append("enter")
    try:
        yield
    except ValueError:
        seen.append("error")
        raise
    finally:
        seen.append("exit")
        CURRENT.reset(token)

@asynccontextmanager
async def asynchronous():
    with sync():
        yield

class Web:
    def context(self):
        return sync()

web = Web()
number = 3
def nothing(): return None
def broken(): raise OSError("no context")
"""
PLAIN = "import shop_web\ndef customFunc(row): return shop_web.CURRENT.get()"
ASYNC = "import asyncio, shop_web\nasync def customFunc(row):\n    await asyncio.sleep(0)\n    return shop_web.CURRENT.get()"


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "shop_web.py").write_text(CONTEXTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import shop_web  # type: ignore[import-not-found]

    yield shop_web
    sys.modules.pop("shop_web")


def ran(shop: Make, around: str | None, inner: str) -> list[Any]:
    app_json = {} if around is None else {"around": f"shop_web:{around}"}
    s = shop("at", inner=inner, app_json=app_json)
    s.insert(id=1, status="open", at=datetime(2026, 3, 2, 8, 30), count=0)
    s.sync("2026-03-02 08:20")
    return s.work("2026-03-02 08:30")


@pytest.mark.parametrize("inner", [PLAIN, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize(
    "around, where, seen",
    [
        (None, "outside", []),
        ("sync", "inside", ["enter", "exit"]),
        ("asynchronous", "inside", ["enter", "exit"]),
        ("web.context", "inside", ["enter", "exit"]),
    ],
)
def test_a_function_runs_inside(
    shop: Make, web: Any, around: str | None, where: str, seen: list[str], inner: str
) -> None:
    [outcome] = ran(shop, around, inner)
    assert (outcome.status, outcome.result) == ("completed", where)
    assert web.seen == seen


def test_the_context_sees_the_function_s_error(shop: Make, web: Any) -> None:
    [outcome] = ran(shop, "sync", "def customFunc(row): raise ValueError('x')")
    assert outcome.status == "error"
    assert web.seen == ["enter", "error", "exit"]


def test_a_context_that_fails_is_the_task_s_error(shop: Make, web: Any) -> None:
    [outcome] = ran(shop, "broken", PLAIN)
    assert outcome.status == "error"
    assert "OSError: no context" in outcome.message


def test_a_context_that_is_none(shop: Make, web: Any) -> None:
    [outcome] = ran(shop, "nothing", PLAIN)
    assert outcome.status == "error"
    assert (
        "app.json: around: found shop_web:nothing, which gives NoneType; "
        "allowed: a function without arguments that gives a context manager"
    ) in outcome.message


@pytest.mark.parametrize(
    "around, said",
    [
        ("number", "shop_web:number, which is int"),
        ("absent", "shop_web:absent: shop_web has no absent"),
    ],
)
def test_check_names_a_context_that_cannot_be_had(
    shop: Make, web: Any, around: str, said: str
) -> None:
    s = shop("at", app_json={"around": f"shop_web:{around}"})
    found = str(only(s.app.check()))
    assert found.startswith(f"app.json: around: found {said}")


def test_a_scheduled_function_runs_inside(shop: Make, web: Any) -> None:
    config = {
        "type": "tasks.NormalType",
        "title": "Daily",
        "timerCfg": {"startTime": "2026-01-05 09:00:00"},
    }
    daily = {
        "e.json": config,
        "inner.py": "import shop_web\ndef customFunc(): return shop_web.CURRENT.get()",
    }
    s = shop(elements={"tasks/Daily": daily}, app_json={"around": "shop_web:sync"})
    facade = s.element("services.TaskSvc")
    facade.createTimerTask(
        "tasks.Daily", "2026-03-02 08:00:00", "customFunc", "tasks.NormalType", {}
    )
    [outcome] = s.work("2026-03-02 08:00")
    assert outcome.result == "inside"
