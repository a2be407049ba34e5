"""Each address that the client asks is one of Prefect's own.

Prefect redirects a slash too many to the host and port that it knows itself by. Behind a balancer nobody may be there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, get_origin
from uuid import UUID

import pytest
from starlette.routing import Match, Mount

from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.connection import Connection, NotFound

ID = str(UUID(int=1))
GIVEN = {
    "datetime": datetime(2026, 11, 2, 9, 0, tzinfo=UTC),
    "bool": True,
    "Any": 1,
    "Sequence": (),
    "Mapping": {"name": "n"},
}
"""Arguments by the beginning of their annotation; an id for all others."""
FULL = {
    "id": ID, "name": "other", "type": "t", "status": "ACCEPT", "priority": 1, "data": "[]", "value": 1,
    "state": {"type": "SCHEDULED"}, "expected_start_time": "2026-11-02T09:00:00Z", "block_type": {"slug": "s"},
    "tags": [], "schedules": [], "message": "m", "level": 20, "timestamp": "2026-11-02T09:00:00Z",
}  # fmt: skip


def calls(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, str, Any], Any]
) -> set[tuple[str, str]]:
    """Methods and addresses of all requests, by a server's answers."""
    from pydantic import TypeAdapter

    found = set()

    def call(self: Connection, method: str, path: str, kind: Any, **_: object) -> Any:
        found.add((method, path))
        return TypeAdapter(kind).validate_python(answer(method, path, kind))

    monkeypatch.setattr(Connection, "call", call)
    api = PrefectApi("http://127.0.0.1:1/api")
    for name, function in inspect.getmembers(PrefectApi, inspect.isfunction):
        if name[0] == "_" or name == "call":
            continue
        parameters = list(inspect.signature(function).parameters.values())[1:]
        given = {
            one.name: GIVEN.get(str(one.annotation).partition("[")[0], ID)
            for one in parameters
            if one.default is one.empty and one.kind is not one.VAR_KEYWORD
        }
        with suppress(NotFound):
            getattr(api, name)(**given)
    return found


def nothing(method: str, path: str, kind: Any) -> Any:
    """The answer of a server that has no object yet."""
    if get_origin(kind) is list:
        return []
    if method != "POST" and path != "/health":
        raise NotFound(path)
    return 1 if kind is int else FULL


def one_of_each(method: str, path: str, kind: Any) -> Any:
    """The answer of a server that has an object of each kind."""
    return [FULL] if get_origin(kind) is list else nothing("POST", path, kind)


def test_no_address_is_redirected(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api.server import create_app

    (api,) = [
        route.app
        for route in create_app(ephemeral=True).routes
        if isinstance(route, Mount) and route.path == "/api"
    ]
    asked = calls(monkeypatch, nothing) | calls(monkeypatch, one_of_each)
    assert len(asked) > 30
    unknown = [
        (method, path)
        for method, path in sorted(asked)
        if not any(
            route.matches(
                {"type": "http", "method": method, "path": path, "root_path": ""}
            )[0]
            is Match.FULL
            for route in api.routes
        )
    ]
    assert unknown == []
