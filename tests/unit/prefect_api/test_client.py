"""Calls that decide something: which work queue stands in front, a variable that is not there yet, and the pages of a list."""

from __future__ import annotations

from typing import Any

import pytest

from jittask_prefect.prefect_api import client
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.connection import Connection, NotFound

Call = tuple[str, str, Any]


class Server:
    """Answers of a server, by method and path; the calls that change something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **queues: int) -> None:
        self.queues = [{"name": n, "priority": p} for n, p in queues.items()]
        self.variables: dict[str, Any] = {}
        self.task_runs: list[dict[str, str]] = []
        self.changes: list[Call] = []
        monkeypatch.setattr(Connection, "call", self._call)
        self.api = PrefectApi("http://127.0.0.1:1/api")

    def _call(self, method: str, path: str, kind: Any, *, body: Any = None) -> Any:
        from pydantic import TypeAdapter

        if path == "/task_runs/filter":
            end = body["offset"] + body["limit"]
            page = self.task_runs[body["offset"] : end]
            return TypeAdapter(kind).validate_python(page)
        if path.endswith("/filter"):
            return TypeAdapter(kind).validate_python(self.queues)
        if method != "POST" and path.startswith("/variables/name/"):
            name = path.rpartition("/")[2]
            if name not in self.variables:
                raise NotFound(name)
            if method == "GET":
                answer = {"value": self.variables[name], "id": "v"}
                return TypeAdapter(kind).validate_python(answer)
        self.changes.append((method, path, body))
        return None


def first(name: str) -> str:
    return "/".join(("/work_pools/jittask/queues", *([name] if name else [])))


@pytest.mark.parametrize(
    ("queues", "change"),
    [
        ({"default": 1}, ("POST", first(""), {"name": "shop.first", "priority": 1})),
        ({"default": 1, "shop.first": 2}, ("PATCH", first("shop.first"), {"priority": 1})),
        ({"shop.first": 1, "default": 2}, None),
        # Another app's may stand before: else two apps would change places each minute.
        ({"crm.first": 1, "shop.first": 2, "crm": 3}, None),
        ({"crm.first": 1, "crm": 2, "shop.first": 3}, ("PATCH", first("shop.first"), {"priority": 1})),
    ],
)  # fmt: skip
def test_a_queue_of_short_runs_stands_before_all_tasks(
    monkeypatch: pytest.MonkeyPatch, queues: dict[str, int], change: Call | None
) -> None:
    server = Server(monkeypatch, **queues)
    server.api.ensure_queue("jittask", "shop.first", first=True)
    assert server.changes == ([change] if change else [])


def test_a_queue_of_tasks_is_made_and_left_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(monkeypatch, default=1)
    server.api.ensure_queue("jittask", "shop", first=False)
    assert server.changes == [("POST", first(""), {"name": "shop"})]
    server = Server(monkeypatch, default=1, shop=2)
    server.api.ensure_queue("jittask", "shop", first=False)
    assert server.changes == []


def test_a_variable_is_changed_where_it_is_there_and_else_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(monkeypatch)
    assert server.api.variable("jittask_shop") is None
    server.api.set_variable("jittask_shop", {"id": "1"})
    made = {"name": "jittask_shop", "value": {"id": "1"}}
    assert server.changes == [("POST", "/variables/", made)]
    server.variables["jittask_shop"] = {"id": "1"}
    assert server.api.variable("jittask_shop") == {"id": "1"}
    server.api.set_variable("jittask_shop", {"id": "2"})
    changed = ("PATCH", "/variables/name/jittask_shop", {"value": {"id": "2"}})
    assert server.changes[1:] == [changed]


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5])
def test_the_task_runs_of_a_large_batch_come_in_pages(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(client, "PAGE", 2)
    server = Server(monkeypatch)
    server.task_runs = [{"id": f"t{n}", "name": f"row {n}"} for n in range(number)]
    assert server.api.task_runs("run") == {f"t{n}": f"row {n}" for n in range(number)}
