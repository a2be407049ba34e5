"""What users wrote reaches no terminal, CSV file or spreadsheet as something that these obey."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.markup import escape
from rich.table import Table

from jittask_prefect import App
from jittask_prefect.cli import doctor, queries, terminal
from jittask_prefect.cli.terminal import Terminal
from jittask_prefect.dialogs import flows
from jittask_prefect.errors.printable import (
    csv_cell,
    escape_controls,
    escape_controls_json,
)
from jittask_prefect.records.record import Record
from jittask_prefect.server.embedded import Embedded

OBEYED = "a\x1b[31mb\x07c\x9b2Jd\x7fe\rf\u202eg\u2066h\u2028i\ud800j\x00k"
SHOWN = r"a\x1b[31mb\x07c\x9b2Jd\x7fe\rf\u202eg\u2066h\u2028i\ud800j\x00k"


def test_control_characters_are_written_out() -> None:
    assert escape_controls(OBEYED) == SHOWN


@pytest.mark.parametrize(
    "text",
    ["日报 Tägliche עברית \u200f😀", "two\nlines\tand a tab", r"\x1b as it is", ""],
)
def test_what_is_no_control_character_stays(text: str) -> None:
    assert escape_controls(text) == text


def test_json_stays_the_same_json() -> None:
    text = json.dumps({"a": OBEYED}, ensure_ascii=False)
    assert json.loads(escape_controls_json(text)) == {"a": OBEYED}
    assert escape_controls(escape_controls_json(text)) == escape_controls_json(text)


@pytest.mark.parametrize(
    "value, written",
    [
        ("=1+1", "'=1+1"), ("+86 10", "'+86 10"), ("-a", "'-a"), ("@SUM(A1)", "'@SUM(A1)"), ("\tx", "'\tx"),
        ("\r=1", "'\\r=1"), ("\n=1", "'\n=1"), ("＝1+1", "'＝1+1"), ("-1+1", "'-1+1"), ("=", "'="),
        (-5, -5), (-0.25, -0.25), (None, None), ("-5", "-5"), ("-1.5e3", "-1.5e3"), ("a=b", "a=b"), ("", ""),
        ("a\x1bb", r"a\x1bb"), ("'=1", "'=1"),
    ],
)  # fmt: skip
def test_a_cell_that_a_spreadsheet_would_compute_is_a_text(
    value: Any, written: Any
) -> None:
    """The apostrophe is what spreadsheets ask for; numbers, ours or a row's key, stay numbers."""
    assert csv_cell(value) == written


def record(**more: Any) -> Record:
    """A record of a row's task."""
    due = datetime(2026, 3, 2, 1, tzinfo=UTC)
    values = {"template": "tasks.Remind", "title": "Remind", "task_id": "1"}
    return Record(**(values | {"due": due, "as_of": due, "state": "completed"} | more))


def test_records_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    found = record(
        row="=cmd|' /C calc'!A0",
        message=OBEYED,
        started=datetime(2026, 3, 2, 1, 0, 1, 500_000, tzinfo=UTC),
        title="@x",
        result={"a": "=1"},
    )
    queries.print_csv([found, record(row="-7", result=-3)], "http://127.0.0.1:4200")
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x9b" not in said
    one, two = csv.DictReader(io.StringIO(said))
    assert (one["row"], one["message"], one["title"]) == (
        "'=cmd|' /C calc'!A0",
        SHOWN,
        "'@x",
    )
    assert (one["lateness"], one["result"], two["row"], two["result"]) == (
        "1.5",
        '{"a": "=1"}',
        "-7",
        "-3",
    )


def test_a_terminal_prints_its_own_colours_and_nobody_else_s(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("row")
    table.add_row(escape("x\x1b[31my"))
    out = Terminal(
        force_terminal=True, color_system="standard", width=200, highlight=False
    )
    out.print("[red]" + escape("a\x1b]0;title\x07") + "[/]")
    out.print(table)
    out.print("a\x9b31m\u202eb", markup=False)
    said = capsys.readouterr().out
    assert (
        r"\x1b]0;title\x07" in said
        and r"x\x1b[31my" in said
        and r"a\x9b31m\u202eb" in said
    )
    assert "\x1b[31ma" in said  # the colour that we asked for
    assert not {"\x07", "\x9b", "\u202e"} & set(said)


def test_lines_json_and_logs(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.prepare()
    terminal.print_line(f"row {OBEYED}")
    terminal.print_json({"row": OBEYED})
    assert logging.lastResort is not None
    record_ = logging.LogRecord(
        "jittask", logging.WARNING, "", 0, "row %s", (OBEYED,), None
    )
    assert logging.lastResort.format(record_) == f"row {SHOWN}"
    said = capsys.readouterr().out
    assert said.splitlines()[0] == f"row {SHOWN}"
    assert json.loads(said.partition("\n")[2]) == {"row": OBEYED}
    assert not {"\x1b", "\x07", "\x9b", "\x7f", "\u202e"} & set(said)


def test_logs_go_to_the_stderr_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of the start may be closed by then, as that of a test is when the next one begins."""
    root, log = logging.getLogger(), logging.getLogger("jittask")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    with io.StringIO() as first, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", first)
        terminal.show_logs()
        log.info("one")
        assert first.getvalue() == "one\n"
    with io.StringIO() as second, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", second)
        log.info("row %s", OBEYED)
        assert second.getvalue() == f"row {SHOWN}\n"


URL = "postgresql+psycopg://shop:secret@db/shop"


@pytest.mark.parametrize(
    "mode, cfg, told",
    [
        (0o644, {"database": URL}, "database holds a password"),
        (0o640, {"databases": {"crm": URL}}, "databases.crm holds a password"),
        (
            0o604,
            {"database": "postgresql+psycopg://db/shop?password=secret"},
            "database holds a password",
        ),
        (0o600, {"database": URL}, None),
        (0o644, {"database": "postgresql+psycopg://shop@db/shop"}, None),
    ],
)
def test_doctor_tells_of_a_password_that_others_may_read(
    tmp_path: Path, mode: int, cfg: dict[str, Any], told: str | None
) -> None:
    file = tmp_path / "app.json"
    file.write_text(
        json.dumps({"name": "shop", "timezone": "UTC", **cfg}), encoding="utf-8"
    )
    file.chmod(mode)
    found = [f.text for f in doctor._secrets(App(tmp_path))]
    assert [
        told in text and "chmod 600" in text and "secret" not in text for text in found
    ] == [True] * bool(told)


def test_the_folder_of_server_and_worker_is_the_user_s_alone(tmp_path: Path) -> None:
    """Whoever makes it: `jittask up`, or the first dialog."""
    before = os.umask(0)
    try:
        Embedded(tmp_path / "up" / ".jittask")._make_home()
        (tmp_path / "dialog").mkdir()
        with flows.one_at_a_time(tmp_path / "dialog"):
            pass
    finally:
        os.umask(before)
    for app in ("up", "dialog"):
        assert stat.S_IMODE((tmp_path / app / ".jittask").stat().st_mode) == 0o700
