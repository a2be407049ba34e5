"""A task's folder, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jittask_prefect.elements.app import App
from jittask_prefect.elements.check import template_problems
from jittask_prefect.elements.config import read_json
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import ConfigError, Problem


def create(app: App, name: str, config: dict[str, Any], code: str) -> Path:
    """Make the folder of a new task; of two that make the same, one does.

    Args:
        app: The app.
        name: The element's name, without `tasks.`.
        config: The e.json.
        code: The inner.py; empty: none.

    Raises:
        ConfigError: The name is taken, or the task does not work; nothing is left of it then.
    """
    tasks = app.path / "tasks"
    tasks.mkdir(exist_ok=True)
    if any(place.name.casefold() == name.casefold() for place in tasks.iterdir()):
        raise taken(name)
    with _spare(tasks) as spare:
        _write(spare, config, code)
        _sound(app, f"tasks.{name}", config, spare / "inner.py" if code else None)
        spare.chmod(0o755)
        folder = tasks / name
        try:
            spare.rename(
                folder
            )  # fails where a folder with anything in it has the name
        except OSError:
            raise taken(name) from None
        return folder


def taken(name: str) -> ConfigError:
    """What is said where a name is in use."""
    return ConfigError(
        Problem("", "name", name, "a name that no other element of tasks/ has")
    )


def change(app: App, template: Meta, config: dict[str, Any], code: str | None) -> None:
    """Write a task's e.json anew, and its inner.py where one is given.

    Args:
        app: The app.
        template: The task as the form was compared with it.
        config: The e.json.
        code: The inner.py; None: it stays.

    Raises:
        ConfigError: The task would not work, or its e.json was changed at this moment; its files are as they were then.
    """
    name = template.fullName
    folder = app.path / name.replace(".", "/")
    with _spare(app.path / "tasks") as spare:
        _write(spare, config, code or "")
        _sound(app, name, config, spare / "inner.py" if code else None)
    where = f"{name.replace('.', '/')}/e.json"
    if read_json(app.path / where, where) != template.config:
        changed = f"{name}, whose e.json somebody changed just now"
        raise ConfigError(Problem("", "Task", changed, "a form that is filled in anew"))
    before = (
        (folder / "inner.py").read_bytes()
        if code and (folder / "inner.py").exists()
        else None
    )
    try:
        _write(folder, config, code)
    except ConfigError:
        if before is not None:
            _replace(folder / "inner.py", before)
        raise
    finally:
        app.forget(name)


@contextmanager
def _spare(tasks: Path) -> Iterator[Path]:
    """A folder that no element's name is like: nobody reads what is tried out there."""
    try:
        spare = Path(tempfile.mkdtemp(prefix=".new-", dir=tasks))
    except OSError as error:
        raise _failed(tasks, error) from None
    try:
        yield spare
    finally:
        shutil.rmtree(spare, ignore_errors=True)


def _write(folder: Path, config: dict[str, Any], code: str | None) -> None:
    if code:
        _replace(folder / "inner.py", code.encode())
    # Last: a folder without it is no element.
    _replace(
        folder / "e.json",
        (json.dumps(config, ensure_ascii=False, indent=2) + "\n").encode(),
    )


def _replace(file: Path, content: bytes) -> None:
    """A file with other content, whole or not at all, with its mode; a link goes on to lead to it.

    Raises:
        ConfigError: It cannot be written.
    """
    file = file.resolve()
    spare = file.with_name(f".{file.name}.new-{os.getpid()}-{threading.get_ident()}")
    try:
        with spare.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        if file.exists():
            shutil.copymode(file, spare)
        spare.replace(file)
    except OSError as error:
        raise _failed(file, error) from None
    finally:
        spare.unlink(missing_ok=True)


def _failed(file: Path, error: OSError) -> ConfigError:
    return ConfigError(
        Problem("", str(file), str(error), "a place that can be written")
    )


def _sound(
    app: App, full_name: str, config: dict[str, Any], inner: Path | None
) -> None:
    """Whether a task would work, before it is there for anybody."""
    with app.candidate(full_name, config, inner) as template:
        problems = template_problems(template)
    shutil.rmtree(inner.with_name("__pycache__") if inner else "", ignore_errors=True)
    if problems:
        raise ConfigError(problems)
