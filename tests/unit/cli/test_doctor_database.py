"""`jittask doctor`: settings of a database that end a task before its time; clocks; connections that do not suffice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop import Shop
from sqlalchemy.engine import make_url

from jittask_prefect.cli.doctor_database import _silence as silence
from jittask_prefect.cli.doctor_database import connections, limits, skew
from jittask_prefect.elements.app_name import ENV_DATABASE
from jittask_prefect.prefect_api.server_facts import Offset

Make = Callable[..., Shop]
IDLE = "idle_in_transaction_session_timeout"


@pytest.mark.parametrize(
    ("settings", "keys", "said"),
    [
        ({}, {}, ""),
        ({IDLE: "5s"}, {}, f"{IDLE} is 5 s, and a function that takes longer fails"),
        ({IDLE: "5s"}, {"timeout": 5}, ""),
        ({IDLE: "11min"}, {}, ""),
        ({"statement_timeout": "2s"}, {}, "statement_timeout is 2 s, and a sync reads"),
        ({"statement_timeout": "1min"}, {}, ""),
    ],
)
def test_a_setting_of_postgresql_that_ends_a_task(
    shop: Make,
    url: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    keys: dict[str, Any],
    said: str,
) -> None:
    s = shop(app_json={"database": url("postgresql")}, **keys)
    options = " ".join(f"-c{name}={value}" for name, value in settings.items())
    own = make_url(s.app.database_url()).update_query_dict({"options": options})
    s.app.dispose()
    monkeypatch.setenv(ENV_DATABASE, own.render_as_string(hide_password=False))
    with s.app.engine().connect() as connection:
        found = [f.text for f in limits(s.app, "", connection, "the app's database")]
    s.app.dispose()
    assert len(found) == bool(said)
    assert all(text.startswith(f"the app's database: {said}") for text in found)


def test_locks_of_a_worker_whose_machine_is_gone() -> None:
    assert list(silence("the app's database", 60)) == []
    assert list(silence("the app's database", None)) == []
    [found] = silence("the app's database", 7875)
    assert "keeps the locks of its rows for 7875 s" in found.text


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (2.4, 2.6, "is 2 s ahead of this machine's: run NTP on both"),
        (-31.0, -30.0, "is 30 s behind this machine's: run NTP on both"),
        (-1.0, 1.9, None),
        (-9.0, 9.0, None),
    ],
)
def test_a_clock_that_is_wrong(low: float, high: float, said: str | None) -> None:
    found = [(f.state, f.text) for f in skew("db.internal", Offset(low, high))]
    wanted = f"the clock of db.internal {said}"
    assert found == ([("warning", wanted)] if said else [])


def test_more_connections_than_the_database_gives(
    shop: Make, url: Callable[[str], str]
) -> None:
    """Two for each task of each worker."""
    s = shop(app_json={"database": url("postgresql"), "maxConcurrency": 50})
    assert list(connections(s.app, 0)) == []
    [found] = connections(s.app, 100)
    assert found.state == "warning"
    assert "100 workers with 50 tasks each may need 10000 connections" in found.text
