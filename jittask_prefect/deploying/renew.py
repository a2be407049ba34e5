"""The sync's care for deployments: schedules renewed, changes in the UI restored, lost runs made again.

`renewal_memory.py` has what the last sync knew: by that content, a change of the template is told from somebody's change
in the UI.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy import select

from jittask_prefect.deploying.comparison import as_api, correct, digest, restored
from jittask_prefect.deploying.deploy import deploy, existing, fill_forms
from jittask_prefect.deploying.deployments import (
    SYNC,
    Deployment,
    deployments_now,
    of_template_at,
    own_names,
    own_next_time,
)
from jittask_prefect.deploying.open_tasks import open_tasks
from jittask_prefect.deploying.prefect_folder import root_of
from jittask_prefect.deploying.renewal_memory import Memory, remember, remembered
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, PrefectApiError
from jittask_prefect.ledger.tables import entries, of_app
from jittask_prefect.prefect_api.answers import FlowRun, ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag, first_queue
from jittask_prefect.rows.template_planner import fingerprint, rule_of
from jittask_prefect.schedule.instants import TICK

MOST_LOST = 1000
"""Occurrences of a task that are made again after a time without a server; the log names older occurrences."""
DROPPED_LOGGED = 5
"""Occurrences that a holiday policy drops, in the log of a changed schedule."""
DROPPED_WITHIN = timedelta(days=400)
log = logging.getLogger("jittask")


@dataclass(frozen=True)
class Change:
    """A sync's change of a deployment: `renewed`, `changed`, `restored` or `made good`, and its subject."""

    name: str
    kind: str
    subject: str

    def __str__(self) -> str:
        return f"{self.name} {self.kind}: {self.subject}"


@dataclass
class Review:
    """The findings of a sync about a deployment.

    Attributes:
        wanted: The app's deployment.
        there: The server's.
        template: The template; None for the sync and the dialogs.
        memory: The values to remember.
        cause: How a difference is called: `restored`, `renewed` or `changed`.
        refill: Whether the future runs are made again, even without a difference.
        due: The occurrences that must have runs, UTC.
        lost: Those of them that neither Prefect nor the ledger knows, in order.
        recorded: Those that the ledger knows.
    """

    wanted: Deployment
    there: ServerDeployment
    template: Meta | None
    memory: Memory
    cause: str
    refill: bool
    due: Sequence[datetime] = ()
    lost: list[datetime] = field(default_factory=list)
    recorded: set[datetime] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.wanted.name

    @property
    def id(self) -> str:
        """The deployment's id on the server."""
        return self.there.id


def renew(app: App, api: Api, now: datetime) -> list[Change]:
    """Renew schedules before they end, restore changes made in Prefect, make lost runs of due occurrences again.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant, aware.

    Returns:
        The changes; empty where every deployment was as the app wants.

    Raises:
        PrefectApiError: Prefect cannot be reached; the next sync begins at the same place.
    """
    with app.engine().connect() as connection:
        last, memories = remembered(connection, app.name)
    wanted = {entry.name: entry for entry in deployments_now(app, now)}
    known = {name: entry for name, entry in wanted.items() if name in memories}
    there, changes = _restore_missing(app, api, now, known)
    missing = {change.name for change in changes}
    reviews = []
    for name in wanted:
        if name not in there:  # `jittask deploy` makes new ones
            continue
        try:
            review = _review(app, wanted[name], there[name], memories.get(name), now)
            _require_runs(review, memories.get(name), last or now, now, name in missing)
            reviews.append(review)
        except Exception as error:  # noqa: BLE001  a Type of the app's own may raise anything
            changes.append(Change(name, "left out", f"{type(error).__name__}: {error}"))
    _find_lost(app, api, reviews, now)
    kept: dict[str, Memory] = {}
    for review in reviews:
        try:
            changes += _put_right(app, api, review, now)
            kept[review.name] = review.memory
        except PrefectApiError as error:
            api.ping()  # raises where more than this deployment is refused
            changes.append(Change(review.name, "refused", str(error)))
    forms = (wanted.values(), open_tasks(app, api, there))
    for name, refusal in fill_forms(app, api, there, now, *forms).items():
        changes.append(Change(name, "refused", f"its form: {refusal}"))
    try:
        _keep_queue_first(app, api, there.get(SYNC))
    except PrefectApiError as error:
        api.ping()
        changes.append(Change(SYNC, "refused", f"its queue: {error}"))
    # Refused templates, and templates with a mistake in their files: later syncs go on from here.
    for name in set(memories) - set(kept):
        if name in own_names() or not app.gone(name):
            until = memories[name].complete_until or last
            kept[name] = memories[name].model_copy(update={"complete_until": until})
    with app.engine().begin() as connection:
        remember(connection, app.name, now, memories, kept)
    return changes


def _restore_missing(
    app: App, api: Api, now: datetime, known: Mapping[str, Deployment]
) -> tuple[dict[str, ServerDeployment], list[Change]]:
    """The deployments on the server, once known deployments that somebody removed are there again."""
    changes: list[Change] = []
    there = dict(api.deployments(app_tag(app.name)))
    for name in [name for name in known if name not in there]:
        try:
            if found := existing(app, api, {name: known[name]}).get(name):
                there[name] = found  # somebody removed the app's tag
                continue
            deploy(app, api, now, only=[name])
            changes.append(Change(name, "restored", "the deployment was gone"))
        except (ConfigError, PrefectApiError) as error:
            api.ping()
            changes.append(Change(name, "not restored", str(error)))
    if changes:
        there |= api.deployments(app_tag(app.name))
    return there, changes


def _review(
    app: App,
    wanted: Deployment,
    there: ServerDeployment,
    before: Memory | None,
    now: datetime,
) -> Review:
    template = None if wanted.name in own_names() else app.template(wanted.name)
    # Other days of a calendar make other schedules and no other rule: earlier occurrences stay due.
    rule = rule_of(fingerprint(template)) if template and template.enable else ""
    same_rule = before if before is not None and before.rule == rule else None
    own_next = None
    if template is not None and template.own_times:
        # The Type may give another answer each time; the first answer holds until the instant has come.
        own_next = same_rule.own_next if same_rule else None
        if own_next is None or own_next <= now:
            own_next = own_next_time(template, now)
        rests = wanted.paused
        wanted = replace(of_template_at(template, now, own_next), paused=rests)
    memory = Memory(
        rule=rule,
        since=same_rule.since if same_rule else now,
        state=digest(wanted.as_api(root_of(app))),
        updated=str(there.updated),
        own_next=own_next,
    )
    cause = "renewed" if same_rule else "changed"
    return Review(wanted, there, template, memory, cause, refill=False)


def _require_runs(
    review: Review, before: Memory | None, last: datetime, now: datetime, missing: bool
) -> None:
    """Note which occurrences must have runs, and whether somebody changed the deployment on the server."""
    updated = review.memory.updated
    touched = missing or (
        before is not None
        and (
            before.state != digest(as_api(review.there))
            or before.updated not in ("", updated)
        )
    )
    review.refill = missing
    if touched:
        review.cause = "restored"
    template = review.template
    if template is None or not template.enable:
        return
    begin = (before.complete_until if before else None) or last
    if touched or review.wanted.paused:  # waiting runs may be gone with the change
        begin = min(begin, now - timedelta(seconds=template.cfg.missed.lookback))
    if review.wanted.paused:  # the app is: the end of the pause goes on from here
        begin = max(begin, review.memory.since)
        until = {"complete_until": begin}
        review.memory = review.memory.model_copy(update=until)
        return
    review.due = _due_between(template, max(review.memory.since, begin), now)


def _due_between(template: Meta, after: datetime, now: datetime) -> list[datetime]:
    """The latest occurrences of a schedule after an instant and up to now, UTC, `MOST_LOST` at most.

    The past of a Type with own times is not known.
    """
    if isinstance(template, DateFieldType) or template.own_times:
        return []
    found = template.occurrences(after + TICK, now + TICK)
    return list(deque((due.astimezone(UTC) for due in found), maxlen=MOST_LOST))


def _find_lost(app: App, api: Api, reviews: list[Review], now: datetime) -> None:
    """Note the due occurrences without a run in Prefect, and which of them the ledger knows."""
    due = {review.id: review for review in reviews if review.due}
    if not due:
        return
    first = min(review.due[0] for review in due.values())
    runs = set()
    for run in _scheduled_runs(api, list(due), first, now):
        runs.add((str(run.deployment_id), _instant(run)))
    for review in due.values():
        review.lost = [at for at in review.due if (review.id, at) not in runs]
    if not any(review.lost for review in due.values()):
        return
    query = select(entries.c.template, entries.c.due).where(
        of_app(app.name),
        entries.c.template.in_([review.name for review in due.values()]),
        entries.c.row_key == "",
        entries.c.nominal.is_not(None),
        entries.c.due >= first,
    )
    with app.engine().connect() as connection:
        recorded = {(name, at) for name, at in connection.execute(query)}
    for review in due.values():
        review.recorded = {at for name, at in recorded if name == review.name}
        review.lost = [at for at in review.lost if at not in review.recorded]


def _scheduled_runs(
    api: Api, deployment_ids: list[str], start: datetime, end: datetime
) -> Iterator[FlowRun]:
    """The runs that schedules have made for a span of time."""
    between = {"after_": start.isoformat(), "before_": end.isoformat()}
    where = {
        "deployment_id": {"any_": deployment_ids},
        "expected_start_time": between,
    }
    return (run for run in api.runs(flow_runs=where) if run.auto_scheduled)


def _put_right(app: App, api: Api, review: Review, now: datetime) -> list[Change]:
    """Change a deployment that differs, and make its runs from the first lost run on."""
    changes: list[Change] = []
    root, wanted = root_of(app), review.wanted
    name, lost = review.name, review.lost
    start = min([*lost, now])
    if lost and review.template is not None:
        # The schedule's text must reach back to the first run.
        wanted = of_template_at(review.template, start)
        state = digest(wanted.as_api(root))
        review.memory = review.memory.model_copy(update={"state": state})
    if names := correct(
        api, wanted, review.there, root, only=restored(wanted, review.there)
    ):
        review.memory = review.memory.model_copy(update={"updated": ""})
        if review.cause == "renewed" and names != ["schedules"]:
            review.cause = "changed"
        changes.append(Change(name, review.cause, ", ".join(names)))
        if review.cause != "renewed":
            _log_warnings(review.template, now)
    if lost:
        ends = dict.fromkeys((lost[0], lost[-1]))
        span = " to ".join(f"{at:%Y-%m-%d %H:%M}" for at in ends)
        told = f"{len(lost)} due without a run, {span} UTC"
        changes.append(Change(name, "made good", told))
        if len(lost) == MOST_LOST:
            log.warning("%s: what was due before %s is not made good", name, lost[0])
    if (names or lost or review.refill) and not wanted.paused:
        api.fill_schedule(review.id, start, until=now)
        if lost:
            _drop_doubles(api, review, start, now)
    return changes


def _drop_doubles(api: Api, review: Review, start: datetime, now: datetime) -> None:
    """Delete the runs that `fill_schedule` has made for instants with a run, or with a task in the ledger."""
    runs = list(_scheduled_runs(api, [review.id], start, now))
    # The run that began comes first, then the older run.
    runs.sort(key=lambda run: (run.state_type == "SCHEDULED", run.created))
    taken = set(review.recorded)
    for run in runs:
        if run.state_type == "SCHEDULED" and _instant(run) in taken:
            api.delete_run(run.id)
        taken.add(_instant(run))


def _instant(run: FlowRun) -> datetime:
    return run.expected_start_time.astimezone(UTC)


def _keep_queue_first(app: App, api: Api, sync: ServerDeployment | None) -> None:
    """Keep the sync's queue in front: `prefect deploy` makes a missing queue as the last."""
    queue = first_queue(app.name)
    if sync is None or sync.work_queue_name != queue:
        return
    if pool := sync.work_pool_name:
        api.ensure_queue(pool, queue, first=True)


def _log_warnings(template: Meta | None, now: datetime) -> None:
    """Log the occurrences that a new schedule drops, and holidays that are not published yet."""
    if template is None or isinstance(template, DateFieldType):
        return
    for warning in template.app.warnings(now, [template]):
        log.warning(warning)
    series = template.series()
    dropped = series.dropped(now, now + DROPPED_WITHIN) if series else iter(())
    for item in islice(dropped, DROPPED_LOGGED):
        nominal = f"{item.nominal:%Y-%m-%d %H:%M}"
        log.warning("%s: %s %s", template.fullName, nominal, item.note)
