"""The live view of `jittask up` fits its terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from jittask_prefect.cli.live_view import view
from jittask_prefect.records.record import Record

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_the_live_table_fits_a_terminal_of_100_by_30() -> None:
    records = []
    for number, state in enumerate(
        ["completed"] * 30
        + ["error", "ended", "executing", "pending"]  # this one is overdue
        + ["pending"] * 30
    ):
        due = NOW + timedelta(minutes=number - 34)
        done = state == "completed"
        records.append(
            Record(
                template="tasks.MembershipDowngrade",
                title="Membership downgrade at expiry [red]",
                row=str(number) * 5,
                state=state,
                due=due,
                as_of=NOW,
                finished=due,
                result={"cancelled": "6 porcelain bowls, hand painted"}
                if done
                else None,
                message="error: no such customer" if state == "error" else "",
            )
        )
    console = Console(file=io.StringIO(), width=100, height=30)
    console.print(view(records, UTC, NOW, 100, 26))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= 26 and max(map(len, lines)) <= 100
    text = "\n".join(lines)
    for whole in (
        "completed",
        "executing",
        "overdue",
        "pending",
        "11-21 12:00:00",
        "error: no such customer",
        "in 3 min",
    ):
        assert whole in text, text
    assert "30 completed" in lines[0]
