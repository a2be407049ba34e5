"""Arguments of the task service, read and checked: times, keyword arguments, texts, rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy import select
from sqlalchemy import types as sa_types
from sqlalchemy.exc import OperationalError, StatementError
from sqlalchemy.orm import Session, object_session

from jittask_prefect.elements.app import App
from jittask_prefect.elements.models import new_row
from jittask_prefect.elements.registry import name_in
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import ArgumentError, InvalidTime
from jittask_prefect.errors.printable import has_controls
from jittask_prefect.filters.columns import columns
from jittask_prefect.schedule.instants import EARLIEST, LATEST, resolve
from jittask_prefect.validation import quoted, sanitized

MOST_BYTES = 60_000
"""MariaDB's TEXT holds 65,535 bytes."""
# ISO 8601 has a year alone, a week, or a time without its date too: here these are surely a slip.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII
)

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that no database takes: NUL, and halves of surrogate pairs."""


def instant(value: str | datetime, of: Meta | App) -> datetime:
    """A time from outside as an instant.

    Args:
        value: Text (`yyyy-MM-dd[ HH:mm[:ss]]`, ISO 8601) or a datetime; without an offset in the task's zone.
        of: The template, or the app, whose zone counts.

    Raises:
        InvalidTime: The value is neither, or lies outside the calendar.
    """
    found = value
    if isinstance(value, str):
        iso = value.strip() if _TIME.fullmatch(value.strip()) else ""
        try:
            found = datetime.fromisoformat(iso)
        except ValueError:
            raise InvalidTime(
                f"{quoted(value)} is no time; allowed: yyyy-MM-dd HH:mm:ss, or ISO 8601"
            ) from None

    if not isinstance(found, datetime):
        raise InvalidTime(
            f"{quoted(value)} is no time; allowed: yyyy-MM-dd HH:mm:ss, ISO 8601, or a datetime"
        )

    zone = of.timer.zone if isinstance(of, Meta) else of.zone
    try:
        at = found.astimezone(UTC) if found.tzinfo else resolve(found, zone)
        if EARLIEST <= at <= LATEST:
            return found if found.tzinfo else at
    except (OverflowError, ValueError):
        pass

    allowed = f"{EARLIEST.date()} to {LATEST.date()}, which each zone can show"
    raise InvalidTime(f"{quoted(value)} is out of range; allowed: {allowed}")


def opening_at(template: Meta, at: datetime, window: object) -> datetime | None:
    """The first instant from `at` on within the opening hours of a template, UTC; None where nobody asks for the hours.

    Raises:
        ArgumentError: The template has no opening hours, or they never open again.
    """
    if not isinstance(window, bool):
        raise ArgumentError(f"window {quoted(window)}; allowed: True or False")
    if not window:
        return None

    windows = template.timer.windows
    opening = windows.opening(at.astimezone(UTC)) if windows.active else None
    if opening is None:
        lacks = "whose hours never open again" if windows.active else "without any"
        raise ArgumentError(
            f"window True, of {template.fullName} {lacks}; allowed: a task with `window`, its opening hours"
        )
    return opening


def arguments(argDict: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keyword arguments of a function.

    Raises:
        ArgumentError: They are no dict of names, or JSON cannot hold them.
    """
    if argDict is not None and not isinstance(argDict, Mapping):
        raise ArgumentError(
            f"argDict {type(argDict).__name__}; allowed: a dict of keyword arguments"
        )

    found = dict(argDict or {})
    if not all(isinstance(k, str) for k in found):
        raise ArgumentError("argDict: its keys are names of arguments")

    problems = sanitized(found, "argDict")[1]
    if problems:
        raise ArgumentError("\n".join(map(str, problems)))

    try:
        text = json.dumps(found, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"the arguments (argDict) hold what JSON cannot: {error}"
        ) from None

    if (size := len(text.encode())) > MOST_BYTES:
        raise ArgumentError(
            f"argDict of {size:,} bytes as JSON; allowed: at most {MOST_BYTES:,}. Pass a key instead"
        )

    return found


def text(name: str, value: object) -> str:
    """A text of 1 to 255 characters without control characters.

    Raises:
        ArgumentError: The value is no such text.
    """
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{name} {quoted(value)}; allowed: a text")
    if len(value) > 255 or has_controls(value):
        raise ArgumentError(
            f"{name} {quoted(value)}; allowed: a text of at most 255 characters, none of control"
        )

    return value


def storable(name: str, value: str) -> str:
    """A text that every database takes."""
    if not value or UNSTORABLE.search(value):
        raise ArgumentError(
            f"{name} {quoted(value)}; allowed: a text without NUL and half a surrogate pair"
        )
    return value


def _model_of(app: App, data: Any) -> str | None:
    return None if data is None else name_in(app, type(data))


def _value(column: Any, key: str, value: Any) -> Any:
    """A dict's value as the column's type: dates may come as text."""
    type_ = getattr(
        column.type, "impl_instance", column.type
    )  # SQLModel wraps the database's own type
    if value is not None and isinstance(type_, (sa_types.Date, sa_types.DateTime)):
        kind = datetime if isinstance(type_, sa_types.DateTime) else date
        try:
            found = (
                kind.fromisoformat(value.strip()) if isinstance(value, str) else value
            )
        except ValueError:
            found = None

        if not isinstance(found, date):
            raise InvalidTime(
                f"{key} {quoted(value)}; allowed: ISO 8601, or a {kind.__name__}"
            )

        return found

    return storable(key, value) if isinstance(value, str) and value else value


def differs(before: Any, row: Any) -> bool:
    """Whether a row differs from its earlier values; an instance that was changed in place counts as different."""
    if before is row:
        return True

    mapped, state = columns(sa_inspect(type(row))), sa_inspect(row)
    # A deferred attribute that is not loaded has not been changed either, and may refuse to be loaded.
    known = [key for key in mapped if key in {*state.dict, *state.expired_attributes}]
    if isinstance(before, Mapping):
        return any(
            getattr(row, key) != _value(mapped[key].columns[0], key, before[key])
            for key in known
            if key in before
        )

    earlier = vars(before)
    return any(earlier.get(key) != getattr(row, key) for key in known)


def row_of(
    app: App, rowObj: Mapping[str, Any], first: str, second: str
) -> tuple[str, Any, Session | None]:
    """The model, the row, and the session that the row is in, of a `rowObj`.

    Args:
        app: The app.
        rowObj: `{prevData, postData}`.
        first: The side that the row is taken from.
        second: The side that may name the model.

    Raises:
        ArgumentError: `rowObj` names no row of a model of the app.
    """
    if not isinstance(rowObj, Mapping) or rowObj.get(first) is None:
        raise ArgumentError(
            f"rowObj needs {first}: a model instance, or a dict of its fields"
        )

    data, other = rowObj[first], rowObj.get(second)
    known = app.names("models")
    # A key `model` may be a column as well (of cars, say): only a name of the app's models names a model.
    named = (
        side.get("model") for side in (data, other, rowObj) if isinstance(side, Mapping)
    )
    model = (
        _model_of(app, data)
        or _model_of(app, other)
        or next((n for n in named if n in known), None)
    )
    if model not in known:
        raise ArgumentError(
            f"rowObj.{first} is {type(data).__name__}, of no model of the app; a dict needs the key `model`"
        )

    if not isinstance(data, Mapping):
        if _model_of(app, data) is None:
            raise ArgumentError(
                f"rowObj.{first} is {quoted(data)}; allowed: a model instance, or a dict of its fields"
            )

        return str(model), data, object_session(data)

    return str(model), _built(app, str(model), data), None


def in_a_session(values: Iterable[Any]) -> bool:
    """Whether any value is a `rowObj` with a row that belongs to a session."""
    sides = [
        side
        for value in values
        if isinstance(value, Mapping)
        for side in value.values()
    ]
    states = [
        sa_inspect(side, raiseerr=False) for side in sides if not isinstance(side, type)
    ]
    return any(getattr(state, "session", None) is not None for state in states)


def _built(app: App, model: str, data: Mapping[str, Any]) -> Any:
    """A row from a dict of its fields; other fields are read from the database."""
    cls = app.getElement(model)
    mapper = sa_inspect(cls)
    fields = {k: v for k, v in data.items() if k != "model" or v != model}
    known = columns(mapper)
    fields = {
        k: v for k, v in fields.items() if k in known or k not in mapper.column_attrs
    }
    if unknown := [name for name in fields if name not in known]:
        raise ArgumentError(
            f"{model} has no field {', '.join(map(quoted, unknown[:5]))}; it has {', '.join(known)}"
        )

    keys = [mapper.get_property_by_column(c).key for c in mapper.primary_key]
    if any(fields.get(k) is None for k in keys):
        raise ArgumentError(
            f"a row of {model} is named by {', '.join(keys)}; found {', '.join(fields) or 'nothing'}"
        )

    values = {k: _value(known[k].columns[0], k, v) for k, v in fields.items()}
    # Through SQL: an instance may have attributes that are not to be loaded.
    mine = [getattr(cls, key) == values[key] for key in keys]
    query = select(*(getattr(cls, key) for key in known)).where(*mine)
    with Session(app.engine(app.database_of(model))) as session:
        try:
            there = session.execute(query).one_or_none()
        except (TypeError, ValueError, OverflowError, StatementError) as error:
            if isinstance(error, OperationalError) or getattr(
                error, "connection_invalidated", False
            ):
                raise

            said = ", ".join(f"{k} {quoted(values[k])}" for k in keys)
            why = str(getattr(error, "orig", None) or error)[
                :200
            ]  # not the statement, which may not be shown
            raise ArgumentError(f"{model} has no row with {said}: {why}") from None

        stored = dict(zip(known, there, strict=True)) if there is not None else {}

    return new_row(cls, {**stored, **values})
