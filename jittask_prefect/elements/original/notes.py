"""What `check` says at its end of an app in JitTask's form: the parts that are not carried over, each with the next step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Enum as EnumType
from sqlalchemy import inspect as sa_inspect

from jittask_prefect.elements.built_in import NotMapped
from jittask_prefect.elements.json_files import read_json
from jittask_prefect.elements.original.original_keys import (
    OF_ALL,
    advice,
    names_service_function,
)
from jittask_prefect.elements.original.source_notes import (
    CARRIED,
    notes_of,
    reads_of_value,
)
from jittask_prefect.elements.original.virtual_modules import COMMONS, ELEMENTS
from jittask_prefect.errors import JittaskError
from jittask_prefect.schedule.reading import stray_end_offset

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

SHOWN = 3
"""Places of a note that are named."""
Found = Iterator[tuple[str, str]]
File = tuple[str, str, Mapping[str, Any]]


def notes(app: App) -> list[str]:
    """Parts of the app that have no meaning here, or another: each with its places, and with what to do."""
    files = list(_files(app))
    found = [*_of_files(app, files), *_of_models(app), *_of_code(app)]
    places: dict[str, list[str]] = {}
    for place, text in [*_of_keys(files), *found, *_of_row_style(app)]:
        if place not in places.setdefault(text, []):
            places[text].append(place)

    return [f"{_listed(each)}: {text}" for text, each in places.items()]


def _listed(places: list[str]) -> str:
    more = len(places) - SHOWN
    return ", ".join(places[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _files(app: App) -> Iterator[File]:
    """The files e.json: path, folder and content of each."""
    for folder in ELEMENTS:
        for name in app.names(folder):
            where = f"{name.replace('.', '/')}/e.json"
            try:
                raw = read_json(app.folder / where, where)
            except JittaskError:
                continue  # a mistake, or a service that is one file

            if isinstance(raw, Mapping):
                yield where, folder, raw


def _of_keys(files: list[File]) -> Found:
    """The keys without meaning; those with one advice share a note."""
    keys: dict[str, list[str]] = {}
    places: list[tuple[str, str]] = []
    for where, folder, raw in files:
        known = advice(folder)
        for key in filter(known.__contains__, raw):
            text = known[key]
            places.append((where, text))
            if key not in keys.setdefault(text, []):
                keys[text].append(key)

    for where, text in places:
        yield where, f"{', '.join(keys[text])}: {text}"


def _of_files(app: App, files: list[File]) -> Found:
    for where, folder, raw in files:
        inner = (app.folder / where).with_name("inner.py").is_file()
        found = _of_values(app, folder, raw, has_inner=inner)
        yield from ((where, text) for text in found)


def _of_values(
    app: App, folder: str, raw: Mapping[str, Any], *, has_inner: bool
) -> Iterator[str]:
    db = str(raw.get("db") or "") if folder == "models" else ""
    if db and db.removeprefix("databases.") not in app.cfg.databases:
        yield f"db {db!r} is no name of the app's databases; the rows are in the app's own database"

    if folder == "services":
        yield from _of_functions(raw.get("functionList"))
    if folder != "tasks":
        return

    # Only a folder of JitTask: here an absent `enable` is usual.
    if "enable" not in raw and ("taskFunc" in raw or OF_ALL.keys() & raw.keys()):
        yield "enable is absent, which means enabled here, and disabled in newer versions of JitTask; write 1 or 0"
    calls_service = raw.get("funcType") == "Global" or (
        names_service_function(raw) and not has_inner
    )
    if raw.get("taskFunc") and not calls_service:
        yield "taskFunc does nothing without funcType Global; the function of inner.py is called"

    timer = raw.get("timerCfg")
    if isinstance(timer, Mapping):
        yield from _of_end(timer)


def _of_end(timer: Mapping[str, Any]) -> Iterator[str]:
    """Keys of an end that JitTask leaves behind."""
    rows = "startField" in timer
    if timer.get("endOffset") is not None and stray_end_offset(timer, rows=rows):
        yield "endOffset does nothing without endField; take the key away, or name the field"
    if not rows and timer.get("endTimeType") is not None:
        yield "endTimeType does nothing in a scheduled task, whose endTime is its end; take the key away"


def _of_functions(functions: Any) -> Iterator[str]:
    for each in functions if isinstance(functions, list) else ():
        if isinstance(each, Mapping) and each.get("argsToDatatype"):
            yield (
                f"argsToDatatype of {each.get('name')} does nothing: arguments arrive as plain values; "
                "take datatypes.<Type>.new({}, value) in the function where its .value is read"
            )


def _of_models(app: App) -> Found:
    for name in app.names("models"):
        try:
            app.getElement(name)
        except NotMapped as error:
            [problem] = error.problems
            file = f"{name.replace('.', '/')}/model.py"
            yield file, f"{problem.found}, so no table; write {problem.allowed}"
        except JittaskError:
            continue


def _of_code(app: App) -> Found:
    methods = {
        name: {*dir(model), *CARRIED} for name, model in app.working_models().items()
    }
    for where, source in _sources(app):
        for line, text in notes_of(source, methods):
            yield f"{where}, line {line}", text


def _of_row_style(app: App) -> Found:
    """The advice to set `rowStyle`, once, where code reads `.value` of a row's field."""
    if app.cfg.rowStyle == "jit":
        return

    enums = set(_enum_fields(app))
    for where, source in _sources(app):
        for line, read in reads_of_value(source, enums):
            yield (
                f"{where}, line {line}",
                (
                    f"{read} is read as a field of JitTask's rows; for such code write "
                    f'"rowStyle": "jit" into {app.place.file}, else take the value without .value'
                ),
            )
            return


def _enum_fields(app: App) -> Iterator[str]:
    for model in app.working_models().values():
        for key, attribute in sa_inspect(model).column_attrs.items():
            kind = getattr(attribute.columns[0], "type", None)
            if isinstance(kind, EnumType) or _python_type(kind) is Enum:
                yield key


def _python_type(kind: Any) -> type[Any] | None:
    try:
        found: type[Any] = kind.python_type
    except (AttributeError, NotImplementedError):
        return None
    return Enum if issubclass(found, Enum) else found


def _sources(app: App) -> Iterator[tuple[str, bytes]]:
    """The Python files of elements and of `commons/`."""
    for folder in (*ELEMENTS, COMMONS):
        for file in sorted((app.folder / folder).rglob("*.py")):
            if (content := _content(file)) is not None:
                yield file.relative_to(app.folder).as_posix(), content


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
