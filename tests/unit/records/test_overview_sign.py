"""The sign of change of an app's overview: whatever changes the page's facts changes the sign, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path

import pytest
from shop import Shop, model_of, rows_task, utc
from sqlalchemy import event

from jittask_prefect.ledger import pause
from jittask_prefect.records import overview_page
from jittask_prefect.records.overview_prefect import prefect_facts
from jittask_prefect.records.overview_sign import sign_of_change

NIGHTLY = {
    "type": "tasks.NormalType",
    "title": "Nightly",
    "timerCfg": {
        "startTime": "2026-01-01 01:30:00",
        "repeat": {"repeatType": "day"},
    },
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    elements = {
        "models/Bill": model_of(),
        "tasks/Pay": rows_task("at", title="Pay"),
        "tasks/Ask": rows_task("day", title="Ask"),
        "tasks/Nightly": {"e.json": NIGHTLY, "inner.py": "def customFunc(): ...\n"},
    }
    made = Shop(tmp_path / "app", monkeypatch, elements)  # Monday 08:00 UTC
    made.save(id=1, at=datetime(2026, 3, 2, 8, 5))
    made.save(id=2, day=date(2026, 3, 2))  # was due at 00:00
    made.sync()
    yield made
    made.app.close()


def sign(s: Shop) -> str:
    prefect = prefect_facts(s.app, s.api, s.now)
    return sign_of_change(s.app, prefect, s.now)


def paused_in_prefect(s: Shop) -> None:
    s.api.all_deployments["tasks.Pay"]["paused"] = True


def late_in_prefect(s: Shop) -> None:
    deployment = s.api.deployments("app:test")["tasks.Nightly"]
    s.api.create_run(
        deployment.id, key="k", name="n", due=utc("2026-03-02 01:30"), tags=(),
        parameters={"template": "tasks.Nightly"},
    )  # fmt: skip


def a_worker_came(s: Shop) -> None:
    for queues in s.api.all_queues.values():
        queues.update(dict.fromkeys(queues, "READY"))


def another_title(s: Shop) -> None:
    s.again(**{"tasks/Pay": rows_task("at", title="Paid")})


def tried_again(s: Shop) -> None:
    s.raw("UPDATE jittask_ledger SET status = 'pending' WHERE row_key = '2'")


CHANGES: dict[str, Callable[[Shop], object]] = {
    "a row is saved": lambda s: s.save(at=datetime(2026, 3, 2, 9, 30)),
    "a row's date moves": lambda s: s.save(id=1, at=datetime(2026, 3, 2, 8, 30)),
    "a task runs": lambda s: s.api.run_due(s.app, s.now),
    "the app is paused": lambda s: pause.pause(s.app, s.now),
    "a task is overdue": lambda s: s.at("2026-03-02 08:06:30"),
    "the hour is over": lambda s: s.at("2026-03-02 09:00"),
    "a title changes": another_title,
    "a deployment is paused": paused_in_prefect,
    "a run is late": late_in_prefect,
    "a worker comes": a_worker_came,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_changes_the_sign(shop: Shop, change: str) -> None:
    before = sign(shop)
    CHANGES[change](shop)
    assert sign(shop) != before


def test_a_task_that_ended_and_waits_again_changes_the_sign(shop: Shop) -> None:
    shop.api.run_due(shop.app, shop.now)
    before = sign(shop)
    tried_again(shop)
    assert sign(shop) != before


def test_time_alone_changes_no_sign(shop: Shop) -> None:
    shop.api.run_due(shop.app, shop.now)
    before = sign(shop)
    for minute in ("08:01", "08:02", "08:05:30"):
        assert sign(shop.at(f"2026-03-02 {minute}")) == before


def test_a_sync_without_a_change_asks_little_and_all_every_ten_minutes(
    shop: Shop,
) -> None:
    """A row beyond the ledger's horizon leaves no trace there: it is counted with the next whole page."""
    shop.api.run_due(shop.app, shop.now)
    overview_page.refresh(shop.app, shop.api, shop.now)
    said: list[str] = []
    event.listen(
        shop.app.engine(),
        "before_cursor_execute",
        lambda _c, _cursor, text, *_: said.append(text),
    )
    shop.at("2026-03-02 08:01")
    assert not overview_page.refresh(shop.app, shop.api, shop.now)
    asked = [text for text in said if "jittask_ledger" in text]
    assert len(asked) == 2 and not any("bill" in text for text in said)
    shop.insert(day=date(2026, 3, 4), status="open", count=0)
    for minute in range(2, 10):
        shop.at(f"2026-03-02 08:0{minute}")
        overview_page.refresh(shop.app, shop.api, shop.now)
    said.clear()
    assert overview_page.refresh(shop.app, shop.api, utc("2026-03-02 08:19"))
    assert any("bill" in text for text in said)
