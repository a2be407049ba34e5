"""The deployments roll on: each sync renews their schedules, restores what was changed, makes good what was due.

What it knows from the last time stands in the ledger: until when all that was due was seen to have a run, and for each
deployment what it left on the server, so that a change of the template can be told from somebody's change in the UI.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from . import compile
from .elements.app import App
from .elements.types import DateFieldType, Meta
from .errors import ConfigError, PrefectApiError
from .prefect_api import Api
from .rollout import KEPT, Deployment, bring, deploy, differences, digest, of_file, of_server
from .rows import ledger
from .rows.ledger import entries
from .rows.sync import app_tag, fingerprint
from .schedule.instants import TICK
from .schedule.slots import SLUGS

MOST = 1000
"""Occurrences of one task that are made good after a time without a server; older ones are told, not made."""
TOLD = 5
"""Occurrences that a holiday move drops, which a changed schedule's log names."""
MARK, PREFIX = "rolled", "deployment:"
log = logging.getLogger("jittask")


@dataclass(frozen=True)
class Change:
    """What a sync did to one deployment: `renewed`, `changed`, `restored` or `made good`, and what it was about."""

    name: str
    what: str
    about: str

    def __str__(self) -> str:
        return f"{self.name} {self.what}: {self.about}"


@dataclass(frozen=True)
class _Known:
    """What the last sync left of a deployment.

    Args:
        timer: The template's fingerprint.
        since: When a sync first saw it: nothing earlier is ever made good.
        state: The digest of what was on the server.
    """

    timer: str
    since: datetime
    state: str


@dataclass
class _Look:
    """What a sync sees of one deployment.

    Args:
        entry: As it is to be.
        found: As it is.
        template: None for the sync itself.
        known: What is to be remembered of it.
        same: Whether the template is what it was.
        touched: Whether somebody else changed the deployment.
        names: What differs.
        due: The occurrences that must have runs, UTC.
        oldest: When the oldest run that waits was due, where the change may cost it.
    """

    entry: Deployment
    found: Deployment
    template: Meta | None
    known: _Known
    same: bool
    touched: bool
    names: list[str]
    due: list[datetime]
    oldest: datetime | None


def roll(app: App, api: Api, now: datetime) -> list[Change]:
    """Renew schedules before their horizon is used up, restore what was changed in Prefect, make good what was due.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.

    Returns:
        What was done; nothing where all was as it should be.

    Raises:
        PrefectApiError: Prefect cannot be reached; the next sync begins where this one did.
    """
    with app.engine().connect() as connection:
        mark, known = _remembered(connection)
    wanted = {d["name"]: d for d in compile.deployments(app, now)}
    there, changes = _restored(app, api, now, [name for name in wanted if name in known])
    gone = {change.name for change in changes}
    looks = {
        name: _look(app, api, entry, there[name], known.get(name), mark or now, now, gone=name in gone)
        for name, entry in wanted.items()
        if name in there  # new ones `jittask deploy` makes
    }
    lost = _lost(app, api, looks, now)
    left: dict[str, _Known] = {}
    for name, look in looks.items():
        try:
            changes += _put_right(app, api, name, look, lost.get(name, []), now, gone=name in gone)
            left[name] = look.known
        except PrefectApiError as error:
            api.ping()  # raises where it is not this deployment that is refused
            changes.append(Change(name, "refused", str(error)))
    with app.engine().begin() as connection:
        # A template with a slip in it is still the one that it was.
        _remember(connection, now, known, left, kept={*app.names("tasks"), compile.SYNC})
    return changes


def _look(
    app: App,
    api: Api,
    entry: Deployment,
    found: Deployment,
    before: _Known | None,
    mark: datetime,
    now: datetime,
    *,
    gone: bool,
) -> _Look:
    template = None if entry["name"] == compile.SYNC else app.template(entry["name"])
    timer, root = fingerprint(template) if template else "", compile.root_of(app)
    same = before is not None and before.timer == timer
    since = before.since if before is not None and same else now
    touched = gone or (before is not None and before.state != digest(of_server(found)))
    names = [name for name in differences(entry, found, root) if name in KEPT]
    look = _Look(
        entry, found, template, _Known(timer, since, digest(of_file(entry, root))), same, touched, names, [], None
    )
    if template is None or entry["paused"]:
        return look
    back = mark
    if touched and (names or gone):  # what waited may be gone with what somebody took away
        look.oldest = _oldest_waiting(api, found["id"], now)
        back = min(back, now - timedelta(seconds=template.cfg.missed.lookback), look.oldest or now)
    look.due = _due(template, max(since, back), now)
    return look


def _put_right(
    app: App, api: Api, name: str, look: _Look, lost: list[datetime], now: datetime, *, gone: bool
) -> list[Change]:
    """Change one deployment where it differs, and make its runs from what was lost on."""
    changes, root, deployment_id = [], compile.root_of(app), str(look.found["id"])
    start, entry = min([*lost, *filter(None, [look.oldest]), now]), look.entry
    if start < now and look.template is not None:
        entry = compile.deployment(app, look.template, start)  # the text must reach back to what it has to make
        look.known = replace(look.known, state=digest(of_file(entry, root)))
    if names := bring(api, entry, look.found, root, only=KEPT):
        word = "restored" if look.touched else "renewed" if look.same and names == ["schedules"] else "changed"
        changes.append(Change(name, word, ", ".join(names)))
        _tell(look.template, now)
    if lost:
        span = f"{lost[0]:%Y-%m-%d %H:%M}" + (f" to {lost[-1]:%Y-%m-%d %H:%M}" if len(lost) > 1 else "")
        changes.append(Change(name, "made good", f"{len(lost)} due without a run, {span} UTC"))
    if (names or lost or gone) and not entry["paused"]:
        api.fill_schedule(deployment_id, start, until=now)
        if not set(SLUGS) <= {slot.get("slug") for slot in look.found.get("schedules") or []}:
            _drop_doubles(api, deployment_id, start)
    return changes


def _restored(app: App, api: Api, now: datetime, known: list[str]) -> tuple[dict[str, Any], list[Change]]:
    """The deployments on the server, after those that were there once are there again."""
    there = api.deployments(app_tag(app))
    gone = [name for name in known if name not in there]
    if not gone:
        return there, []
    try:
        deploy(app, api, now)
    except ConfigError as error:
        return there, [Change(name, "not restored", str(error)) for name in gone]
    return api.deployments(app_tag(app)), [Change(name, "restored", "the deployment was gone") for name in gone]


def _due(template: Meta, after: datetime, now: datetime) -> list[datetime]:
    """A template's occurrences after an instant and up to now, UTC; the latest MOST of them."""
    if isinstance(template, DateFieldType) or type(template).getNextRunTime is not Meta.getNextRunTime:
        return []
    found = deque[datetime](maxlen=MOST)
    count = 0
    for count, due in enumerate(template.occurrences(after + TICK, now + TICK), 1):  # noqa: B007
        found.append(due.astimezone(UTC))
    if count > MOST:
        log.warning("%s: %d occurrences before %s are not made good", template.fullName, count - MOST, found[0])
    return list(found)


def _oldest_waiting(api: Api, deployment_id: str, now: datetime) -> datetime | None:
    """When the oldest run of a schedule that no worker began was due."""
    waiting = {"deployment_id": {"any_": [deployment_id]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    found = api.runs(flow_runs=waiting | _between(None, now), sort="EXPECTED_START_TIME_ASC", limit=1)
    return datetime.fromisoformat(found[0]["expected_start_time"]) if found else None


def _between(after: datetime | None, before: datetime | None) -> dict[str, Any]:
    bounds = {"after_": after, "before_": before}
    return {"expected_start_time": {name: at.isoformat() for name, at in bounds.items() if at is not None}}


def _lost(app: App, api: Api, looks: Mapping[str, _Look], now: datetime) -> dict[str, list[datetime]]:
    """Of each deployment what was due and has no run, nor had one that the ledger knows of."""
    due = {name: look.due for name, look in looks.items() if look.due}
    if not due:
        return {}
    first = min(times[0] for times in due.values())
    names = {str(looks[name].found["id"]): name for name in due}
    runs = api.runs(flow_runs={"deployment_id": {"any_": list(names)}} | _between(first, now))
    there = {(names[r["deployment_id"]], _instant(r)) for r in runs if r.get("auto_scheduled")}
    lost = {name: [at for at in times if (name, at) not in there] for name, times in due.items()}
    if not any(lost.values()):
        return {}
    query = select(entries.c.template, entries.c.due).where(
        entries.c.template.in_(lost), entries.c.row_key == "", entries.c.nominal.is_not(None), entries.c.due >= first
    )
    with app.engine().connect() as connection:
        done = {(r.template, r.due) for r in connection.execute(query)}
    return {name: [at for at in times if (name, at) not in done] for name, times in lost.items()}


def _drop_doubles(api: Api, deployment_id: str, start: datetime) -> None:
    """A slot that was made anew has another id, and makes runs anew for instants that had one: these go."""
    runs = api.runs(flow_runs={"deployment_id": {"any_": [deployment_id]}} | _between(start, None))
    taken = {_instant(r) for r in runs if r.get("auto_scheduled") and r["state_type"] != "SCHEDULED"}
    for run in runs:
        if run.get("auto_scheduled") and run["state_type"] == "SCHEDULED" and _instant(run) in taken:
            api.delete_run(run["id"])


def _instant(run: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(run["expected_start_time"]).astimezone(UTC)


def _tell(template: Meta | None, now: datetime) -> None:
    """Say in the log what a new schedule drops, and where it rests on holidays that are not published."""
    if template is None or isinstance(template, DateFieldType):
        return
    for warning in template.app.warnings(now, [template]):
        log.warning(warning)
    series = template.series()
    for item in islice(series.dropped(now, now + timedelta(days=400)), TOLD) if series else ():
        log.warning("%s: %s %s", template.fullName, f"{item.nominal:%Y-%m-%d %H:%M}", item.note)


def last_rolled(connection: Connection) -> datetime | None:
    """When a sync last did all this; None where none has."""
    mark = ledger.get(connection, MARK)
    return datetime.fromisoformat(mark) if mark else None


def _remembered(connection: Connection) -> tuple[datetime | None, dict[str, _Known]]:
    """When a sync last did all this, and what it left."""
    known = {}
    for name, text in ledger.starting_with(connection, PREFIX).items():
        about = json.loads(text)
        since = datetime.fromisoformat(about["since"])
        known[name.removeprefix(PREFIX)] = _Known(about["timer"], since, about["state"])
    return last_rolled(connection), known


def _remember(
    connection: Connection, now: datetime, known: Mapping[str, _Known], left: Mapping[str, _Known], kept: set[str]
) -> None:
    """Keep the instant and what was left; of the others only those in `kept`."""
    ledger.put(connection, MARK, now.isoformat())
    for name, about in left.items():
        if known.get(name) != about:
            text = {"timer": about.timer, "since": about.since.isoformat(), "state": about.state}
            ledger.put(connection, PREFIX + name, json.dumps(text))
    for name in set(known) - set(left) - kept:
        ledger.put(connection, PREFIX + name, None)
