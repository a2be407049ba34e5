"""Processes of this machine: their identity, and families of processes that end together."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass

import psutil

GRACE = 10.0  # seconds between SIGTERM and SIGKILL
POLL = 0.05  # seconds between two looks at something that cannot be awaited
# Linux reckons the start from the machine's own, which a step of the clock moves a little.
SAME_START = 1.5


@dataclass(frozen=True)
class Identity:
    """A process: pids are used again, so its start (seconds since 1970) belongs to its identity."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a living process; of no process where there is none of that pid."""
        process = living(pid)
        return cls(pid, process.create_time() if process else 0.0)

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        process = living(self.pid)
        return (
            process is not None
            and abs(process.create_time() - self.started) < SAME_START
        )


def living(pid: int) -> psutil.Process | None:
    """The process of a pid; None where there is none, or only a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (psutil.Error, ValueError):
        return None


class Family:
    """A process and its descendants: found by parent, by session, and by a mark in the environment.

    The family grows with each look: sessions outlive the parents that made them.

    Args:
        root: The first process; None where only marked ones are known.
        mark: The name of an environment variable.
        value: The variable's value.
    """

    def __init__(self, root: int | None, mark: str, value: str) -> None:
        self._root, self._mark, self._value = root, mark, value
        self._known = set() if root is None else {root}
        self._sessions = set(self._known)  # the root leads a session

    def members(self) -> list[psutil.Process]:
        """The members that live; never this process, its parents, or its session."""
        table = {}
        for process in psutil.process_iter(["ppid", "status", "environ"]):
            with contextlib.suppress(ProcessLookupError):
                table[process.pid] = process, os.getsid(process.pid)
        found = {
            pid
            for pid, (process, session) in table.items()
            if pid in self._known
            or session in self._sessions
            # None where the process is another user's.
            or (process.info["environ"] or {}).get(self._mark) == self._value
        }
        while (
            more := {p for p, (c, _) in table.items() if c.info["ppid"] in found}
            - found
        ):
            found |= more
        me = psutil.Process()
        found -= {me.pid, *(parent.pid for parent in me.parents())}
        members = [
            (process, session)
            for process, session in map(table.__getitem__, found & table.keys())
            if session != os.getsid(0)
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ]
        self._known = {process.pid for process, _ in members}
        self._sessions |= {session for _, session in members}
        return [process for process, _ in members]

    def end(self, *, root_first: bool = False) -> list[int]:
        """End the family: the root last, so that flow runs can still report how they end.

        Each member gets SIGTERM, and SIGKILL after `GRACE` seconds; interrupted meanwhile (a second Ctrl-C), SIGKILL at
        once.

        Args:
            root_first: The root ends its family itself, and gets twice the time for that.

        Returns:
            The pids that survive.
        """
        asked: dict[psutil.Process, float] = {}
        now = time.monotonic()
        alone = now + 2 * GRACE if root_first else now
        last, end = now + 3 * GRACE, now + 4 * GRACE
        members: list[psutil.Process] = []
        while now < end:
            try:
                if not (members := self.members()):
                    break
                now = time.monotonic()
                for member in self._next(members, now < alone, now > last):
                    # SIGTERM once and not by group: to Prefect's worker a second one means SIGKILL.
                    since = asked.setdefault(member, now)
                    if since == now:
                        send(member, signal.SIGTERM)
                    elif now > min(max(since + GRACE, alone), last):
                        send(member, signal.SIGKILL)
                time.sleep(POLL)
            except (KeyboardInterrupt, SystemExit):
                alone, last, end = 0.0, 0.0, now + GRACE
        return [member.pid for member in members]

    def _next(
        self, members: list[psutil.Process], root_first: bool, all_at_once: bool
    ) -> list[psutil.Process]:
        """The members to end now."""
        root = [member for member in members if member.pid == self._root]
        others = [member for member in members if member.pid != self._root]
        if all_at_once:
            return members
        return (root or others) if root_first else (others or root)


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal; a process that is gone, or another user's, is left alone."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)
