"""`jittask stats` and `jittask records --open`: what they print, and what they refuse; neither needs a server."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jittask_prefect.cli.commands import cli
from jittask_prefect.testing import build_app

DAILY = {
    "e.json": {
        "type": "tasks.NormalType",
        "title": "Daily",
        "timerCfg": {
            "startTime": "2026-01-01 09:00:00",
            "repeat": {"repeatType": "day"},
        },
    },
    "inner.py": "def customFunc():\n    pass\n",
}
NOWHERE = "http://127.0.0.1:9/api"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = build_app(tmp_path / "app", {"tasks/Daily": DAILY}, timezone="Asia/Shanghai")
    path = made.path
    made.close()
    monkeypatch.setenv("JITTASK_APP", str(path))
    monkeypatch.setenv("PREFECT_API_URL", NOWHERE)
    return path


def test_stats_of_one_template_as_json(folder: Path) -> None:
    done = CliRunner().invoke(
        cli,
        [
            "stats",
            "tasks.Daily",
            "--from",
            "2026-09-01",
            "--to",
            "2026-09-03",
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    [found] = json.loads(done.stdout)
    assert (found["from"], found["to"]) == (
        "2026-09-01T00:00:00+08:00",
        "2026-09-03T00:00:00+08:00",
    )
    assert [day["date"] for day in found["days"]] == ["2026-09-01", "2026-09-02"]
    assert set(found["statuses"].values()) == {0}
    assert (found["duration"], found["lateness"], found["reasons"]) == (None, None, [])


def test_stats_of_all_templates_is_a_line_each(folder: Path) -> None:
    done = CliRunner().invoke(cli, ["stats"])
    assert done.exit_code == 0, done.output
    head, line = done.stdout.splitlines()
    assert head.split()[:3] == ["task", "completed", "error"]
    assert line.split() == ["tasks.Daily", "0", "0", "0", "0", "0", "0", "-", "-"]


def test_a_link_is_opened_and_printed(folder: Path, tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n', encoding="utf-8")
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    command = [
        sys.executable,
        "-m",
        "jittask_prefect.cli",
        "records",
        "tasks.Daily",
        "--status",
        "error",
        "--open",
    ]
    env = {**os.environ, "BROWSER": str(browser)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    link = "http://127.0.0.1:9/v2/runs?state=Failed,Crashed,TimedOut&tags=test.tasks.Daily&sort=START_TIME_DESC\n"
    assert (done.stdout, opened.read_text(encoding="utf-8")) == (link, link)
