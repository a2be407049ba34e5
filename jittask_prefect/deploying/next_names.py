"""Names of the next runs of schedules: Prefect gives them random words, a sync gives them title and due time.

Prefect changes one run a call, so only the next three runs of a task are named, and at most `MOST_TASKS` tasks in a sync. The
sync's own runs are named for half an hour ahead, every quarter of an hour. The state table
remembers until when the names of a task are known to be right; a sync with nothing to name asks nothing of Prefect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from pydantic import BaseModel

from jittask_prefect.deploying.deployments import SYNC
from jittask_prefect.deploying.renewal_memory import remembered
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.ledger import state_table
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows.flow_runs import due_name, sync_name
from jittask_prefect.schedule.instants import DAY

NEXT = 3
"""The runs of a task that are named ahead; Prefect keeps at least so many."""
MOST_TASKS = 66
"""The tasks whose runs are named in one sync: less than 200 changes."""
MOST = 200
"""The changes of one sync at most."""
SYNCS = 30
"""The sync's own runs that are named ahead; their schedule has a run each minute."""
MINUTE = timedelta(minutes=1)
MADE_AHEAD = timedelta(days=90)
"""Prefect makes no run that is due more than a hundred days ahead."""
AGAIN = timedelta(minutes=5)
"""When a sync looks again where Prefect has fewer runs than the schedule has occurrences."""
SPANS = (
    timedelta(minutes=5),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta.max,
)
"""Tasks of about the same pace are asked for together: a frequent task has a hundred runs in the time of one run of a rare task."""
MARK = "named:"


class Named(BaseModel, frozen=True):
    """The names of a task's runs, as a sync knows them.

    Attributes:
        until: When the names are looked at again: the first of the named runs is due then.
        updated: The server's time of the deployment's last change; after a change Prefect makes the runs anew.
    """

    until: datetime
    updated: str = ""


def name_next_runs(app: App, api: Api, now: datetime) -> int:
    """Name the next runs of the app's schedules; how many were named.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant, aware.

    Raises:
        PrefectApiError: Prefect refuses a change, or cannot be reached; the next sync goes on there.
    """
    with app.engine().connect() as connection:
        _, memories = remembered(connection, app.name)
        known = state_table.starting_with(connection, app.name, MARK)
    updated = {name: memory.updated for name, memory in memories.items()}
    names = {
        name.removeprefix(MARK): Named.model_validate_json(text)
        for name, text in known.items()
    }
    waiting = [
        template
        for template in app.templates()
        if template.fullName in updated
        and _is_named(template)
        and _waits(names.get(template.fullName), updated[template.fullName], now)
    ]
    waiting.sort(key=lambda each: _last_look(names.get(each.fullName)))
    named = _name(app, api, waiting[:MOST_TASKS], updated, now) if waiting else 0
    room = named + SYNCS <= MOST
    if room and SYNC in updated and _waits(names.get(SYNC), updated[SYNC], now):
        named += _name_syncs(app, api, updated[SYNC], now)
    return named


def _is_named(template: Meta) -> bool:
    """Whether a schedule of Prefect makes the template's runs."""
    rows = isinstance(template, DateFieldType)
    return template.enable and not (rows or template.by_code or template.own_times)


def _waits(known: Named | None, updated: str, now: datetime) -> bool:
    return known is None or known.until <= now or known.updated != updated


def _last_look(known: Named | None) -> datetime:
    return known.until if known else datetime.min.replace(tzinfo=UTC)


def _name(
    app: App,
    api: Api,
    templates: Sequence[Meta],
    updated: Mapping[str, str],
    now: datetime,
) -> int:
    times = {each.fullName: _next_times(each, now) for each in templates}
    for name in [name for name, due in times.items() if not due]:
        del times[name]
        _remember(app, name, Named(until=now + DAY, updated=updated[name]))
    named, there = 0, api.deployments(app_tag(app.name)) if times else {}
    for names in _by_pace(times, now):
        ids = {there[name].id: name for name in names if name in there}
        last = max(times[name][-1] for name in names)
        runs = _runs(api, ids, now, last) if ids else {}
        for name in names:
            mine, due = runs.get(name, [])[:NEXT], times[name]
            for run in mine:
                wanted = due_name(app, name, run.expected_start_time)
                named += _put_name(api, run, wanted)
            until = due[0] if len(mine) >= len(due) else now + AGAIN
            _remember(app, name, Named(until=until, updated=updated[name]))
    return named


def _next_times(template: Meta, now: datetime) -> list[datetime]:
    return [*islice(template.occurrences(now, now + MADE_AHEAD), NEXT)]


def _by_pace(
    times: Mapping[str, Sequence[datetime]], now: datetime
) -> Iterable[list[str]]:
    """The tasks in groups of about the same pace."""
    groups: dict[timedelta, list[str]] = defaultdict(list)
    for name, due in times.items():
        far = due[-1] - now
        groups[next(span for span in SPANS if far <= span)].append(name)
    return groups.values()


def _runs(
    api: Api, ids: Mapping[str, str], now: datetime, last: datetime
) -> dict[str, list[FlowRun]]:
    """The waiting runs that schedules have made, by task, the next first."""
    where: dict[str, Any] = {
        "deployment_id": {"any_": list(ids)},
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {
            "after_": now.isoformat(),
            "before_": last.isoformat(),
        },
    }
    found: dict[str, list[FlowRun]] = defaultdict(list)
    for run in api.runs(flow_runs=where, sort="EXPECTED_START_TIME_ASC"):
        if run.auto_scheduled:
            found[ids[str(run.deployment_id)]].append(run)
    return found


def _name_syncs(app: App, api: Api, updated: str, now: datetime) -> int:
    """Name the sync's own next runs; how many were named."""
    there = api.deployments(app_tag(app.name)).get(SYNC)
    if there is None:
        return 0
    last = now + SYNCS * MINUTE
    runs = _runs(api, {there.id: SYNC}, now, last).get(SYNC, [])
    named = sum(
        _put_name(api, run, sync_name(app, run.expected_start_time)) for run in runs
    )
    whole = len(runs) >= SYNCS // 2
    until = now + (SYNCS // 2 * MINUTE if whole else AGAIN)
    _remember(app, SYNC, Named(until=until, updated=updated))
    return named


def _put_name(api: Api, run: FlowRun, wanted: str) -> bool:
    """Name a run; True where the run had another name."""
    if run.name == wanted:
        return False
    api.name_run(run.id, wanted)
    return True


def _remember(app: App, name: str, named: Named) -> None:
    with app.engine().begin() as connection:
        state_table.put(connection, app.name, MARK + name, named.model_dump_json())
