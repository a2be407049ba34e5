"""The folder of a task, written whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from jittask_prefect.dialogs.fields import Json
from jittask_prefect.elements.app import App
from jittask_prefect.elements.check import template_problems
from jittask_prefect.elements.files import replace_file
from jittask_prefect.elements.json_files import read_json
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import ConfigError, invalid


def folder_of(app: App, full_name: str) -> Path:
    """The folder of a task."""
    return app.folder / full_name.replace(".", "/")


def inner_file(app: App, full_name: str) -> Path:
    """The file of a task's own function."""
    return folder_of(app, full_name) / "inner.py"


def create(app: App, name: str, config: Json, code: str, now: datetime) -> Path:
    """Make the folder of a new task. Of two callers with the same name, only the first makes the task.

    Args:
        app: The app.
        name: The element's name, without `tasks.`.
        config: The e.json.
        code: The inner.py; empty for none.
        now: The present instant.

    Returns:
        The path of the folder.

    Raises:
        ConfigError: The name is taken, or the task does not work; nothing is left on the disk then.
    """
    tasks = app.folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    if name.casefold() in map(str.casefold, names_in_use(app)):
        raise taken(name)
    with _tried(app, f"tasks.{name}", config, code, now) as spare:
        spare.chmod(0o755)
        folder = tasks / name
        try:
            spare.rename(folder)  # fails where another folder with content has the name
        except OSError:
            raise taken(name) from None
        return folder


def names_in_use(app: App) -> list[str]:
    """The names that a new task may not have: of folders, broken ones too, and of decorated functions."""
    tasks = app.folder / "tasks"
    found = [place.name for place in tasks.iterdir()] if tasks.is_dir() else []
    return [*found, *(name.partition(".")[2] for name in app.names("tasks"))]


def taken(name: str) -> ConfigError:
    """The error of a name that is in use."""
    allowed = "a name that no other element of tasks/ has"
    return invalid("name", name, allowed)


def change(
    app: App, template: Meta, config: Json, code: str | None, now: datetime
) -> None:
    """Write a task's e.json anew, and its inner.py where code is given.

    Args:
        app: The app.
        template: The task that the form was compared with.
        config: The e.json.
        code: The inner.py; None leaves the present one.
        now: The present instant.

    Raises:
        ConfigError: The task would not work, or somebody changed its e.json just now; the files are as they were.
    """
    name = template.fullName
    folder = folder_of(app, name)
    with _tried(app, name, config, code or "", now):
        pass
    where = f"{name.replace('.', '/')}/e.json"
    if read_json(app.folder / where, where) != template.config:
        found = f"{name}, whose e.json somebody changed just now"
        raise invalid("Task", found, "a form that is filled in anew")
    inner = inner_file(app, name)
    before = inner.read_bytes() if code and inner.exists() else None
    try:
        _write(folder, config, code)
    except ConfigError:
        if before is not None:
            _replace(inner, before)
        raise
    finally:
        app.forget(name)


@contextmanager
def _tried(
    app: App, full_name: str, config: Json, code: str, now: datetime
) -> Iterator[Path]:
    """A spare folder with a task that works. No element has such a name, so nobody else reads the folder.

    Raises:
        ConfigError: The task does not work, or the folder cannot be written.
    """
    tasks = app.folder / "tasks"
    try:
        spare = Path(tempfile.mkdtemp(prefix=".new-", dir=tasks))
    except OSError as error:
        raise _not_written(tasks, error) from None
    try:
        _write(spare, config, code)
        inner = spare / "inner.py" if code else None
        with app.candidate(full_name, config, inner) as template:
            problems = template_problems(template, now)
        shutil.rmtree(spare / "__pycache__", ignore_errors=True)
        if problems:
            raise ConfigError(problems)
        yield spare
    finally:
        shutil.rmtree(spare, ignore_errors=True)


def _write(folder: Path, config: Json, code: str | None) -> None:
    if code:
        _replace(folder / "inner.py", code.encode())
    # The e.json comes last: a folder without e.json is no element.
    text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
    _replace(folder / "e.json", text.encode())


def _replace(file: Path, content: bytes) -> None:
    try:
        replace_file(file, content)
    except OSError as error:
        raise _not_written(file, error) from None


def _not_written(file: Path, error: OSError) -> ConfigError:
    return invalid(str(file), str(error), "a place that can be written")
