"""What the overview asks of databases and Prefect: each number against tasks that were really planned, done and failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from shop import SERVERS, Shop, model_of, rows_task, utc
from sqlalchemy import event

from jittask_prefect.ledger import pause
from jittask_prefect.records import overview_page
from jittask_prefect.records.app_facts import Kind
from jittask_prefect.records.overview import Overview, TaskLine, overview
from jittask_prefect.records.overview_facts import facts
from jittask_prefect.records.overview_markdown import PageLinks, markdown
from jittask_prefect.records.overview_prefect import prefect_facts
from jittask_prefect.records.overview_text import lines

FAILS = "def customFunc(row):\n    raise OSError(f'no route for {row.id}')\n"
DAILY = {"repeatType": "day"}


def scheduled(start: str, repeat: dict[str, Any], **keys: Any) -> dict[str, Any]:
    timer = {"startTime": start, "repeat": repeat, **keys.pop("timer", {})}
    task = {"type": "tasks.NormalType", "title": "Nightly", "timerCfg": timer, **keys}
    return {"e.json": task, "inner.py": "def customFunc():\n    return 1\n"}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    elements = {
        "models/Bill": model_of(),
        "tasks/Pay": rows_task("at", title="Pay", tags=["money"]),
        "tasks/Ask": rows_task("day", title="Ask", inner=FAILS, tags=["money"]),
        "tasks/Nightly": scheduled("2026-01-01 01:30:00", DAILY),
        "tasks/Off": rows_task("at", title="Off", enable=0),
    }
    made = Shop(tmp_path / "app", monkeypatch, elements)  # Monday 08:00 UTC
    yield made
    made.app.close()


def seen(shop: Shop, day: date | None = None) -> Overview:
    prefect = prefect_facts(shop.app, shop.api, shop.now)
    return overview(facts(shop.app, prefect, shop.now, day))


def task(shop: Shop, title: str) -> TaskLine:
    return next(line for line in seen(shop).tasks if line.facts.title == title)


@contextmanager
def statements(shop: Shop) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    engine = shop.app.engine()
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_rows_pending_done_and_failed(shop: Shop) -> None:
    for minute in (5, 10, 55):
        shop.save(at=utc(f"2026-03-02 08:{minute:02}").replace(tzinfo=None))
    shop.save(day=date(2026, 3, 2))  # was due at 00:00: asks at once, and fails
    shop.sync()
    shop.at("2026-03-02 08:20")
    shop.api.run_due(shop.app, shop.now)
    pay, ask = task(shop, "Pay"), task(shop, "Ask")
    assert (pay.pending, pay.overdue, pay.failed) == (1, 0, 0)
    assert pay.next_due == utc("2026-03-02 08:55") and pay.next_count == 1
    assert pay.last is not None and pay.last.status == "completed"
    assert ask.failed == 1 and ask.pending == 0
    assert ask.last is not None and ask.last.message == "OSError: no route for 4"
    assert (ask.last.row, ask.last.in_a_row) == ("4", 1)


def test_tasks_that_nobody_begins_are_overdue(shop: Shop) -> None:
    for minute in (5, 6):
        shop.save(at=utc(f"2026-03-02 08:{minute:02}").replace(tzinfo=None))
    shop.sync()
    found = seen(shop.at("2026-03-02 08:06:30"))
    assert [(w.kind, w.title, w.text) for w in found.wrong if w.task] == [
        (Kind.OVERDUE, "Pay", "1 overdue, since today 08:05")
    ]


def test_failures_in_a_row_end_with_a_completed_task(shop: Shop) -> None:
    for n in range(3):
        shop.save(id=n + 1, day=date(2026, 3, 2))
    shop.sync()
    shop.api.run_due(shop.app, shop.now)
    last = task(shop, "Ask").last
    assert last is not None and last.in_a_row == 3
    assert any(w.kind is Kind.FAILING for w in seen(shop).wrong)
    shop.raw("UPDATE jittask_ledger SET status = 'completed' WHERE row_key = '2'")
    shop.raw(
        "UPDATE jittask_ledger SET due = '2026-03-02 00:00:01.000000' WHERE row_key = '3'"
    )
    last = task(shop, "Ask").last
    assert last is not None and (last.row, last.in_a_row) == ("3", 1)


@pytest.mark.parametrize("failed", ["1", "2", "3"])
def test_a_batch_with_one_failure_has_failed(shop: Shop, failed: str) -> None:
    for n in range(3):
        shop.save(id=n + 1, day=date(2026, 3, 2))
    shop.sync()
    shop.api.run_due(shop.app, shop.now)
    done = "UPDATE jittask_ledger SET status = 'completed', message = ''"
    shop.raw(f"{done} WHERE row_key <> '{failed}'")
    line = task(shop, "Ask")
    last = line.last
    assert last is not None and (last.status, last.row) == ("error", failed)
    assert last.message == f"OSError: no route for {failed}"
    assert last.counts == {"error": 1, "completed": 2} and last.in_a_row == 0
    page = seen(shop)
    assert "| **error** today 08:00 (1 of 3) |" in markdown(page, PageLinks())
    assert "ERROR today 08:00 (1 of 3)" in "\n".join(lines(page, 100))
    (shown,) = (t for t in page.as_dict()["tasks"] if t["title"] == "Ask")  # type: ignore[attr-defined]
    assert shown["last"]["counts"] == {"error": 1, "completed": 2}


def test_tomorrow_is_counted_by_the_ledger_and_beyond_its_horizon_by_the_rows(
    shop: Shop,
) -> None:
    shop.sync()
    for at in ("2026-03-03 07:30", "2026-03-03 07:40", "2026-03-03 21:15"):
        shop.insert(at=utc(at).replace(tzinfo=None), status="open", count=0)
    shop.insert(day=date(2026, 3, 4), status="open", count=0)
    shop.sync("2026-03-02 08:01")
    found = seen(shop)
    assert [
        (f"{h.start:%H:%M}", [(t.title, dict(t.counts)) for t in h.tasks])
        for h in found.day_hours
    ] == [
        ("01:00", [("Nightly", {"pending": 1})]),
        ("07:00", [("Pay", {"pending": 2})]),
        ("21:00", [("Pay", {"pending": 1})]),
    ]
    wednesday = seen(shop, date(2026, 3, 4)).day_hours
    assert [
        (f"{h.start:%H:%M}", [(t.title, dict(t.counts)) for t in h.tasks])
        for h in wednesday
    ] == [
        ("00:00", [("Ask", {"pending": 1})]),
        ("01:00", [("Nightly", {"pending": 1})]),
    ]


def test_a_past_day_shows_what_became_of_its_tasks(shop: Shop) -> None:
    shop.save(at=utc("2026-03-02 08:05").replace(tzinfo=None))
    shop.sync()
    shop.at("2026-03-02 08:06")
    shop.api.run_due(shop.app, shop.now)
    shop.at("2026-03-09 12:00")
    [hour] = seen(shop, date(2026, 3, 2)).day_hours
    assert (f"{hour.start:%H:%M}", [dict(t.counts) for t in hour.tasks]) == (
        "08:00",
        [{"completed": 1}],
    )


def test_a_row_that_moved_is_counted_once(shop: Shop) -> None:
    key = shop.save(at=utc("2026-03-02 18:00").replace(tzinfo=None))
    shop.sync()
    shop.save(id=key, at=utc("2026-03-02 19:00").replace(tzinfo=None))
    shop.sync()
    counted = {h.start: dict(h.counts) for h in seen(shop).hours if h.counts}
    assert counted == {
        utc("2026-03-02 19:00"): {"pending": 1},
        utc("2026-03-03 01:00"): {"pending": 1},
    }


def test_an_occurrence_of_a_schedule_is_gone_from_the_hours_once_it_is_past(
    shop: Shop,
) -> None:
    def pending(found: Overview) -> list[str]:
        return [f"{h.start:%d %H}" for h in found.hours if h.counts.get("pending")]

    assert pending(seen(shop.at("2026-03-03 01:10"))) == ["03 01"]
    assert pending(seen(shop.at("2026-03-03 01:29"))) == ["03 01"]
    assert pending(seen(shop.at("2026-03-03 01:31"))) == []


def test_a_late_run_of_a_schedule_is_known_by_prefect_alone(shop: Shop) -> None:
    deployment = shop.api.deployments("app:test")["tasks.Nightly"]
    shop.api.create_run(
        deployment.id, key="k", name="n", due=utc("2026-03-02 01:30"), tags=(),
        parameters={"template": "tasks.Nightly"},
    )  # fmt: skip
    found = seen(shop)
    assert [(w.title, w.text) for w in found.wrong if w.kind is Kind.OVERDUE] == [
        ("Nightly", "1 overdue, since today 01:30")
    ]
    assert {
        h.start: dict(h.counts) for h in found.hours if h.counts.get("overdue")
    } == {utc("2026-03-02 01:00"): {"overdue": 1}}


def test_no_worker_no_prefect_a_paused_task_and_broken_files_are_lines(
    shop: Shop,
) -> None:
    texts = [w.text for w in seen(shop).wrong]
    assert "disabled: Off" in texts
    assert [w.kind for w in seen(shop).wrong].count(Kind.WORKER) == 2  # two queues
    for queue in shop.api.all_queues.values():
        queue.update(dict.fromkeys(queue, "READY"))
    assert not any(w.kind is Kind.WORKER for w in seen(shop).wrong)
    shop.api.down = True
    found = seen(shop)
    assert found.wrong[0].kind is Kind.SERVER and not found.asked_prefect
    assert task(shop, "Pay").facts.rule == "At `at`."
    shop.api.down = False
    shop.again(**{"tasks/Pay": {"e.json": "{"}})
    assert any("tasks.Pay: files with mistakes" in w.text for w in seen(shop).wrong)


def test_a_calendar_whose_published_days_end_soon_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly = scheduled(
        "2026-01-01 01:30:00", DAILY, timer={"skipHoliday": 1, "calendar": "CN"}
    )
    shop = Shop(tmp_path / "app", monkeypatch, {"tasks/Nightly": nightly})
    assert not any(w.kind is Kind.CALENDAR for w in seen(shop).wrong)
    shop.at("2026-11-30 08:00")
    [line] = [w.text for w in seen(shop).wrong if w.kind is Kind.CALENDAR]
    assert line.startswith("holidays of CN are published until 2026-12-31")
    shop.app.close()


def test_the_number_of_statements_does_not_grow_with_the_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for number in (2, 40):
        elements: dict[str, Any] = {"models/Bill": model_of()}
        for n in range(number):
            elements[f"tasks/Rows{n}"] = rows_task("at", title=f"Rows {n}", inner=FAILS)
            elements[f"tasks/Daily{n}"] = scheduled("2026-01-01 01:30:00", DAILY)
        shop = Shop(tmp_path / str(number), monkeypatch, elements)
        shop.save(at=utc("2026-03-02 08:05").replace(tzinfo=None))
        shop.sync()
        shop.at("2026-03-02 08:20")
        shop.api.run_due(shop.app, shop.now)
        calls = len(shop.api.calls)
        with statements(shop) as found:
            page = seen(shop)
        assert sum(line.failed for line in page.tasks) == number
        counts.append((len(found), len(shop.api.calls) - calls))
        shop.app.close()
    assert counts[0] == counts[1], counts
    assert counts[0][0] <= 14


def test_a_template_that_spoils_the_count_of_rows_spoils_its_own_only(
    shop: Shop,
) -> None:
    shop.raw(
        "INSERT INTO bill (at, status, count) VALUES ('2026-03-03 12:x', 'open', 0)"
    )
    shop.insert(at=utc("2026-03-03 21:15").replace(tzinfo=None), status="open", count=0)
    shop.insert(day=date(2026, 3, 3), status="open", count=0)
    found = seen(shop)
    assert found.uncounted == ["Pay"]
    assert ("00:00", ["Ask"]) in [
        (f"{h.start:%H:%M}", [t.title for t in h.tasks]) for h in found.day_hours
    ]


# The artifact


def test_the_page_is_written_when_it_changed_and_at_most_each_minute(
    shop: Shop,
) -> None:
    shop.sync()
    assert overview_page.refresh(shop.app, shop.api, shop.now)
    assert list(shop.api.pages) == ["test-overview"]
    assert "(/v2/artifacts/artifact/" in shop.api.summaries["test-overview"]

    def written(after: float) -> bool:
        at = utc("2026-03-02 08:00") + timedelta(seconds=after)
        return overview_page.refresh(shop.app, shop.api, at)

    assert not written(60)
    shop.save(at=utc("2026-03-02 09:30").replace(tzinfo=None))
    assert written(120)
    shop.save(at=utc("2026-03-02 09:40").replace(tzinfo=None))
    assert not written(150)
    assert written(180)
    assert not written(240)
    assert written(180 + 600)  # as of a later time


def test_a_type_of_the_apps_own_that_fails_marks_its_own_task_only(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("own series")

    shop.save(at=datetime(2026, 3, 2, 10))
    shop.sync()
    monkeypatch.setattr(type(shop.app.template("tasks.Nightly")), "series", fails)
    assert overview_page.refresh(shop.app, shop.api, shop.now)
    said = shop.api.pages["test-overview"]
    assert "**Nightly**: its Type fails: RuntimeError: own series" in said
    found = seen(shop)
    assert [w.task for w in found.wrong if w.kind is Kind.BROKEN] == ["tasks.Nightly"]
    assert task(shop, "Nightly").facts.state == "its Type fails"
    assert task(shop, "Pay").pending == 1


def test_a_change_is_looked_for_at_most_each_minute(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[datetime] = []
    real = overview_page.sign_of_change

    def counting(app: Any, prefect: Any, now: datetime) -> str:
        asked.append(now)
        return real(app, prefect, now)

    shop.sync()
    monkeypatch.setattr(overview_page, "sign_of_change", counting)
    for seconds in (0, 10, 59, 61, 70, 119, 125):
        at = utc("2026-03-02 08:00") + timedelta(seconds=seconds)
        overview_page.refresh(shop.app, shop.api, at)
    assert [f"{at:%M:%S}" for at in asked] == ["00:00", "01:01", "02:05"]


def test_late_runs_are_counted_beyond_a_page(shop: Shop) -> None:
    deployment = shop.api.deployments("app:test")["tasks.Nightly"]
    for number in range(450):
        shop.api.create_run(
            deployment.id, key=f"k{number}", name="n", due=utc("2026-03-02 01:30"), tags=(),
            parameters={"template": "tasks.Nightly"},
        )  # fmt: skip
    assert task(shop, "Nightly").overdue == 450


def test_a_schedule_tells_how_many_of_its_tasks_are_due_in_the_next_24_hours(
    shop: Shop,
) -> None:
    assert task(shop, "Nightly").pending == 1
    shop.again(
        **{"tasks/Nightly": scheduled("2026-01-01 01:30:00", {"repeatType": "hour"})}
    )
    shop.sync()
    assert task(shop, "Nightly").pending == 25  # this hour, and 24 more


def test_a_row_that_fails_in_a_row_goes_by_its_label(shop: Shop) -> None:
    shop.again(**{"models/Bill": model_of(rowLabel="status")})
    for _ in range(2):
        shop.save(status="Wang Fang", day=date(2026, 3, 2))
    shop.sync()
    shop.work()
    told = [w.text for w in seen(shop).wrong if w.kind is Kind.FAILING]
    assert [" row Wang Fang (" in text for text in told] == [True]


# All databases


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("kind", SERVERS)
def test_the_numbers_are_the_same_everywhere(
    url: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    zone: str,
) -> None:
    elements = {
        "models/Bill": model_of(),
        "tasks/Pay": rows_task("at", title="Pay", timezone="UTC"),
        "tasks/Moment": rows_task("moment", title="Moment", timezone="UTC"),
        "tasks/Ask": rows_task("day", title="Ask", inner=FAILS, timezone="UTC"),
        "tasks/Nightly": scheduled("2026-01-01 01:30:00", DAILY),
    }
    shop = Shop(
        tmp_path / "app", monkeypatch, elements, timezone=zone, database=url(kind)
    )
    for day in (date(2026, 3, 2), date(2026, 3, 2), date(2026, 3, 3)):
        shop.save(day=day)
    shop.save(at=utc("2026-03-02 08:45").replace(tzinfo=None))
    shop.sync()
    shop.api.run_due(shop.app, shop.now)
    shop.insert(at=utc("2026-03-03 14:45").replace(tzinfo=None), status="open", count=0)
    found = seen(shop)
    ask = next(line for line in found.tasks if line.facts.title == "Ask")
    assert ask.last is not None
    assert (ask.failed, ask.last.in_a_row, ask.next_count) == (2, 2, 1)
    told = {
        hour.start.astimezone(UTC): [task.title for task in hour.tasks]
        for hour in found.day_hours
    }
    half = timedelta(minutes=30) if zone == "Asia/Kolkata" else timedelta()
    assert told[utc("2026-03-03 14:00") + half] == ["Pay"]
    asked = utc("2026-03-03 00:00") - half
    assert told[asked] == ["Ask"]
    shop.app.close()


def test_the_pause_of_the_app_stands_first_and_once(shop: Shop) -> None:
    """Its deployments are paused in Prefect as well: no line for each."""
    pause.pause(shop.app, shop.now)
    for deployment in shop.api.all_deployments.values():
        deployment["paused"] = True
    first, *others = seen(shop).wrong
    assert (first.kind, first.text) == (
        Kind.APP_PAUSED,
        "the whole app is paused, since today 08:00: `jittask resume` ends the pause",
    )
    assert [each.text for each in others if each.kind is Kind.PAUSED] == [
        "disabled: Off"
    ]
