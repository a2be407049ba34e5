"""What must be true of each task that was ended, and of those beside it, said of what they left, not by the package."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from .campaign import NS, Campaign, Target
from .shop import BATCH, EVERY

ALIVE_SECONDS, KILLED_SECONDS = 5.0, 10.0
COUNTERS = ("Lost", "Dup", "Stale", "Ghost")
PENDING = "SELECT count(*) FROM jittask_ledger WHERE template = :name AND row_key = :row AND status = 'pending'"


@dataclass
class Verdict:
    """The counters, by what was killed before (`` where nothing was), and the seconds to the last sign of life."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def fail(self, killed: str, counter: str, what: str) -> None:
        self.counts.setdefault(killed, Counter())[counter] += 1
        self.found.append(f"{counter}: {what}")

    def total(self, counter: str) -> int:
        return sum(counts[counter] for counts in self.counts.values())


def judge(campaign: Campaign) -> Verdict:
    """Look at all that was ended, after the campaign has settled."""
    verdict = Verdict()
    returned, cancelled = (
        campaign.signs.counts("returned"),
        campaign.signs.counts("cancelled"),
    )
    for target in campaign.targets:
        if target.error:
            verdict.fail(target.killed, "errors", f"{target}: {target.error}")
        for place, task in enumerate(target.tasks):
            _task(campaign, verdict, target, place, task, returned)
        _hook(campaign, verdict, target, cancelled)
    for what, tasks in campaign.again.items():
        for task in tasks:
            _beside(campaign, verdict, what, task, returned)
    for run in campaign.open_runs():
        verdict.fail("", "open_runs", run)
    return verdict


def _task(
    campaign: Campaign,
    verdict: Verdict,
    target: Target,
    place: int,
    task: str,
    returned: Counter[str],
) -> None:
    sign, entry, killed = campaign.signs.of(task), campaign.entry(task), target.killed
    about = f"{target}{f', row {place} beside it' if place else ''}"
    status = entry.status if entry else "no entry"
    if (
        entry is None and target.carrier == EVERY
    ):  # its run was cancelled before anything of ours saw it
        status = "ended" if not sign.begun else "begun, and no entry"
    effects = len(sign.effects)
    if target.rows:
        row = target.rows[place]
        effects = _asked(campaign, "SELECT done FROM mark WHERE id = :row", row=row)
        following = _asked(campaign, PENDING, name=target.carrier, row=str(row))
        if following != 1:
            verdict.fail(
                killed, "next_occurrence", f"{about}: {following} next occurrences"
            )
        assert target.due is not None
    meant = place == 0 or target.whole
    verdict.statuses[f"{status}{'' if place == 0 else ' beside'}"] += 1
    if status == "ended" and meant:
        _gone(campaign, verdict, target, task, about)
        if target.rows and effects:
            verdict.fail(
                killed, "Ghost", f"{about}: is ended, and has {effects} effects"
            )
    elif status == "completed":
        if effects != 1:
            verdict.fail(
                killed,
                "Lost" if not effects else "Dup",
                f"{about}: completed with {effects} effects",
            )
        finished = (
            campaign.monotonic(entry.finished)
            if entry is not None and entry.finished
            else 0
        )
        # Where a batch is ended, one of its rows may have been done before, and the answer is of the others.
        after = not (target.whole and target.rows[1:]) or finished > target.said
        if (
            meant
            and after
            and target.answer.get("changed")
            and target.means != "cancel"
        ):
            verdict.fail(killed, "Ghost", f"{about}: completed though {target.answer}")
    elif status == "error" and killed == "worker":
        pass
    elif status == "error" and meant and entry is not None and entry.outcome == "died":
        verdict.fail(killed, "ended_as_died", f"{about}: {entry.message}")
    else:
        said = entry.message if entry else ""
        verdict.fail(
            killed,
            "Lost",
            f"{about}: {status}, {said}, begun {len(sign.begun)} times, {effects} effects",
        )
    if len(sign.begun) > 1 and status != "error":
        verdict.fail(killed, "begun_twice", f"{about}: begun {len(sign.begun)} times")
    if entry is not None and returned[task] != 1:
        verdict.fail(
            killed,
            "after_return",
            f"{about}: {status}, afterReturn called {returned[task]} times",
        )


def _gone(
    campaign: Campaign, verdict: Verdict, target: Target, task: str, about: str
) -> None:
    """Nothing of it lived longer than it may, nor after forcedEnd said that it was gone."""
    sign = campaign.signs.of(task)
    if not sign.begun:
        return
    seconds = max(0, campaign.signs.last(task) - _accepted(campaign, target, task)) / NS
    verdict.seconds.setdefault(target.killed, []).append(seconds)
    most = KILLED_SECONDS if target.killed else ALIVE_SECONDS
    if seconds > most:
        verdict.fail(
            target.killed,
            "Ghost",
            f"{about}: a sign of life {seconds:.2f} s after its end was asked for",
        )
    promised = (
        target.means != "cancel" and not target.error and target.answer.get("changed")
    )
    late = (campaign.signs.last(task) - target.said) / NS
    if promised and late > 0.1:  # how often its process is looked at, and some
        verdict.fail(
            target.killed,
            "Ghost",
            f"{about}: a sign of life {late:.2f} s after it was said to be gone",
        )
    if promised and min(sign.begun) > target.said:
        verdict.fail(target.killed, "Ghost", f"{about}: it began after it was ended")


def _accepted(campaign: Campaign, target: Target, task: str) -> int:
    """When the end was there: of a Cancel when Prefect had it, of the command, which is slow to start, the ledger."""
    entry = campaign.entry(task)
    if target.means == "cancel":
        taken = [campaign.monotonic(moment) for moment in campaign.cancelling(target)]
        return max(target.asked, min(taken, default=0))
    if target.means != "command" or entry is None or entry.finished is None:
        return target.asked
    return max(target.asked, campaign.monotonic(entry.finished))


def _hook(
    campaign: Campaign, verdict: Verdict, target: Target, cancelled: Counter[str]
) -> None:
    """on_cancellation: once where a run was ended that was at work; never twice."""
    entry = campaign.entry(target.tasks[0])
    run = (entry.flow_run_id if entry else None) or target.run_id
    times, sign = cancelled[run or ""], campaign.signs.of(target.tasks[0])
    died = (
        bool(sign.begun)
        and bool(sign.pids)
        and entry is not None
        and entry.status == "ended"
    )
    alone = target.carrier != BATCH or target.whole
    if times > 1 or (died and alone and not target.killed and times != 1):
        verdict.fail(
            target.killed,
            "on_cancellation",
            f"{target}: on_cancellation called {times} times",
        )


def _beside(
    campaign: Campaign, verdict: Verdict, what: str, task: str, returned: Counter[str]
) -> None:
    """A task that nobody ended, whose process was killed: it runs again, and has its effect once."""
    entry = campaign.entry(task)
    assert entry is not None
    effects = _asked(
        campaign, "SELECT done FROM mark WHERE id = :row", row=int(str(entry.row_key))
    )
    about = f"{what} killed beside {task}: {entry.status}, {entry.message}, {effects} effects"
    if effects != 1 or entry.status != "completed":
        verdict.fail(what, "Dup" if effects > 1 else "Lost", about)
    if returned[task] != 1:
        verdict.fail(
            what, "after_return", f"{about}, afterReturn called {returned[task]} times"
        )


def _asked(campaign: Campaign, statement: str, **values: Any) -> int:
    with campaign.ground.app.engine().connect() as connection:
        return int(connection.execute(text(statement), values).scalar() or 0)
