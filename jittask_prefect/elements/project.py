"""Where an app is: a folder with app.json, or a project whose pyproject.toml has the table `[tool.jittask]`."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from jittask_prefect.elements.app_name import ENV_APP
from jittask_prefect.elements.json_files import is_file, read_json
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.validation import shown

APP_JSON, PYPROJECT, TABLE = "app.json", "pyproject.toml", "tool.jittask"
FLOWS, GENERATED = "flows", ".jittask"
_WRITE_TABLE = "the table [tool.jittask]; `jittask init --here` writes it"


@dataclass(frozen=True)
class Place:
    """The place of an app.

    Attributes:
        path: The folder of app.json or pyproject.toml. Relative SQLite paths begin there.
        file: The name of the file: app.json or pyproject.toml.
    """

    path: Path
    file: str = APP_JSON

    @property
    def in_project(self) -> bool:
        """Whether the app is a table of a project's pyproject.toml."""
        return self.file == PYPROJECT

    @property
    def elements(self) -> Path:
        """The folder of `models`, `services` and `tasks`. A project's own folders of these names are left alone."""
        return self.path / FLOWS if self.in_project else self.path

    @property
    def generated(self) -> Path:
        """The folder of the generated file with the flows."""
        return self.path / GENERATED if self.in_project else self.path

    def key(self, key: str) -> str:
        """A key of the app's configuration as messages name it."""
        return f"{TABLE}.{key}" if self.in_project and key else key

    def told(self, error: ConfigError) -> ConfigError:
        """An error of the app's configuration, its problems told of the file."""
        return ConfigError(
            p if p.file else Problem(self.file, self.key(p.key), p.found, p.allowed)
            for p in error.problems
        )

    def read(self) -> Any:
        """The app's configuration as it is written: app.json, or the table with the project's name for `name`.

        Raises:
            ConfigError: The file is missing, cannot be read, or has no table.
        """
        if not self.in_project:
            return read_json(self.path / self.file, self.file)

        whole = _read_toml(self.path / self.file)
        table = _table(whole)
        if table is None:
            raise ConfigError(
                Problem(self.file, "", "no table [tool.jittask]", _WRITE_TABLE)
            )

        if not isinstance(table, dict):
            raise ConfigError(Problem(self.file, TABLE, shown(table), "a table"))

        if "name" not in table:
            project = whole.get("project")
            named = project.get("name") if isinstance(project, dict) else None
            if isinstance(named, str):
                table = {"name": re.sub(r"[^A-Za-z0-9_-]+", "-", named)[:64], **table}

        return _as_json(table)


@dataclass(frozen=True)
class Project:
    """What a pyproject.toml says of its project: its name, empty where there is none, and whether it is an app."""

    name: str = ""
    has_table: bool = False


def project_of(file: Path) -> Project:
    """The project of a pyproject.toml; a missing file is a project without a name.

    Raises:
        ConfigError: The file cannot be read.
    """
    if not file.exists():
        return Project()

    whole = _read_toml(file)
    project = whole.get("project")
    named = project.get("name") if isinstance(project, dict) else None
    name = named if isinstance(named, str) else ""
    return Project(name, _table(whole) is not None)


def place_of(path: Path) -> Place:
    """The place that a path means: a folder, its `flows`, an app.json or a pyproject.toml."""
    folder = path.resolve()
    if folder.name in (APP_JSON, PYPROJECT) and not folder.is_dir():
        return Place(folder.parent, folder.name)

    found = _in_folder(folder)
    if found is None and is_file(folder / PYPROJECT):
        return Place(folder, PYPROJECT)  # without a table: reading tells
    return found or Place(folder)


def refuse_unreadable(folder: Path) -> None:
    """Refuse a path that Python cannot read in this locale: databases and Prefect take texts only.

    Raises:
        ConfigError: With the locale that helps.
    """
    try:
        str(folder.resolve()).encode()
    except UnicodeEncodeError:
        found = f"{str(folder)!r}, a path with bytes that this locale does not know"
        allowed = "such a path in a locale of UTF-8: `export LC_ALL=C.UTF-8`"
        raise ConfigError(Problem("", "", found, allowed)) from None


def find_place() -> Place:
    """The app that `JITTASK_APP`, or the nearest app.json or table of a pyproject.toml, names.

    Raises:
        ConfigError: Neither names an app.
    """
    if named := os.environ.get(ENV_APP):
        place = place_of(Path(named))
        if is_file(place.path / place.file):
            return place

        found = f"{named}, where no app.json is"
        allowed = "an app folder, its app.json, or a folder whose pyproject.toml has [tool.jittask]"
        raise ConfigError(Problem(ENV_APP, "", found, allowed))

    if (nearest := _nearest(Path.cwd())) is not None:
        return nearest

    found = f"none in {Path.cwd()} or above"
    allowed = (
        f"an app folder; {ENV_APP} points at one, `jittask init DIR` makes one, "
        "`jittask init --here` makes an existing project one"
    )
    raise ConfigError(Problem(APP_JSON, "", found, allowed))


def in_an_app() -> bool:
    """Whether `JITTASK_APP` is set, or an app is here or above."""
    return bool(os.environ.get(ENV_APP)) or _nearest(Path.cwd()) is not None


def _nearest(here: Path) -> Place | None:
    found = map(_in_folder, (here, *here.parents))
    return next(filter(None, found), None)


def _in_folder(folder: Path) -> Place | None:
    """The app of a folder; app.json, here or in `flows`, wins over a table."""
    for place in (Place(folder), Place(folder / FLOWS), Place(folder, PYPROJECT)):
        try:
            stands = (place.path / place.file).is_file()
        except OSError:
            stands = False

        if stands and (not place.in_project or _has_table(folder / PYPROJECT)):
            return place

    return None


def _has_table(file: Path) -> bool:
    """Whether a pyproject.toml has our table. A file that nobody can parse has it where its text names the table."""
    try:
        return _table(_read_toml(file)) is not None
    except ConfigError:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False

        return re.search(r"^\s*\[\s*tool\.jittask\b", text, re.MULTILINE) is not None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        found, allowed = f"{error}", "valid TOML"
    except UnicodeDecodeError as error:
        found, allowed = f"byte {error.start} is not UTF-8", "UTF-8 text"
    except FileNotFoundError:
        found, allowed = "no such file", f"a file with {_WRITE_TABLE}"
    except (OSError, RecursionError, ValueError) as error:
        found, allowed = str(error), "a TOML file that can be read"

    raise ConfigError(Problem(file.name, "", found, allowed))


def _table(whole: dict[str, Any]) -> Any:
    """The value of `tool.jittask`; None where there is none."""
    tools = whole.get("tool")
    return tools.get("jittask") if isinstance(tools, dict) else None


def _as_json(value: Any) -> Any:
    """A value of TOML with dates and times as app.json writes them."""
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, date | time):
        return value.isoformat()

    return value
