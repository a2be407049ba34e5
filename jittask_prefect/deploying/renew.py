"""The deployments roll on: each sync renews their schedules, restores what was changed, makes good what was due.

What it knows from the last time stands in the ledger: until when all that was due was seen to have a run, and for each
deployment what it left on the server, so that a change of the template can be told from somebody's change in the UI.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from jittask_prefect.deploying import compile
from jittask_prefect.deploying.rollout import (
    KEPT,
    Deployment,
    bring,
    deploy,
    digest,
    fill_forms,
    of_file,
    of_server,
    present,
)
from jittask_prefect.dialogs.forms import DIALOGS
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, PrefectApiError
from jittask_prefect.ledger import state_table
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows.sync import fingerprint, rule_of
from jittask_prefect.schedule.instants import TICK

MOST = 1000
"""Occurrences of one task that are made good after a time without a server; older ones are told, not made."""
TOLD = 5
"""Occurrences that a holiday move drops, which a changed schedule's log names."""
MARK, PREFIX = "rolled", "deployment:"
TIMES = ("since", "upto", "following")
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
        timer: The rule in the template's fingerprint; empty while it is disabled.
        since: When a sync first saw it so: nothing earlier is ever made good.
        state: The digest of what was on the server.
        updated: When the server last changed it; empty where we did.
        upto: Until when all that was due was seen to have a run, where that is not the mark of all.
        following: What an own Type's `getNextRunTime` last said.
    """

    timer: str
    since: datetime
    state: str
    updated: str = ""
    upto: datetime | None = None
    following: datetime | None = None


@dataclass
class _Look:
    """What a sync sees of one deployment.

    Args:
        entry: As it is to be.
        found: As it is.
        template: None for the sync itself and the dialogs.
        known: What is to be remembered of it.
        word: What a change of it is called.
        again: Whether its future runs are to be made again, whatever differs.
        due: The occurrences that must have runs, UTC.
    """

    entry: Deployment
    found: Deployment
    template: Meta | None
    known: _Known
    word: str
    again: bool
    due: list[datetime]


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
        mark, known = _remembered(connection, app.name)
    wanted = {d["name"]: d for d in compile.deployments(app, now)}
    there, changes = _restored(
        app, api, now, {name: entry for name, entry in wanted.items() if name in known}
    )
    gone = {change.name for change in changes}
    looks: dict[str, _Look] = {}
    for name in (
        name for name in wanted if name in there
    ):  # new ones `jittask deploy` makes
        try:
            looks[name] = _look(
                app,
                wanted[name],
                there[name],
                known.get(name),
                mark or now,
                now,
                gone=name in gone,
            )
        except Exception as error:  # noqa: BLE001  a Type of the app's own may raise anything
            changes.append(Change(name, "left out", f"{type(error).__name__}: {error}"))
    lost, done = _lost(app, api, looks, now)
    left: dict[str, _Known] = {}
    for name, look in looks.items():
        try:
            changes += _put_right(app, api, name, look, lost.get(name, []), done, now)
            left[name] = look.known
        except PrefectApiError as error:
            api.ping()  # raises where it is not this deployment that is refused
            changes.append(Change(name, "refused", str(error)))
    fill_forms(app, api, there, now)
    _keep_queue(api, there.get(compile.SYNC))
    tasks = {*app.names("tasks"), compile.SYNC, *(dialog.name for dialog in DIALOGS)}
    for name in [
        n for n in set(known) - set(left) if n in tasks or not app.gone(n)
    ]:  # refused, or a slip in its files: looked at later, from then on
        left[name] = replace(known[name], upto=known[name].upto or mark)
    with app.engine().begin() as connection:
        _remember(connection, app.name, now, known, left)
    return changes


def _look(
    app: App,
    entry: Deployment,
    found: Deployment,
    before: _Known | None,
    mark: datetime,
    now: datetime,
    *,
    gone: bool,
) -> _Look:
    template = (
        app.template(entry["name"]) if entry["name"] in app.names("tasks") else None
    )
    # Other days of a calendar make other schedules, and no other template: what was due before stays due.
    timer = rule_of(fingerprint(template)) if template and template.enable else ""
    same = before is not None and before.timer == timer
    since = before.since if before is not None and same else now
    following = None
    if template is not None and template.own_times:
        # It may answer otherwise each time; what it said stands until it has come.
        said = before.following if before is not None and same else None
        following = (
            said
            if said is not None and said > now
            else compile.following(template, now)
        )
        entry = compile.deployment(app, template, now, following)
    updated = str(found.get("updated"))
    touched = gone or (
        before is not None
        and (
            before.state != digest(of_server(found))
            or before.updated not in ("", updated)
        )
    )
    state = digest(of_file(entry, compile.root_of(app)))
    look = _Look(
        entry,
        found,
        template,
        _Known(timer, since, state, updated, None, following),
        "",
        gone,
        [],
    )
    look.word = "restored" if touched else "renewed" if same else "changed"
    if template is not None and not entry["paused"]:
        back = before.upto or mark if before is not None else mark
        if touched:  # what waited may be gone with what somebody took away
            back = min(back, now - timedelta(seconds=template.cfg.missed.lookback))
        look.due = _due(template, max(since, back), now)
    return look


def _put_right(
    app: App,
    api: Api,
    name: str,
    look: _Look,
    lost: list[datetime],
    done: set[tuple[str, datetime]],
    now: datetime,
) -> list[Change]:
    """Change one deployment where it differs, and make its runs from what was lost on."""
    changes, root, deployment_id = [], compile.root_of(app), str(look.found["id"])
    start, entry = min([*lost, now]), look.entry
    if lost and look.template is not None:
        entry = compile.deployment(
            app, look.template, start
        )  # the text must reach back to what it has to make
        look.known = replace(look.known, state=digest(of_file(entry, root)))
    if names := bring(api, entry, look.found, root, only=KEPT):
        look.known = replace(look.known, updated="")
        word = (
            "changed"
            if look.word == "renewed" and names != ["schedules"]
            else look.word
        )
        changes.append(Change(name, word, ", ".join(names)))
        if word != "renewed":
            _tell(look.template, now)
    if lost:
        span = f"{lost[0]:%Y-%m-%d %H:%M}" + (
            f" to {lost[-1]:%Y-%m-%d %H:%M}" if len(lost) > 1 else ""
        )
        changes.append(
            Change(name, "made good", f"{len(lost)} due without a run, {span} UTC")
        )
        if len(lost) == MOST:
            log.warning("%s: what was due before %s is not made good", name, lost[0])
    if (names or lost or look.again) and not entry["paused"]:
        api.fill_schedule(deployment_id, start, until=now)
        if lost:
            _drop_doubles(
                api, deployment_id, start, now, {at for of, at in done if of == name}
            )
    return changes


def _restored(
    app: App, api: Api, now: datetime, wanted: Mapping[str, Deployment]
) -> tuple[dict[str, Any], list[Change]]:
    """The deployments on the server, after those that were there once are there again."""
    there, changes = api.deployments(app_tag(app.name)), list[Change]()
    for name in [name for name in wanted if name not in there]:
        try:
            if found := present(app, api, {name: wanted[name]}).get(name):
                there[name] = found  # somebody took our tag away
                continue
            deploy(app, api, now, only=[name])
            changes.append(Change(name, "restored", "the deployment was gone"))
        except (ConfigError, PrefectApiError) as error:
            api.ping()
            changes.append(Change(name, "not restored", str(error)))
    return (
        {**there, **api.deployments(app_tag(app.name))} if changes else there
    ), changes


def _keep_queue(api: Api, sync: Deployment | None) -> None:
    """Keep the sync's queue in front: `prefect deploy` makes a queue that is missing as the last one."""
    pool = sync.get("work_pool_name") if sync is not None else None
    if sync is not None and pool and sync.get("work_queue_name") == compile.QUEUE:
        api.ensure_queue(pool, compile.QUEUE)


def _due(template: Meta, after: datetime, now: datetime) -> list[datetime]:
    """A template's occurrences after an instant and up to now, UTC; the latest MOST of them.

    What an own Type decides is not known for the past.
    """
    if isinstance(template, DateFieldType) or template.own_times:
        return []
    return list(
        deque(
            (
                due.astimezone(UTC)
                for due in template.occurrences(after + TICK, now + TICK)
            ),
            maxlen=MOST,
        )
    )


def _lost(
    app: App, api: Api, looks: Mapping[str, _Look], now: datetime
) -> tuple[dict[str, list[datetime]], set[tuple[str, datetime]]]:
    """Of each deployment what was due and has no run, nor had one that the ledger knows of; and what it knows."""
    due = {name: look.due for name, look in looks.items() if look.due}
    if not due:
        return {}, set()
    first = min(times[0] for times in due.values())
    names = {str(looks[name].found["id"]): name for name in due}
    between = {"after_": first.isoformat(), "before_": now.isoformat()}
    runs = api.runs(
        flow_runs={
            "deployment_id": {"any_": list(names)},
            "expected_start_time": between,
        }
    )
    there = {
        (names[str(r.deployment_id)], _instant(r)) for r in runs if r.auto_scheduled
    }
    lost = {
        name: [at for at in times if (name, at) not in there]
        for name, times in due.items()
    }
    if not any(lost.values()):
        return {}, set()
    query = select(entries.c.template, entries.c.due).where(
        entries.c.template.in_(lost),
        entries.c.row_key == "",
        entries.c.nominal.is_not(None),
        entries.c.due >= first,
    )
    with app.engine().connect() as connection:
        done = {(r.template, r.due) for r in connection.execute(query)}
    return {
        name: [at for at in times if (name, at) not in done]
        for name, times in lost.items()
    }, done


def _drop_doubles(
    api: Api, deployment_id: str, start: datetime, now: datetime, done: set[datetime]
) -> None:
    """Making good makes runs for all instants from the first lost one on: those that had one, or are done, go again."""
    between = {"after_": start.isoformat(), "before_": now.isoformat()}
    where = {"deployment_id": {"any_": [deployment_id]}, "expected_start_time": between}
    runs = [run for run in api.runs(flow_runs=where) if run.auto_scheduled]
    runs.sort(
        key=lambda run: (run.state_type == "SCHEDULED", run.created)
    )  # the one that stands comes first
    taken = set(done)
    for run in runs:
        if run.state_type == "SCHEDULED" and _instant(run) in taken:
            api.delete_run(run.id)
        taken.add(_instant(run))


def _instant(run: FlowRun) -> datetime:
    return run.expected_start_time.astimezone(UTC)


def _tell(template: Meta | None, now: datetime) -> None:
    """Say in the log what a new schedule drops, and where it rests on holidays that are not published."""
    if template is None or isinstance(template, DateFieldType):
        return
    for warning in template.app.warnings(now, [template]):
        log.warning(warning)
    series = template.series()
    for item in (
        islice(series.dropped(now, now + timedelta(days=400)), TOLD) if series else ()
    ):
        log.warning(
            "%s: %s %s", template.fullName, f"{item.nominal:%Y-%m-%d %H:%M}", item.note
        )


def last_rolled(connection: Connection, app: str) -> datetime | None:
    """When a sync last did all this; None where none has."""
    mark = state_table.get(connection, app, MARK)
    return datetime.fromisoformat(mark) if mark else None


def _remembered(
    connection: Connection, app: str
) -> tuple[datetime | None, dict[str, _Known]]:
    """When a sync last did all this, and what it left."""
    known = {}
    for name, text in state_table.starting_with(connection, app, PREFIX).items():
        about = json.loads(text)
        times = {
            key: datetime.fromisoformat(about[key]) for key in TIMES if about.get(key)
        }
        known[name.removeprefix(PREFIX)] = _Known(**{**about, **times})
    return last_rolled(connection, app), known


def _remember(
    connection: Connection,
    app: str,
    now: datetime,
    known: Mapping[str, _Known],
    left: Mapping[str, _Known],
) -> None:
    state_table.put(connection, app, MARK, now.isoformat())
    for name, about in left.items():
        if known.get(name) != about:
            text = {
                k: v.isoformat() if isinstance(v, datetime) else v
                for k, v in asdict(about).items()
                if v
            }
            state_table.put(
                connection, app, PREFIX + name, json.dumps({"timer": "", **text})
            )
    for name in set(known) - set(left):
        state_table.put(connection, app, PREFIX + name, None)
