"""Answers of Prefect's API as typed objects. They hold only the fields that this package reads.

`connection.Connection` checks each answer against its type. An answer of another shape (a proxy's page, an empty body,
another service's JSON) is refused there, once for every caller. Instants are aware; names are those of Prefect's API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Json, TypeAdapter

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
LIVE = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
OWN = "jittask.ended"
"""The label of a flow run that this package ends by itself. Unlike a message, nobody writes a label in the UI."""

# Null is read as empty.
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Object = Annotated[
    Mapping[str, Any], BeforeValidator(lambda value: {} if value is None else value)
]


@dataclass(frozen=True)
class State:
    """A state of a flow run.

    Attributes:
        type: `SCHEDULED`, `PENDING`, `RUNNING`, `COMPLETED`, …
        name: The name in the UI, e.g. `Late` or `TimedOut`.
        message: The reason; empty where none was given.
        timestamp: When the run entered the state.
    """

    type: str
    name: Text = ""
    message: Text = ""
    timestamp: AwareDatetime | None = None


@dataclass(frozen=True)
class FlowRun:
    """A flow run.

    Attributes:
        expected_start_time: When the run is due.
        auto_scheduled: Whether a deployment's schedule made the run.
        start_time: When the run began; of a run that ended before it began, when it ended.
        run_count: How often the run was Running.
    """

    id: str
    name: str
    state: State
    expected_start_time: AwareDatetime
    tags: tuple[str, ...] = ()
    deployment_id: str | None = None
    idempotency_key: str | None = None
    work_pool_name: str | None = None
    parameters: Object = field(default_factory=dict)
    labels: Object = field(default_factory=dict)
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None
    created: AwareDatetime | None = None
    auto_scheduled: bool = False
    run_count: int = 0

    @property
    def state_type(self) -> str:
        """The type of the run's state."""
        return self.state.type

    @property
    def state_name(self) -> str:
        """The name of the run's state."""
        return self.state.name

    @property
    def state_time(self) -> datetime | None:
        """When the run entered its state."""
        return self.state.timestamp

    @property
    def message(self) -> str:
        """The message of the run's state."""
        return self.state.message

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.state.type in TERMINAL

    @property
    def ended_by_us(self) -> bool:
        """Whether this package ended the run: the label `OWN` says why; the label is empty once the run begins again."""
        return bool(self.labels.get(OWN))

    def in_state(self, kind: str, message: str) -> FlowRun:
        """The run as in another state."""
        return replace(self, state=State(kind, kind.title(), message))


@dataclass(frozen=True)
class Schedule:
    """A schedule of a deployment; `schedule` is the API's own form of an interval, a cron or an rrule."""

    id: str
    active: bool
    schedule: Mapping[str, Any]
    slug: str | None = None
    parameters: Object = field(default_factory=dict)


@dataclass(frozen=True)
class ServerDeployment:
    """A deployment on the server.

    Attributes:
        paused: Whether the schedules rest.
        parameter_openapi_schema: The form of the parameters, as JSON schema.
        updated: When the deployment changed last.
    """

    id: str
    name: str
    tags: tuple[str, ...]
    schedules: tuple[Schedule, ...]
    description: Text = ""
    entrypoint: str | None = None
    parameters: Object = field(default_factory=dict)
    parameter_openapi_schema: Object = field(default_factory=dict)
    job_variables: Object = field(default_factory=dict)
    paused: bool = False
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    pull_steps: Sequence[Any] | None = None
    created: AwareDatetime | None = None
    updated: AwareDatetime | None = None


@dataclass(frozen=True)
class LogLine:
    """A line of a flow run's log; `level` as in `logging`."""

    message: str
    level: int
    timestamp: AwareDatetime | None = None


@dataclass(frozen=True)
class TaskRun:
    """A task run of a flow run: a row of a batch."""

    id: str
    name: str


@dataclass(frozen=True)
class StateChange:
    """The answer to a proposed state; `state` is the state that the server set."""

    status: str
    state: State | None


@dataclass(frozen=True)
class WorkPool:
    """A work pool."""

    type: str


@dataclass(frozen=True)
class Worker:
    """A worker; `status`: `ONLINE` or `OFFLINE`."""

    status: str


@dataclass(frozen=True)
class WorkQueue:
    """A work queue; the lowest priority is served first.

    Attributes:
        status: `READY` where a worker asked within the last minute, `NOT_READY` or `PAUSED`.
    """

    name: str
    priority: int
    status: str | None = None


@dataclass(frozen=True)
class NamedFlow:
    """A flow."""

    name: str


@dataclass(frozen=True)
class Variable:
    """A variable of the server; `value` is any JSON."""

    value: Any


@dataclass(frozen=True)
class Table:
    """An artifact that is a table; Prefect keeps the rows as a text of JSON."""

    data: Json[list[dict[str, Any]]]


@dataclass(frozen=True)
class Made:
    """An object of which only the id is read."""

    id: str


@dataclass(frozen=True)
class EventPage:
    """A page of events."""

    events: list[Mapping[str, Any]]


@dataclass(frozen=True)
class BlockType:
    """The type of a block."""

    slug: str


@dataclass(frozen=True)
class Block:
    """A block, e.g. a Slack webhook."""

    id: str
    block_type: BlockType
    name: str | None = None


@dataclass(frozen=True)
class CsrfToken:
    """A token against forged requests."""

    token: str


flow_run = TypeAdapter(FlowRun).validate_python
"""Reads a flow run from the API's JSON; raises ValueError where the JSON is no flow run."""
