"""Why no task of a template can run: broken, and its tasks wait; or gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from jittask_prefect.elements.app import App
from jittask_prefect.testing import build_app

DAILY = {
    "type": "tasks.NormalType",
    "title": "Daily",
    "timerCfg": {
        "startTime": "2026-01-01 09:00:00",
        "repeat": {"repeatType": "day"},
    },
}


def app_with(folder: Path, code: str) -> App:
    daily = {"e.json": json.dumps(DAILY), "inner.py": code}
    return build_app(folder, {"tasks/Daily": daily}, ready=False)


def test_a_template_that_works_has_none(tmp_path: Path) -> None:
    app = app_with(tmp_path, "def customFunc(): return 1\ndef other(): return 2\n")
    assert app.fault("tasks.Daily") is None
    assert app.fault("tasks.Daily", "other") is None


def test_a_broken_template_is_still_there(tmp_path: Path) -> None:
    fault = app_with(tmp_path, "1 / 0\n").fault("tasks.Daily")
    assert fault is not None and not fault.gone and "ZeroDivisionError" in fault.reason


def test_a_missing_function_is_no_missing_template(tmp_path: Path) -> None:
    app = app_with(tmp_path, "def customFunc(): return 1\n")
    fault = app.fault("tasks.Daily", "other")
    assert fault is not None and not fault.gone and "'other'" in fault.reason


def test_a_removed_template_is_gone(tmp_path: Path) -> None:
    app_with(tmp_path, "def customFunc(): return 1\n")
    shutil.rmtree(tmp_path / "tasks" / "Daily")
    fault = App(tmp_path).fault("tasks.Daily")
    assert fault is not None and fault.gone
