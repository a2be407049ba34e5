"""Answers of Prefect's API as typed objects. They hold only the fields that this package reads.

An answer of another shape (a proxy's page, an empty body, another service's JSON) raises `ValueError` here, once for
every caller; the client makes a `PrefectApiError` of the error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
LIVE = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
OWN = "jittask.ended"
"""The label of a flow run that this package ends by itself. Unlike a message, nobody writes a label in the UI."""

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """A state of a flow run.

    Attributes:
        type: `SCHEDULED`, `PENDING`, `RUNNING`, `COMPLETED`, …
        name: The name in the UI, e.g. `Late` or `TimedOut`.
        message: The reason; empty where none was given.
        timestamp: When the run entered the state; aware.
    """

    type: str
    name: str
    message: str
    timestamp: datetime | None


@dataclass(frozen=True)
class FlowRun:
    """A flow run; instants are aware, names are those of Prefect's API.

    Attributes:
        expected_start_time: When the run is due.
        auto_scheduled: Whether a deployment's schedule made the run.
    """

    id: str
    name: str
    deployment_id: str | None
    idempotency_key: str | None
    work_pool_name: str | None
    tags: tuple[str, ...]
    parameters: Mapping[str, Any]
    labels: Mapping[str, Any]
    expected_start_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    created: datetime | None
    auto_scheduled: bool
    state: State | None

    @property
    def state_type(self) -> str | None:
        """The type of the run's state; None where the run has no state yet."""
        return self.state.type if self.state else None

    @property
    def state_name(self) -> str | None:
        """The name of the run's state; None where the run has no state yet."""
        return self.state.name if self.state else None

    @property
    def message(self) -> str:
        """The message of the run's state."""
        return self.state.message if self.state else ""

    @property
    def state_time(self) -> datetime | None:
        """When the run entered its state."""
        return self.state.timestamp if self.state else None

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.state_type in TERMINAL

    def in_state(self, kind: str, message: str) -> FlowRun:
        """The run as it will be once it has entered a state."""
        return replace(self, state=State(kind, kind.title(), message, None))

    @property
    def ended_by_us(self) -> bool:
        """Whether this package ended the run: the label `OWN` is there."""
        return OWN in self.labels


@dataclass(frozen=True)
class LogLine:
    """A line of a flow run's log; `level` as in `logging`."""

    message: str
    level: int
    timestamp: datetime | None


class Fields:
    """The fields of a JSON object, each read as the type that the caller expects.

    Args:
        found: An answer, or a part of one.

    Raises:
        ValueError: The answer is no object; from the methods: the field has another type.
    """

    def __init__(self, found: Any) -> None:
        if not isinstance(found, dict):
            raise ValueError(f"{_kind(found)} instead of an object")
        self._found = found

    def text(self, key: str) -> str:
        """A text."""
        return self._typed(key, str)

    def optional_text(self, key: str) -> str | None:
        """A text or null."""
        return None if self._found.get(key) is None else self.text(key)

    def number(self, key: str) -> int:
        """A whole number."""
        return self._typed(key, int)

    def flag(self, key: str) -> bool:
        """A truth value; False where the field is absent."""
        return key in self._found and self._typed(key, bool)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """An object; empty where the field is null or absent."""
        return {} if self._found.get(key) is None else self._typed(key, dict)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self._typed(key, list)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(key)
        return tuple(values)

    def items(self, key: str) -> list[Any]:
        """A list."""
        return self._typed(key, list)

    def instant(self, key: str) -> datetime | None:
        """An aware instant, from ISO 8601, or null."""
        text = self.optional_text(key)
        try:
            instant = None if text is None else datetime.fromisoformat(text)
        except ValueError:
            raise self._wrong(key) from None
        if instant is not None and instant.tzinfo is None:
            raise self._wrong(key)
        return instant

    def inner(self, key: str) -> Fields | None:
        """An object within the object, or null."""
        return None if self._found.get(key) is None else Fields(self._typed(key, dict))

    def rows(self, key: str) -> list[dict[str, Any]]:
        """The rows of a table, which Prefect keeps as a text of JSON."""
        try:
            rows = json.loads(self.text(key))
        except ValueError:
            raise self._wrong(key) from None
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise self._wrong(key)
        return rows

    def _typed(self, key: str, kind: type[T]) -> T:
        value = self._found.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._wrong(key)
        return value

    def _wrong(self, key: str) -> ValueError:
        return ValueError(f"an object whose {key} is {_kind(self._found.get(key))}")


def flow_run(found: Any) -> FlowRun:
    """A flow run of the API's JSON.

    Raises:
        ValueError: The answer is no flow run.
    """
    run = Fields(found)
    # Only a run without a state lacks the expected start: nothing has scheduled the run yet.
    expected = run.instant("expected_start_time") or run.instant("created")
    if expected is None:
        raise ValueError("an object whose expected_start_time is nothing")
    return FlowRun(
        id=run.text("id"),
        name=run.text("name"),
        deployment_id=run.optional_text("deployment_id"),
        idempotency_key=run.optional_text("idempotency_key"),
        work_pool_name=run.optional_text("work_pool_name"),
        tags=run.texts("tags"),
        parameters=run.mapping("parameters"),
        labels=run.mapping("labels"),
        expected_start_time=expected,
        start_time=run.instant("start_time"),
        end_time=run.instant("end_time"),
        created=run.instant("created"),
        auto_scheduled=run.flag("auto_scheduled"),
        state=_state_of(run),
    )


def _state_of(run: Fields) -> State | None:
    kind, state = run.optional_text("state_type"), run.inner("state")
    if kind is None or state is None:
        return None
    return State(
        type=kind,
        name=run.optional_text("state_name") or kind.title(),
        message=state.optional_text("message") or "",
        timestamp=state.instant("timestamp"),
    )


def accepted_state(found: Any) -> str | None:
    """The type of the state that the server accepted; None where the server refused the change."""
    change = Fields(found)
    status, state = change.text("status"), change.inner("state")
    return state.text("type") if state is not None and status == "ACCEPT" else None


def log_line(found: Any) -> LogLine:
    """A line of a flow run's log."""
    line = Fields(found)
    return LogLine(
        line.text("message"), line.number("level"), line.instant("timestamp")
    )


def table_rows(found: Any) -> list[dict[str, Any]]:
    """The rows of an artifact that is a table."""
    return Fields(found).rows("data")


def identity(found: Any) -> str:
    """The id of an object."""
    return Fields(found).text("id")


def each(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    """A reader of a list, from the reader of an element."""

    def read_all(found: Any) -> list[T]:
        if not isinstance(found, list):
            raise ValueError(f"{_kind(found)} instead of a list")
        return [read(element) for element in found]

    return read_all


def number(found: Any) -> int:
    """A whole number."""
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError(f"{_kind(found)} instead of a number")
    return found


def unread(found: Any) -> Any:
    """An answer of any shape."""
    return found


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a truth value",
    type(None): "nothing",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")
