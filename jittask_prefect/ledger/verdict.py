"""The verdict: a table that says how a task and its flow run are brought together where they differ.

Pure: the callers ask the ledger and Prefect, and carry out the verdicts (`settlement`). The ledger is always first, so
a run that ended by its own doing while its task still waits shows that the ledger is an older copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import OPEN

TO_BEGIN = timedelta(minutes=3)
"""The longest time from Pending to the claim, where process or container are started only then."""
TO_BEGIN_WARM = timedelta(seconds=20)
"""The same in a pool of ours, whose worker has a process ready: with a sync each minute the task runs within 80 s."""
WARM = "jittask"
"""The type of a work pool of ours."""
QUIET = timedelta(seconds=25)
"""A batch of which no row was at work for so long has no process any more."""
CANCELLING = timedelta(seconds=15)
"""The time that a living process and its worker may take to end a run that is Cancelling."""
_NONE = timedelta()


class Verdict(Enum):
    """The next step for a task."""

    NOTHING = "nothing"
    ENTER = "write the run down as a task that needs another run"
    ANOTHER = "the task needs another run"
    RECORDED = "the task ended as the batch's table says, else it needs another run"
    RETRY = "the task waits again, with an attempt less"
    FAIL = "the task is an error: its worker died"
    CANCEL = "the task ends: a person cancelled its run"
    MARK = "the task ends: a person marked its run as completed"
    DONE = "the task was completed, which an older copy of the ledger does not know"
    FAILED = "the task failed, which an older copy of the ledger does not know"
    TIMED_OUT = "the task failed by its time limit, which an older copy of the ledger does not know"


class Reading(Enum):
    """A flow run, as far as its task is concerned."""

    MISSING = "there is none"
    WAITING = "it waits, is at work, or is being ended by us"
    OVERDUE = "it should have begun its task, and its worker has died"
    CANCELLING = "a person cancels it, and its process may still end by itself"
    CANCELLED = "a person cancelled it"
    WITHDRAWN = "we cancelled it"
    CRASHED = "its process died"
    COMPLETED = "it ran, and is completed"
    MARKED = "it never ran, and a person marked it as completed"
    FAILED = "it ran, and failed"
    TIMED_OUT = "it ran, and was stopped by the time limit"
    GAVE_UP = "it failed without running its task, or by our doing"


class Kind(Enum):
    """A task, as far as its flow run is concerned."""

    UNKNOWN = "the ledger has none"
    PENDING = "pending, with a flow run of its own"
    IN_BATCH = "pending, in a batch"
    ALIVE = "executing, and the lease holds"
    RETRIES = (
        "executing, its worker is dead; retries are left, or the function had not begun"
    )
    LAST = "executing, its worker is dead, no retries are left"
    UNREADABLE = (
        "executing, its worker is dead, and its template cannot be read just now"
    )
    FINAL = "completed, error or ended"


@dataclass(frozen=True)
class RunFacts:
    """Prefect's facts of a flow run.

    Attributes:
        state: The state's type; None where the run has no state yet.
        name: The state's name; Prefect renames states, so only `TimedOut` of a failed run is looked at.
        started: The run was Running once.
        ended_by_us: The label `jittask.ended`: whoever cancels a run may write any reason, and nobody writes a label.
        in_state: For how long the run is in that state.
        late: How long ago the run was due; negative before.
        pool: The type of its work pool; None where nobody asked for the pool.
        silent: Of a batch: for how long no row was at work; negative while a row is, None where none was.
    """

    state: str | None
    name: str = ""
    started: bool = False
    ended_by_us: bool = False
    in_state: timedelta = _NONE
    late: timedelta = _NONE
    pool: str | None = None
    silent: timedelta | None = None


def reading(run: RunFacts | None) -> Reading:
    """The reading of a flow run; None: there is no run."""
    if run is None:
        return Reading.MISSING
    match run.state:
        case "PENDING" | "RUNNING":
            return Reading.OVERDUE if _is_overdue(run) else Reading.WAITING
        case "CANCELLING" if run.in_state <= CANCELLING or _lives(run):
            return Reading.WAITING if run.ended_by_us else Reading.CANCELLING
        case "CANCELLING" | "CANCELLED":
            return Reading.WITHDRAWN if run.ended_by_us else Reading.CANCELLED
        case "CRASHED":
            return Reading.CRASHED
        case "COMPLETED":
            return Reading.COMPLETED if run.started else Reading.MARKED
        case "FAILED" if run.ended_by_us or not run.started:
            return Reading.GAVE_UP
        case "FAILED":
            return Reading.TIMED_OUT if run.name == "TimedOut" else Reading.FAILED
        case _:  # Scheduled, Paused, or none
            return Reading.WAITING


def _is_overdue(run: RunFacts) -> bool:
    if run.state == "RUNNING" and run.silent is not None:
        return run.silent > QUIET
    patience = TO_BEGIN_WARM if run.pool == WARM else TO_BEGIN
    return min(run.in_state, run.late) > patience


def _lives(run: RunFacts) -> bool:
    return run.silent is not None and run.silent < _NONE


def kind_of(
    status: str | None,
    *,
    in_batch: bool = False,
    alive: bool = True,
    attempt: int = 0,
    retries: int | None = 0,
    begun: bool = True,
) -> Kind:
    """The kind of a task.

    Args:
        status: The task's status; None where the ledger has no entry.
        in_batch: Its flow run is a batch's.
        alive: An executing task's lease holds, and nobody has reported the end of its process.
        attempt: How often the task was begun.
        retries: How often the task may be tried again; None where its template cannot be read just now.
        begun: An executing task's function has begun.
    """
    match status:
        case None:
            return Kind.UNKNOWN
        case "pending":
            return Kind.IN_BATCH if in_batch else Kind.PENDING
        case "executing" if alive:
            return Kind.ALIVE
        case "executing" if not begun:
            return Kind.RETRIES
        case "executing":
            if retries is None:
                return Kind.UNREADABLE
            return Kind.RETRIES if attempt <= retries else Kind.LAST
        case _:
            return Kind.FINAL


_ORDER = (Kind.UNKNOWN, Kind.PENDING, Kind.IN_BATCH, Kind.RETRIES, Kind.LAST)
_V = Verdict
_TABLE: dict[Reading, tuple[Verdict, ...]] = {
    #                    unknown     pending      in batch     retries   last
    Reading.MISSING: (_V.NOTHING, _V.ANOTHER, _V.ANOTHER, _V.RETRY, _V.FAIL),
    Reading.WAITING: (_V.NOTHING, _V.NOTHING, _V.NOTHING, _V.RETRY, _V.FAIL),
    Reading.OVERDUE: (_V.ENTER, _V.ANOTHER, _V.RECORDED, _V.RETRY, _V.FAIL),
    Reading.CANCELLING: (_V.NOTHING, _V.NOTHING, _V.NOTHING, _V.CANCEL, _V.CANCEL),
    Reading.CANCELLED: (_V.NOTHING, _V.CANCEL, _V.CANCEL, _V.CANCEL, _V.CANCEL),
    Reading.WITHDRAWN: (_V.NOTHING, _V.ANOTHER, _V.RECORDED, _V.RETRY, _V.FAIL),
    Reading.CRASHED: (_V.ENTER, _V.ANOTHER, _V.RECORDED, _V.RETRY, _V.FAIL),
    Reading.COMPLETED: (_V.NOTHING, _V.DONE, _V.RECORDED, _V.RETRY, _V.FAIL),
    Reading.MARKED: (_V.NOTHING, _V.MARK, _V.MARK, _V.RETRY, _V.FAIL),
    Reading.FAILED: (_V.NOTHING, _V.FAILED, _V.RECORDED, _V.RETRY, _V.FAIL),
    Reading.TIMED_OUT: (_V.NOTHING, _V.TIMED_OUT, _V.RECORDED, _V.RETRY, _V.FAIL),
    Reading.GAVE_UP: (_V.NOTHING, _V.ANOTHER, _V.RECORDED, _V.RETRY, _V.FAIL),
}


def verdict(task: Kind, run: Reading) -> Verdict:
    """The next step for a task, by its flow run.

    A living execution needs nobody; a task that has ended stays ended. A batch may be Completed while rows wait that
    joined too late: these get another run. A task whose own run is Completed was done.
    """
    if task in (Kind.ALIVE, Kind.FINAL):
        return Verdict.NOTHING
    if task is Kind.UNREADABLE:
        cancelled = run in (Reading.CANCELLING, Reading.CANCELLED)
        return Verdict.CANCEL if cancelled else Verdict.NOTHING
    return _TABLE[run][_ORDER.index(task)]


# The other direction: the right state of a flow run


@dataclass(frozen=True)
class RightState:
    """The state that a flow run is to have.

    Attributes:
        kind: Its type.
        also: Types that say the same.
        name: Its name, where that is not its type's.
        own: Why the ledger ended its tasks, where no person did; for the run's label.
    """

    kind: str
    also: tuple[str, ...] = ()
    name: str | None = None
    own: str | None = None


def right_state(tasks: Sequence[Entry]) -> RightState | None:
    """The state of a flow run by the tasks that the run was the last to execute; None while a task is open.

    Errors come first, then completed tasks. Of a batch whose rows were all ended, Completed is right too.
    """
    if not tasks or any(task.status in OPEN for task in tasks):
        return None
    number = Counter(task.status for task in tasks)
    batch = any(task.batch is not None for task in tasks)
    how = {task.outcome for task in tasks if task.status == "error"}
    if how == {"died"}:
        return RightState("CRASHED", ("FAILED",))
    if how:
        name = "TimedOut" if how == {"timeout"} and not batch else None
        return RightState("FAILED", ("CRASHED",), name)
    if number["completed"]:
        return RightState("COMPLETED")
    forced = any(task.outcome == "forced" for task in tasks)
    own = None if forced else str(tasks[0].outcome)
    return RightState("CANCELLED", ("COMPLETED",) if batch else (), own=own)


def summary(tasks: Sequence[Entry]) -> str:
    """How many rows of a batch ended how."""
    number = Counter(task.status for task in tasks)
    parts = [f"{count} {status}" for status, count in sorted(number.items())]
    return f"{len(tasks)} rows: {', '.join(parts)}"
