"""A task's folder, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..elements.app import App
from ..elements.check import of_template
from ..errors import ConfigError, Problem


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
    spare = Path(tempfile.mkdtemp(prefix=".new-", dir=tasks))  # no element's name: nobody reads it
    try:
        _write(spare, config, code)
        spare.chmod(0o755)
        folder = tasks / name
        try:
            spare.rename(folder)  # fails where a folder with anything in it has the name
        except OSError:
            raise taken(name) from None
        try:
            _sound(app, f"tasks.{name}")
        except BaseException:  # a Type of the app's own may raise anything
            shutil.rmtree(folder)
            app.forget(f"tasks.{name}")
            raise
        return folder
    finally:
        shutil.rmtree(spare, ignore_errors=True)


def taken(name: str) -> ConfigError:
    """What is said where a name is in use."""
    return ConfigError(Problem("", "name", name, "a name that no other element of tasks/ has"))


def change(app: App, full_name: str, config: dict[str, Any], code: str | None) -> None:
    """Write a task's e.json anew, and its inner.py where one is given.

    Raises:
        ConfigError: The task would not work; its files are as they were then.
    """
    folder = app.path / full_name.replace(".", "/")
    before = {file: file.read_bytes() if file.exists() else None for file in (folder / "e.json", folder / "inner.py")}
    with _undone(before, app, full_name):
        _write(folder, config, code)
        _sound(app, full_name)


@contextmanager
def _undone(before: dict[Path, bytes | None], app: App, full_name: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for file, content in before.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                _replace(file, content)
        app.forget(full_name)
        raise


def _write(folder: Path, config: dict[str, Any], code: str | None) -> None:
    if code:
        _replace(folder / "inner.py", code.encode())
    # Last: a folder without it is no element.
    _replace(folder / "e.json", (json.dumps(config, ensure_ascii=False, indent=2) + "\n").encode())


def _replace(file: Path, content: bytes) -> None:
    spare = file.with_name(f".{file.name}.{os.getpid()}")
    spare.write_bytes(content)
    spare.replace(file)


def _sound(app: App, full_name: str) -> None:
    app.forget(full_name)
    if problems := of_template(app.template(full_name)):
        raise ConfigError(problems)
