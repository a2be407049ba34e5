"""Opening hours at the begin of a task, and of its retries: late work outside the hours waits for the next opening."""

from __future__ import annotations

import logging
from datetime import datetime

from jittask_prefect.ledger import digest_calls
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.opening import retry_at_opening
from jittask_prefect.rows.opening import opening_of, waits_text
from jittask_prefect.running.calls import Call, End, Work
from jittask_prefect.running.order import Wait
from jittask_prefect.running.outcome import TAKEN, not_run

log = logging.getLogger("jittask")


def full(wait: Wait) -> Full:
    """Why a call that has to wait does not begin now."""
    return Full("queue", wait.reason, opening=wait.opening)


def opening_of_retry(work: Work, call: Call, at: datetime) -> datetime | None:
    """The last opening that the tasks of a failed call wait for: they are tried again together; None: none waits.

    Args:
        work: The flow run's surroundings.
        call: The call.
        at: When the call may be tried again.
    """
    at = max(at, work.clock())
    found = [opening_of(work.template, entry, at) for entry in call.tasks]
    return max(filter(None, found), default=None)


def leave_until(
    work: Work, owner: str, call: Call, opening: datetime, failed: str
) -> list[End]:
    """Have a failed call wait for an opening, in another flow run; how its tasks end in this one.

    Args:
        work: The flow run's surroundings.
        owner: Who executed the call.
        call: The call.
        opening: The instant.
        failed: Why the attempt failed.
    """

    def left(entry: Entry) -> End:
        why = waits_text(work.template, entry, opening)
        message = f"attempt {call.attempt} failed ({failed}); {why}"
        task = (entry.task_id, owner, opening, message)
        mine = retry_at_opening(connection, *task)
        return entry, not_run(message) if mine else TAKEN

    log.warning("%s is tried again at its opening, %s", work.named(call), opening)
    with work.app.engine(work.database).begin() as connection:
        digest_calls.lock(connection, call.ids)
        return [left(entry) for entry in call.tasks]
