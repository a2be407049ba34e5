"""The lines of `jittask records`: what stands at 80 columns, at 40 and in a pipe, and in whose words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from rich.cells import cell_len

from jittask_prefect.records import text
from jittask_prefect.records.record import Record
from jittask_prefect.records.row_history import RowHistory, TemplateHistory
from jittask_prefect.records.text_table import folded

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 2, 9, tzinfo=SHANGHAI)
ID = "0b9f1f8e-5a53-5d7b-9c0e-0d8a4e4f0a11"
MESSAGE = (
    "ValueError: no address of the customer, " + "and more words " * 20 + "the end"
)


def record(**more: Any) -> Record:
    told: dict[str, Any] = {
        "template": "tasks.Remind", "title": "Remind the customer", "due": NOW, "as_of": NOW,
        "state": "error", "row": "42", "task_id": ID, "message": MESSAGE,
    }  # fmt: skip
    return Record(**(told | more))


def lines(
    *found: Record, width: int | None, zone: Any = SHANGHAI, full: bool = False
) -> list[str]:
    return list(text.records(found, zone, NOW, width, full=full))


@pytest.mark.parametrize("width", [40, 64, 80, 140])
def test_a_line_is_folded_and_nothing_is_lost(width: int) -> None:
    found = lines(record(), width=width)
    assert max(map(cell_len, found)) <= width
    words = " ".join(found).split()
    for word in ("today", "09:00", "error", "Remind", "42", "ValueError:", "end"):
        assert word in words
    assert words.count("more") == 20


def test_eighty_columns() -> None:
    assert lines(record(message="no address"), width=80) == [
        "due               status     task                 row  result",
        "(Asia/Shanghai)",
        "today 09:00       error      Remind the customer  42   no address",
    ]


def test_a_pipe_has_a_line_each_whole_and_with_dates() -> None:
    head, line = lines(record(), width=None)
    assert head.startswith("due (Asia/Shanghai)  status  taskId")
    assert line.startswith(f"2026-03-02 09:00:00  error   {ID}")
    assert line.endswith("the end")


def test_a_long_result_is_whole_in_a_pipe() -> None:
    line = lines(record(result="x" * 500), width=None)[1]
    assert line.endswith('"' + "x" * 500 + '"')


def test_times_in_utc() -> None:
    found = lines(record(message=""), width=80, zone=UTC, full=True)
    assert found[0].startswith("due (UTC) ")
    assert found[1].startswith("2026-03-02 01:00:00  error")


@pytest.mark.parametrize("status", ["pending", "executing"])
@pytest.mark.parametrize("width", [40, 80])
def test_a_task_that_can_be_ended_names_its_id_in_one_piece(
    status: str, width: int
) -> None:
    assert lines(record(state=status, message=""), width=width)[-1] == f"  {ID}"


def test_a_scheduled_task_has_no_row() -> None:
    assert lines(record(row=None, message="done"), width=80)[-1].endswith("done")


def test_characters_that_a_terminal_obeys_are_shown() -> None:
    found = "".join(lines(record(title="a\x1b[2Jb", row="\x07"), width=80))
    assert "\x1b" not in found
    assert "\x07" not in found


def test_wide_characters_count_double() -> None:
    assert folded("提醒客户 提醒", 8) == ["提醒客户", "提醒"]
    assert folded("提醒客户", 4) == ["提醒", "客户"]


def test_a_word_that_fills_the_line_leaves_no_empty_line() -> None:
    assert folded("abcdefgh ij", 4) == ["abcd", "efgh", "ij"]
    assert folded("", 4) == [""]


@pytest.mark.parametrize("width", [40, 80, None])
def test_a_row_goes_by_its_label_and_its_key(width: int | None) -> None:
    found = " ".join(lines(record(label="Wang Fang"), width=width)).split()
    assert "Wang" in found
    assert "Fang" in found
    assert "(42)" in found


def story(**more: Any) -> RowHistory:
    ended = record(
        state="completed", message="", result={"said": "word " * 300}, **more
    )
    part = TemplateHistory("tasks.Remind", "Remind the customer", "at 09:00")
    part.records = [ended]
    return RowHistory("models.Contract", "42", True, [part], "Wang Fang")


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_story_of_a_row_is_folded_and_whole(width: int) -> None:
    found = list(text.row(story(flow_run_id=ID), width))
    assert max(map(cell_len, found)) <= width
    words = " ".join(found).split()
    assert words.count("word") + words.count('"word') == 300
    assert found[0] == "models.Contract Wang Fang (42)"
    assert "".join(words).count(ID) == 2


def test_the_story_of_a_row_has_a_line_each_in_a_pipe() -> None:
    _, _, template, rule, task, ids = text.row(story(), None)
    assert template == "tasks.Remind (Remind the customer)"
    assert rule == "  at 09:00"
    assert task.startswith("  Mon 2026-03-02 09:00 CST  completed   result {")
    assert task.count("word") == 300
    assert ids == f"      task {ID}"
