"""The verdict table: every combination of a task and its flow run, with the verdict written out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from jittask_prefect.ledger.entry import Entry, new_entry
from jittask_prefect.ledger.verdict import (
    Kind,
    Reading,
    RightState,
    RunFacts,
    Verdict,
    kind_of,
    reading,
    right_state,
    summary,
    verdict,
)

DUE = datetime(2026, 3, 2, 10, tzinfo=UTC)
KINDS = [
    "UNKNOWN",
    "PENDING",
    "IN_BATCH",
    "ALIVE",
    "RETRIES",
    "LAST",
    "UNREADABLE",
    "FINAL",
]
VERDICTS = """
           UNKNOWN PENDING   IN_BATCH ALIVE   RETRIES LAST   UNREADABLE FINAL
MISSING    NOTHING ANOTHER   ANOTHER  NOTHING RETRY   FAIL   NOTHING    NOTHING
WAITING    NOTHING NOTHING   NOTHING  NOTHING RETRY   FAIL   NOTHING    NOTHING
OVERDUE    ENTER   ANOTHER   RECORDED NOTHING RETRY   FAIL   NOTHING    NOTHING
CANCELLING NOTHING NOTHING   NOTHING  NOTHING CANCEL  CANCEL CANCEL     NOTHING
CANCELLED  NOTHING CANCEL    CANCEL   NOTHING CANCEL  CANCEL CANCEL     NOTHING
WITHDRAWN  NOTHING ANOTHER   RECORDED NOTHING RETRY   FAIL   NOTHING    NOTHING
CRASHED    ENTER   ANOTHER   RECORDED NOTHING RETRY   FAIL   NOTHING    NOTHING
COMPLETED  NOTHING DONE      RECORDED NOTHING RETRY   FAIL   NOTHING    NOTHING
MARKED     NOTHING MARK      MARK     NOTHING RETRY   FAIL   NOTHING    NOTHING
FAILED     NOTHING FAILED    RECORDED NOTHING RETRY   FAIL   NOTHING    NOTHING
TIMED_OUT  NOTHING TIMED_OUT RECORDED NOTHING RETRY   FAIL   NOTHING    NOTHING
GAVE_UP    NOTHING ANOTHER   RECORDED NOTHING RETRY   FAIL   NOTHING    NOTHING
"""
LINES = [line.split() for line in VERDICTS.strip().splitlines()[1:]]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
@pytest.mark.parametrize("column", range(8), ids=KINDS)
def test_every_combination(line: list[str], column: int) -> None:
    run, expected = Reading[line[0]], Verdict[line[1 + column]]
    assert verdict(Kind[KINDS[column]], run) is expected


def test_the_table_is_whole() -> None:
    assert [line[0] for line in LINES] == [each.name for each in Reading]
    assert {each.name for each in Kind} == set(KINDS)
    assert {len(line) for line in LINES} == {9}


# A run as Prefect has it: state, started, ended by us, name. Its times and its pool say nothing here.
FINAL_RUNS = """
COMPLETED yes no  Completed COMPLETED
COMPLETED yes yes Completed COMPLETED
COMPLETED no  no  Completed MARKED
COMPLETED no  yes Completed MARKED
FAILED    yes no  Failed    FAILED
FAILED    yes no  TimedOut  TIMED_OUT
FAILED    yes yes Failed    GAVE_UP
FAILED    yes yes TimedOut  GAVE_UP
FAILED    no  no  Failed    GAVE_UP
FAILED    no  no  TimedOut  GAVE_UP
FAILED    no  yes Failed    GAVE_UP
FAILED    no  yes TimedOut  GAVE_UP
CRASHED   yes no  Crashed   CRASHED
CRASHED   yes yes Crashed   CRASHED
CRASHED   no  no  Crashed   CRASHED
CRASHED   no  yes Crashed   CRASHED
CANCELLED yes no  Cancelled CANCELLED
CANCELLED yes yes Cancelled WITHDRAWN
CANCELLED no  no  Cancelled CANCELLED
CANCELLED no  yes Cancelled WITHDRAWN
"""
FINAL_LINES = [line.split() for line in FINAL_RUNS.strip().splitlines()]
TIMES = [timedelta(), timedelta(seconds=16), timedelta(days=2)]
POOLS = [None, "process", "jittask"]
SILENT = [None, timedelta(seconds=-1), timedelta(seconds=30)]


@pytest.mark.parametrize("line", FINAL_LINES, ids=" ".join)
def test_a_run_that_ended_is_read_whatever_its_times_and_pool(line: list[str]) -> None:
    state, started, ours, name, expected = line
    for in_state, late, pool, silent in product(TIMES, TIMES, POOLS, SILENT):
        run = RunFacts(
            state, name, started == "yes", ours == "yes", in_state, late, pool, silent
        )
        assert reading(run) is Reading[expected]


@pytest.mark.parametrize("state", ["SCHEDULED", "PAUSED", None])
def test_a_run_that_waits_is_left_alone(state: str | None) -> None:
    for started, ours, in_state in product((True, False), (True, False), TIMES):
        run = RunFacts(state, "Late", started, ours, in_state, timedelta(days=9))
        assert reading(run) is Reading.WAITING


def test_no_run() -> None:
    assert reading(None) is Reading.MISSING


# Seconds in the state, seconds since due, the pool's type, a batch's seconds of silence (.: no sign).
BEGUN = """
PENDING 0    0    jittask . WAITING
PENDING 20   20   jittask . WAITING
PENDING 21   20   jittask . WAITING
PENDING 20   21   jittask . WAITING
PENDING 21   21   jittask . OVERDUE
PENDING 21   21   process . WAITING
PENDING 21   21   .       . WAITING
PENDING 180  180  process . WAITING
PENDING 181  180  process . WAITING
PENDING 180  181  process . WAITING
PENDING 181  181  process . OVERDUE
PENDING 181  181  .       . OVERDUE
PENDING 999  -5   jittask . WAITING
PENDING 21   21   jittask 0 OVERDUE
RUNNING 20   20   jittask . WAITING
RUNNING 21   21   jittask . OVERDUE
RUNNING 21   21   process . WAITING
RUNNING 181  181  process . OVERDUE
RUNNING 999  999  jittask -9 WAITING
RUNNING 999  999  jittask 0 WAITING
RUNNING 999  999  process 25 WAITING
RUNNING 0    0    process 26 OVERDUE
RUNNING 0    0    jittask 26 OVERDUE
"""


@pytest.mark.parametrize("line", BEGUN.strip().splitlines())
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("started", [True, False])
def test_a_run_that_should_have_begun(line: str, ours: bool, started: bool) -> None:
    state, in_state, late, pool, silent, expected = line.split()
    run = RunFacts(
        state,
        state.title(),
        started,
        ours,
        timedelta(seconds=float(in_state)),
        timedelta(seconds=float(late)),
        None if pool == "." else pool,
        None if silent == "." else timedelta(seconds=float(silent)),
    )
    assert reading(run) is Reading[expected]


# Seconds in the state, a batch's seconds of silence, ended by us.
CANCELLING = """
0  .  no  CANCELLING
15 .  no  CANCELLING
16 .  no  CANCELLED
0  .  yes WAITING
15 .  yes WAITING
16 .  yes WITHDRAWN
99 -1 no  CANCELLING
99 -1 yes WAITING
99 0  no  CANCELLED
99 30 yes WITHDRAWN
"""


@pytest.mark.parametrize("line", CANCELLING.strip().splitlines())
def test_a_run_that_is_cancelling(line: str) -> None:
    in_state, silent, ours, expected = line.split()
    run = RunFacts(
        "CANCELLING",
        "Cancelling",
        started=True,
        ended_by_us=ours == "yes",
        in_state=timedelta(seconds=float(in_state)),
        late=timedelta(days=1),
        silent=None if silent == "." else timedelta(seconds=float(silent)),
    )
    assert reading(run) is Reading[expected]


@pytest.mark.parametrize("message", ["", "superseded: x", "its worker died", "ok"])
def test_a_cancel_closes_whatever_reason_a_person_types(message: str) -> None:
    """The reason is no input at all: only the label says that we ended the run."""
    assert "message" not in RunFacts.__dataclass_fields__
    for kind in (Kind.PENDING, Kind.IN_BATCH, Kind.RETRIES, Kind.LAST):
        found = verdict(kind, reading(RunFacts("CANCELLED", message or "Cancelled")))
        assert found is Verdict.CANCEL


@pytest.mark.parametrize(
    ("status", "about", "expected"),
    [
        (None, {}, Kind.UNKNOWN),
        ("pending", {}, Kind.PENDING),
        ("pending", {"alive": False, "retries": None}, Kind.PENDING),
        ("pending", {"in_batch": True}, Kind.IN_BATCH),
        ("executing", {"attempt": 9}, Kind.ALIVE),
        ("executing", {"in_batch": True, "retries": None}, Kind.ALIVE),
        ("executing", {"alive": False, "attempt": 1, "retries": 0}, Kind.LAST),
        ("executing", {"alive": False, "attempt": 1, "retries": 1}, Kind.RETRIES),
        ("executing", {"alive": False, "attempt": 2, "retries": 1}, Kind.LAST),
        ("executing", {"alive": False, "retries": None}, Kind.UNREADABLE),
        ("executing", {"alive": False, "attempt": 1, "begun": False}, Kind.RETRIES),
        ("executing", {"attempt": 1, "begun": False}, Kind.ALIVE),
        ("completed", {"alive": False}, Kind.FINAL),
        ("error", {"alive": False, "retries": 5}, Kind.FINAL),
        ("ended", {"in_batch": True}, Kind.FINAL),
    ],
)
def test_what_a_task_is(
    status: str | None, about: dict[str, Any], expected: Kind
) -> None:
    assert kind_of(status, **about) is expected


def task(status: str, outcome: str | None = None, batch: int | None = None) -> Entry:
    return new_entry(
        task_id="t", app="shop", template="tasks.T", due=DUE, created=DUE,
        status=status, outcome=outcome or status, batch=batch,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tasks", "right"),
    [
        ([], None),
        ([task("pending")], None),
        ([task("executing")], None),
        ([task("completed", batch=1), task("executing", batch=1)], None),
        ([task("completed")], RightState("COMPLETED")),
        ([task("error", "failed")], RightState("FAILED", ("CRASHED",))),
        ([task("error", "timeout")], RightState("FAILED", ("CRASHED",), "TimedOut")),
        ([task("error", "died")], RightState("CRASHED", ("FAILED",))),
        ([task("ended", "forced")], RightState("CANCELLED")),
        ([task("ended", "missed")], RightState("CANCELLED", own="missed")),
        ([task("ended", "superseded")], RightState("CANCELLED", own="superseded")),
        (
            [task("error", "timeout", 1), task("completed", batch=1)],
            RightState("FAILED", ("CRASHED",)),
        ),
        (
            [task("error", "died", 1), task("error", "failed", 1)],
            RightState("FAILED", ("CRASHED",)),
        ),
        (
            [task("error", "died", 1), task("completed", batch=1)],
            RightState("CRASHED", ("FAILED",)),
        ),
        (
            [task("ended", "missed", 1), task("completed", batch=1)],
            RightState("COMPLETED"),
        ),
        (
            [task("completed", batch=1), task("ended", "forced", 1)],
            RightState("COMPLETED"),
        ),
        (
            [task("completed", batch=1), task("error", "timeout", 1)],
            RightState("FAILED", ("CRASHED",)),
        ),
        (
            [task("ended", "superseded", 1), task("ended", "superseded", 1)],
            RightState("CANCELLED", ("COMPLETED",), own="superseded"),
        ),
        (
            [task("ended", "missed", 1), task("ended", "forced", 1)],
            RightState("CANCELLED", ("COMPLETED",)),
        ),
    ],
)
def test_the_right_state_of_a_run(tasks: list[Entry], right: RightState | None) -> None:
    assert right_state(tasks) == right


def test_a_summary_counts_rows() -> None:
    rows = [task("ended", batch=1), task("completed", batch=1), task("error", batch=1)]
    assert summary([*rows, rows[1]]) == "4 rows: 2 completed, 1 ended, 1 error"
