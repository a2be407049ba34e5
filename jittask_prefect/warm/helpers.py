"""The processes that help a flow run, seen from the worker: they take rows beside the run's own process.

The own process leads: it asks for help, and ends after its helpers. After its death they end with their rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jittask_prefect.errors import JittaskError
from jittask_prefect.warm.child_process import ChildDied, ChildProcess
from jittask_prefect.warm.children import ChildPool
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.outage import Log

# For the rows that helpers execute when their leader has died, before the flow run's end is reported.
LAST_ROWS_SECONDS = 5.0


@dataclass
class LastRun:
    """The last flow run of a deployment that had rows, as its worker knows it.

    Attributes:
        pace: The time of a row, as in a job (`pipe.py`); empty where unknown.
        helpers: How many processes were asked for.
    """

    pace: Sequence[float] = ()
    helpers: int = 0

    @property
    def told(self) -> dict[str, Any]:
        """The message to the next flow run's process."""
        return {"pace": self.pace} if self.pace else {}


class Helpers:
    """The helpers of one flow run.

    Args:
        leader: The run's own process.
        job: The message that has a child execute the flow run.
        flow_file: The file that a helper has to load.
        children: The worker's processes.
        room: How many more processes the worker may have at work.
        log: The worker's.

    Attributes:
        known: The pace of rows, and how many processes were asked for.
    """

    def __init__(
        self,
        leader: ChildProcess,
        job: Mapping[str, Any],
        flow_file: FlowFile,
        children: ChildPool,
        room: Callable[[], int],
        log: Log,
    ) -> None:
        self._leader, self._job, self._flow_file = leader, job, flow_file
        self._children, self._room, self._log = children, room, log
        self._started = 0
        self._wanted = 0
        self._lacks = False  # the worker had no room for all
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_work: set[ChildProcess] = set()
        self._begun: set[ChildProcess] = set()
        self._leader_begun = False
        self.known = LastRun()
        leader.asked_for_help, leader.told_pace = self.want, self._told_pace
        leader.has_begun = self._begin

    @property
    def number(self) -> int:
        """How many processes help, or are on their way."""
        return len(self._tasks)

    def want(self, number: int) -> None:
        """Have so many helpers, as far as the worker has room; 0: no further helper begins."""
        self._wanted = number
        self.known.helpers = max(number, self.known.helpers)
        if number:
            self._fill()
        else:
            self.close()
        self._tell(asked=True)

    def offer(self) -> None:
        """Have those helpers that the worker had no room for; called when another run has ended."""
        if self._lacks:
            self._fill()
            self._tell()

    def _fill(self) -> None:
        while len(self._tasks) < self._wanted and self._room() > 0:
            self._started += 1
            task = asyncio.create_task(self._help(self._started))
            self._tasks.add(task)
        # Helpers that leave by themselves are not replaced: other tasks wait for their places.
        self._lacks = len(self._tasks) < self._wanted

    def _told_pace(self, pace: Sequence[float]) -> None:
        self.known.pace = pace

    def _begin(self) -> None:
        """Have the helpers begin that were there before the leader's first row."""
        self._leader_begun = True
        for child in self._at_work:
            child.send({"begin": True})

    def close(self) -> None:
        """Have no further helpers begin."""
        self._wanted, self._lacks = 0, False
        if not self._leader_begun:
            self._tell_enough()

    def _tell_enough(self) -> None:
        for child in self._at_work:
            child.send({"enough": True})

    def kill(self) -> None:
        """End all helpers at once, with their rows."""
        self.close()
        for child in self._at_work:
            child.kill()

    async def end(self) -> None:
        """Have the helpers of a leader that has died take no further rows; returns after some seconds at the latest."""
        self.close()
        self._tell_enough()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_ROWS_SECONDS)

    async def over(self) -> None:
        """Wait until the helpers have ended with their rows."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _help(self, number: int) -> None:
        dead: list[int] = []
        try:
            stale: str | None = "not begun"
            while stale and self._wanted:
                child = await self._children.acquire(self._flow_file)
                stale, died = await self._request(child, number)
                dead += [died] if died else []
        except JittaskError as error:
            self._log.warning("A helper does not start: %s", error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
            self._tell(dead=dead)

    async def _request(
        self, child: ChildProcess, number: int
    ) -> tuple[str | None, int | None]:
        """Have a child help; the reason why the child cannot, or its pid where it died."""
        if not self._wanted:
            self._children.release(child)
            return None, None
        pid = child.pid
        self._at_work.add(child)
        child.has_begun = partial(self._has_begun, child)
        try:
            early = {} if self._leader_begun else {"early": True}
            answer = await child.request({**self._job, "help": number, **early})
        except ChildDied as died:
            self._log.warning("Child %s, a helper, has ended with %s", pid, died)
            return None, pid
        finally:
            self._at_work.discard(child)
            self._begun.discard(child)
        stale = answer.get("stale")
        child.runs += not stale
        if stale:
            self._children.outdated(child, stale)
        else:
            self._children.release(child, answer.get("leave"))
        if failed := answer.get("failed"):
            self._log.error("Child %s could not help: %s", pid, failed)
        return stale, None

    def _has_begun(self, child: ChildProcess) -> None:
        if child in self._at_work:
            self._begun.add(child)
            self._tell()

    def _tell(self, *, asked: bool = False, dead: list[int] | None = None) -> None:
        """Tell the leader how many help."""
        begun = {"helpers": len(self._tasks), "begun": len(self._begun)}
        self._leader.send({**begun, "asked": asked, "dead": dead or []})
