"""The end of a flow run in words: its message, its label, its table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jittask_prefect.ledger.entry import Entry, new_entry
from jittask_prefect.running.outcome import (
    TAKEN,
    Outcome,
    Summary,
    label_of,
    not_run,
)

TEN = datetime(2026, 3, 2, 10, tzinfo=UTC)
DONE = Outcome("completed", "completed", "")
FAILED = Outcome("error", "failed", "error: no")
GONE = Outcome("ended", "superseded", "superseded: the row is gone")


def task(key: str, level: str | None = None) -> Entry:
    about = {"app": "shop", "template": "tasks.Task", "row_key": key, "level": level}
    return new_entry(task_id=key, due=TEN, created=TEN, **about)


def summary(*outcomes: Outcome, **keys: object) -> Summary:
    ends = [(task(str(n)), outcome) for n, outcome in enumerate(outcomes)]
    return Summary(ends, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "message", "done"),
    [
        (summary(DONE), "1 row: 1 done", True),
        (summary(DONE, GONE), "2 rows: 1 done, 1 not run", True),
        (summary(DONE, FAILED), "2 rows: 1 done, 1 failed", False),
        (
            summary(DONE, queued="full"),
            "1 row: 1 done; the others are queued: full",
            True,
        ),
        (summary(queued="full"), "not run: queued: full", False),
        (summary(broken="not run: broken"), "not run: broken", False),
        (summary(), "0 rows: nothing left to do", True),
        (
            summary(before={"completed": 3, "error": 1}),
            "nothing ran: the rows of this run have ended before: 3 completed, 1 error",
            True,
        ),
        (
            summary(before={"ended": 2}),
            "not run: the rows of this run have ended before: 2 ended",
            False,
        ),
    ],
)
def test_a_summary_in_words(of: Summary, message: str, done: bool) -> None:
    assert (str(of), of.done) == (message, done)


def test_the_table_has_the_failed_rows_first() -> None:
    rows = summary(DONE, GONE, FAILED, DONE).table({})
    assert [row["row"] for row in rows] == ["2", "0", "1", "3"]
    assert rows[0]["reason"] == "error: no"


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        (DONE, None),
        (FAILED, None),
        (TAKEN, "taken"),
        (GONE, "superseded"),
        (not_run("the task is gone"), "skipped"),
        (Outcome("ended", "forced", "ended: forced end"), None),
    ],
)
def test_the_label_of_a_run_that_ends_by_our_own_doing(
    outcome: Outcome, label: str | None
) -> None:
    assert label_of(outcome) == label


def test_the_table_has_levels_where_some_task_has_one() -> None:
    of = Summary([(task("1", "first"), DONE), (task("2"), DONE)])
    assert [row["level"] for row in of.table({})] == ["first", ""]
    assert "level" not in summary(DONE).table({})[0]
