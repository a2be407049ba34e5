"""An app in a temporary folder, and a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from jittask_prefect.rows.databases import upgrade
from jittask_prefect.schedule import clock
from jittask_prefect.task_svc.wiring import App

Element = Mapping[str, str | Mapping[str, Any]]


def build_app(
    folder: Path,
    elements: Mapping[str, Element] | None = None,
    *,
    modules: Sequence[str | ModuleType] = (),
    ready: bool = True,
    **app_json: Any,
) -> App:
    """Write an app folder and load it.

    Args:
        folder: The app folder; made where missing.
        elements: `{"tasks/Daily": {"e.json": {…}, "inner.py": "…"}}`; JSON may be given as text, too.
        modules: Modules whose decorated functions are tasks, and whose mapped classes are models.
        ready: Make the tables of the ledger and of the models.
        app_json: Keys of app.json that differ from a plain app in UTC on SQLite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = {"name": "test", "timezone": "UTC"}
    plain["database"] = "sqlite:///test.db"
    if modules:
        names = [m if isinstance(m, str) else m.__name__ for m in modules]
        plain["modules"] = names

    (folder / "app.json").write_text(
        json.dumps({**plain, **app_json}), encoding="utf-8"
    )
    for place, files in (elements or {}).items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            text = content
            if not isinstance(content, str):
                text = json.dumps(content, ensure_ascii=False)

            (folder / place / name).write_text(str(text), encoding="utf-8")

    app = App(folder)
    if ready:
        upgrade(app, models=True)

    return app


@contextmanager
def at(now: datetime) -> Iterator[datetime]:
    """Let the clock stand still: all code that asks for the time, the model hooks too, gets this instant."""
    real, clock.now = clock.now, lambda: now
    try:
        yield now
    finally:
        clock.now = real
