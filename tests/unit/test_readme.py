"""The README says what is: its examples are the demo's own files, and its outputs are what comes out."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO
from pathlib import Path

from typer.testing import CliRunner

from jittask_prefect import App
from jittask_prefect.cli import cli
from jittask_prefect.rows.tables import upgrade

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_e_json_is_the_demos_own() -> None:
    shown = json.loads(blocks("json")[0])
    real = json.loads((ROOT / "flows/tasks/ContractReminder/e.json").read_text(encoding="utf-8"))
    real["timerCfg"].pop("holidayPolicy")  # the README leaves the default out
    assert shown == real


def test_inner_py_is_the_demos_own_but_for_one_line() -> None:
    real = (ROOT / "flows/tasks/ContractReminder/inner.py").read_text(encoding="utf-8").splitlines()
    shown = blocks("python")[0].splitlines()
    assert shown[1:] == [line for line in real[1:] if "remindedAt" not in line]


def test_the_timer_prints_what_the_readme_says() -> None:
    code = blocks("python")[2]
    said = re.search(r"^# (.*)$", code, re.MULTILINE)
    out = StringIO()
    with redirect_stdout(out):
        exec(code, {})
    assert said is not None
    assert out.getvalue().strip() == said[1]


def test_the_preview_prints_what_the_readme_says(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(ROOT / "flows", tmp_path / "flows", ignore=shutil.ignore_patterns(".jittask", "*.db*"))
    app = App(tmp_path / "flows")
    upgrade(app, models=True)
    app.close()
    monkeypatch.setenv("JITTASK_APP", str(tmp_path / "flows"))
    exec(blocks("python")[1], {})
    with sqlite3.connect(tmp_path / "flows" / "shop.db") as connection:
        found = connection.execute(
            "SELECT row_key, coalesce(outcome, status), due FROM jittask_ledger "
            "WHERE template = 'tasks.ContractReminder' ORDER BY row_key"
        ).fetchall()
    (ada, missed, _), (li, pending, due) = found
    assert (ada, missed, li, pending) == ("41", "missed", "42", "pending")
    # 53 days ahead; a holiday moves it by ten days at most
    assert 52 <= (datetime.fromisoformat(due) - datetime.now()).days <= 63
    monkeypatch.setenv("COLUMNS", "120")
    command, *said = blocks("console")[0].splitlines()

    done = CliRunner().invoke(cli, command.removeprefix("$ jittask ").split())

    assert [line.rstrip() for line in done.stdout.splitlines()] == said


def test_every_file_that_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
