"""What the commands print of records: 40 and 80 columns, a closed pipe, an ASCII terminal, a folder that may not be written."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from place import ROWS, Place, scheduled
from rich.cells import cell_len
from surroundings import ASCII, Said, commands

from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute
from jittask_prefect.server.service import ServiceInfo

NAME = "tasks.RemindReader"
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class PrintedLoan(SQLModel, table=True):
    __tablename__ = "printedloan"
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
    reader: str = ""

    def who(self):
        if self.reader == "fails":
            raise RuntimeError(self.reader)
        return self.reader
"""
INNER = """
def customFunc(row):
    if row.reader.startswith("bad"):
        raise ValueError("no address " + "and more words " * 30 + "the end")
    return {"letter": "word " * 200 + "end"}
"""
READERS = {
    1: "王芳",
    2: "x" * 10_000,
    3: "bad \x1b[31m\x9b2J\n<b onclick=x>[y](z)",
    4: "محمد \u202eabc",
    5: "fails",
}
COMMANDS = (
    "records", f"records {NAME} --row 3", "records --utc", "row models.PrintedLoan 3", "row models.PrintedLoan 5",
    f"pending {NAME} --until 2100-01-01", "overview", "stats", f"stats {NAME}", "preview tasks.Daily", "calendar CN 2026",
    "doctor", "check", "sync --dry-run",
)  # fmt: skip
FITTED = ("records", "row")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    about = {"type": "models.NormalType", "title": "Loan", "rowLabel": "who"}
    task = {
        "type": ROWS, "title": "Remind the reader · 提醒读者", "modelPath": "models.PrintedLoan",
        "timerCfg": {"startField": "at"}, "dispatch": "row",
    }  # fmt: skip
    elements = {
        "models/PrintedLoan": {"e.json": about, "model.py": MODEL},
        "tasks/RemindReader": {"e.json": task, "inner.py": INNER},
        "tasks/Daily": scheduled("def customFunc():\n    return 1\n"),
    }
    folder = tmp_path_factory.mktemp("printed") / "app"
    made = Place.build(folder, elements, name="printed", timezone="UTC")
    made.deploy()
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    for key, reader in READERS.items():
        at = (
            now - timedelta(seconds=30) if key in (1, 3) else now + timedelta(hours=key)
        )
        made.save("PrintedLoan", id=key, at=at, reader=reader)
    made.sync()
    for entry in made.entries(NAME):
        if entry.row_key in ("1", "3"):
            run = Run(str(entry.flow_run_id), entry.due)
            execute(made.app, NAME, entry.task_id, run, lambda: datetime.now(UTC))
    yield made
    made.remove()


def environment(place: Place, **more: str) -> dict[str, str]:
    url = os.environ["PREFECT_API_URL"]
    return {"PREFECT_API_URL": url, "JITTASK_APP": str(place.app.path), **more}


def is_plain(said: Said, command: str) -> None:
    assert said.code == 0 or command in ("doctor", "check"), (command, said)
    assert "Traceback" not in said.all and "Exception ignored" not in said.all, said
    assert "\x1b[31m" not in said.all and "\x9b" not in said.all
    assert "\u202e" not in said.all


@pytest.mark.parametrize("columns", [40, 80])
def test_nothing_is_cut_and_records_fit(place: Place, columns: int) -> None:
    with commands(**environment(place, COLUMNS=str(columns))) as run:
        for command in COMMANDS:
            said = run(place.app.path, *command.split())
            is_plain(said, command)
            if command.split()[0] in FITTED:
                widest = max(map(cell_len, said.out.splitlines()))
                assert widest <= columns, command
                words = said.out.split()
                # The failure's reason, as the ledger has it.
                assert "end" in words or "--row" not in command, command
        whole = run(place.app.path, "records", NAME).out
    words = whole.split()
    for word in ("王芳", "(1)", "(3)", "completed", "error", "pending", "提醒读者"):
        assert word in words, whole
    assert words.count("more") == 30
    assert len(re.findall(r"\bword\b", whole)) == 200


def test_json_and_csv_are_whole(place: Place) -> None:
    with commands(**environment(place, COLUMNS="40")) as run:
        said = run(place.app.path, "records", NAME, "--json")
        found = {each["row"]: each for each in json.loads(said.out)}
        table = run(place.app.path, "records", NAME, "--csv").out
    assert found["1"]["label"] == "王芳"
    assert found["1"]["result"] == {"letter": "word " * 200 + "end"}
    assert found["2"]["label"] == "x" * 59 + "…"
    assert "label" not in found["5"]
    lines = {each["row"]: each for each in csv.DictReader(io.StringIO(table))}
    assert json.loads(lines["1"]["result"]) == found["1"]["result"]
    assert [lines[key]["label"] for key in "15"] == ["王芳", ""]


def test_a_terminal_of_ascii(place: Place) -> None:
    with commands(**environment(place, **ASCII)) as run:
        for command in COMMANDS:
            said = run(place.app.path, *command.split())
            is_plain(said, command)
            assert said.all.isascii(), command


def piped(place: Place, command: str, **more: str) -> Said:
    """A line of a shell, with `jittask` in a process of its own."""
    program = "from jittask_prefect.cli.commands import main; main()"
    line = command.replace("jittask", f"{sys.executable} -P -c '{program}'")
    env = {**os.environ, **environment(place, **more)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=place.app.path, env=env, capture_output=True, timeout=120
    )  # fmt: skip
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_stream_that_takes_ascii_only(place: Place) -> None:
    said = piped(place, f"jittask records {NAME}", PYTHONIOENCODING="ascii")
    is_plain(said, "records")
    assert said.all.isascii() and r"\u738b\u82b3 (1)" in said.out


def test_nobody_reads(place: Place) -> None:
    with commands(**environment(place)) as run:
        for command in COMMANDS:
            said = run(place.app.path, *command.split(), mode="broken out")
            assert said.code in (0, 1), said
            assert "Traceback" not in said.all and "Exception ignored" not in said.all


def test_the_head_of_a_pipe(place: Place) -> None:
    said = piped(place, "jittask records | head -1")
    assert said.out.startswith("due (UTC)"), said
    assert "Traceback" not in said.err and "Broken" not in said.err


def test_a_folder_that_may_not_be_written(place: Place) -> None:
    folder = place.app.path
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with commands(**environment(place)) as run:
            for command in COMMANDS:
                is_plain(run(folder, *command.split()), command)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
