"""The page of each template in Prefect's UI, an artifact kept current: statistics with a chart, and what comes next.

A sync writes the pages of templates whose tasks ended since, or whose day is over, a few at a time; what it needs to
know of them stands in `jittask_state`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.dialogs.edit import edit_link
from jittask_prefect.dialogs.forms import EDIT
from jittask_prefect.dialogs.versions import remember, version_of
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import state_table, versions
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.prefect_api.markup import cut, md, table
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.records import charts, statistics
from jittask_prefect.records.statistics import Stats
from jittask_prefect.records.upcoming_days import Coming, One, coming
from jittask_prefect.rows.fingerprint import fingerprint
from jittask_prefect.schedule.words import describe

PREFIX, MARK = "stats:", "stats"
MOST, SECONDS = 5, 1.0
"""Pages that one sync writes, and after how many seconds it begins no other."""
PAUSE = timedelta(minutes=5)
"""How old a page is at least before it is written again on the same day."""
OVERLAP = timedelta(minutes=1)  # a worker's clock may be behind
NEXT, MOVES = 10, 20
log = logging.getLogger("jittask")


@dataclass(frozen=True)
class _Page:
    """What is known of a template's page.

    Args:
        id: The artifact's.
        day: What day it was written, in the template's zone.
        at: When.
        of: What was read of the template then: all of its e.json, and its calendar.
        stale: Whether tasks ended since.
    """

    id: str
    day: str
    at: str
    of: str
    stale: bool = False


def keep(app: App, api: Api, now: datetime) -> list[str]:
    """Write the pages that are to be written again; the names of their templates.

    What goes wrong with one is logged, and left until its tasks or its day change.

    Raises:
        PrefectApiError: Prefect cannot be reached; the next sync writes what is left.
    """
    with app.engine().connect() as connection:
        if not versions.there(connection):
            return []
        known = {
            n: _Page(**json.loads(t))
            for n, t in state_table.starting_with(connection, app.name, PREFIX).items()
        }
        mark = state_table.get(connection, app.name, MARK)
    known = {name.removeprefix(PREFIX): page for name, page in known.items()}
    ended = _ended(app, datetime.fromisoformat(mark)) if mark else set[str]()
    left = {
        name: replace(page, stale=page.stale or (name in ended))
        for name, page in known.items()
    }
    written: list[str] = []
    try:
        _write(app, api, now, left, written)
        for name in filter(app.gone, known):
            api.drop_artifact(left[name].id)
            del left[name]
    finally:  # what is written stays written, where Prefect fails in between
        with app.engine().begin() as connection:
            for name in set(known) | set(left):
                if known.get(name) != (page := left.get(name)):
                    state_table.put(
                        connection,
                        app.name,
                        PREFIX + name,
                        json.dumps(asdict(page)) if page else None,
                    )
            state_table.put(connection, app.name, MARK, now.isoformat())
    return written


def _ended(app: App, since: datetime) -> set[str]:
    """The templates of which tasks have ended since an instant."""
    found: set[str] = set()
    # By the index on `returned` and `finished`.
    late = (
        entries.c.returned.in_((True, False)),
        entries.c.finished >= since - OVERLAP,
    )
    for database in app.databases():
        try:
            with app.engine(database).connect() as connection:
                if versions.there(connection):
                    query = (
                        select(entries.c.template, func.count())
                        .where(*late)
                        .group_by(entries.c.template)
                    )
                    found |= {str(name) for name, _ in connection.execute(query)}
        except SQLAlchemyError as error:
            log.debug("statistics: database %s: %s", database or "default", error)
    return found


def _write(
    app: App, api: Api, now: datetime, left: dict[str, _Page], written: list[str]
) -> None:
    """Write some pages, those of changed templates first, then the oldest, and note them in `left` and `written`."""
    states = {template.fullName: _state(template) for template in app.templates()}
    begun = time.monotonic()

    def turn(template: Meta) -> tuple[bool, str]:
        page = left.get(template.fullName)
        # What a page says, and what its link fills in, is wrong until it follows its template.
        return (page.of == states[template.fullName], page.at) if page else (True, "")

    for template in sorted(app.templates(), key=turn):
        name, page = template.fullName, left.get(template.fullName)
        day, of = now.astimezone(template.timer.zone).date().isoformat(), states[name]
        same = page is not None and (page.day, page.of) == (day, of)
        if (
            page
            and same
            and not (page.stale and now - datetime.fromisoformat(page.at) >= PAUSE)
        ):
            continue
        if len(written) == MOST or time.monotonic() - begun > SECONDS:
            break
        made = page.id if page else ""
        try:
            made = put(app, api, template, now, made)
        except Exception as error:  # noqa: BLE001  a Type or a filter of the app's own may raise anything
            if isinstance(error, PrefectApiError):
                api.ping()  # raises where it is not this page that is refused
            log.warning(
                "%s: its statistics are not written: %s: %s",
                name,
                type(error).__name__,
                error,
            )
        left[name] = _Page(made, day, now.isoformat(), of)
        written.append(name)


def _state(template: Meta) -> str:
    return hashlib.sha256(
        f"{fingerprint(template)} {version_of(template)}".encode()
    ).hexdigest()[:16]


def put(app: App, api: Api, template: Meta, now: datetime, known: str = "") -> str:
    """Write a template's page; the id of its artifact.

    Args:
        app: The app.
        api: Prefect.
        template: The template.
        now: The present instant.
        known: The artifact's id where it was written before.
    """
    numbers = statistics.of_template(app, template, statistics.span(template, now), now)
    next_ = coming(app, template, now)
    key, text = (
        links.key(template.fullName, app.names("tasks")),
        cut("\n".join(page(template, numbers, next_, now))),
    )
    editor = api.deployments(app_tag(app.name)).get(EDIT)
    edit = edit_link(links.ROOT, editor["id"], template) if editor else ""
    remember(template)
    made = api.put_markdown(key, text, summary(numbers, known, edit), known or None)
    if (
        made != known
    ):  # the page by key shows the summary, so that leads to the artifact
        api.put_markdown(key, text, summary(numbers, made, edit), made)
    return made


def summary(numbers: Stats, artifact: str, edit: str = "") -> str:
    """What stands above the artifact, and on the page of its key."""
    counts = [
        f"{numbers.counts[status]:,} {status}"
        for status in statistics.STATUSES
        if numbers.counts[status]
    ]
    said = f"**{md(numbers.title)}**, last {len(numbers.days)} days: {', '.join(counts) or 'nothing was due'}."
    said += (
        f" [Chart, tables and what comes next]({links.artifact(artifact)})"
        if artifact
        else ""
    )
    return f"{said} · [Edit the task]({edit})" if edit else said


def page(template: Meta, numbers: Stats, next_: Coming, now: datetime) -> list[str]:
    """The lines of a template's page, in Markdown.

    Args:
        template: The template.
        numbers: Its statistics.
        next_: What comes next.
        now: The present instant.
    """
    zone, name = template.timer.zone, template.fullName
    lines = [f"### {md(template.title)}: last {len(numbers.days)} days", ""]
    lines += [
        f"![Tasks by day and status]({charts.data_uri(charts.by_day(numbers.days))})",
        "",
    ]
    cells = [str(numbers.counts[s]) for s in statistics.STATUSES]
    # The same as `jittask records` with the same span; flow runs that Prefect still has.
    head = [
        f"[{s}]({links.runs(s, tag=name, start=numbers.start, end=numbers.end)})"
        for s in statistics.STATUSES
    ]
    lines += [*table(head, [cells]), ""]
    spreads = [
        ("from begin to end", numbers.duration),
        ("begun after the due time", numbers.lateness),
    ]
    rows = [
        (what, *map(statistics.seconds, (s.p50, s.p95, s.max)), f"{s.runs:,}")
        for what, s in spreads
        if s is not None
    ]
    if rows:
        lines += [
            *table(
                ("", "half within", "95 % within", "longest", "runs measured"), rows
            ),
            "",
        ]
    if numbers.reasons:
        lines += ["### Why tasks failed or were ended", ""]
        reasons = [
            (
                f"{r.count:,}",
                r.status,
                md(r.said),
                f"{r.last.astimezone(zone):%Y-%m-%d %H:%M}" if r.last else "",
            )
            for r in numbers.reasons
        ]
        lines += [*table(("tasks", "status", "reason", "last due"), reasons), ""]
    lines += ["### What comes next", "", describe(template.timer), ""]
    grid = charts.months(list(next_.days.values()), now.astimezone(zone).date())
    lines += [f"![What comes next]({charts.data_uri(grid)})", ""]
    lines += [next_.note, ""] if next_.note else []
    if next_.moves:
        lines += ["**Moved or left out**", "", *_moves(next_.moves), ""]
    if next_.next:
        lines += ["**Next**", "", *_next(next_.next), ""]
    warned = template.app.warnings(now, [template]) if next_.moves or next_.next else []
    lines += [f"{md(warning, 500)}\n" for warning in warned]
    waiting = (
        ""
        if isinstance(template, DateFieldType)
        else " What waits of a schedule is in Prefect alone until it begins."
    )
    return [
        *lines,
        f"As of {now.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key}).{waiting}",
    ]


def _next(items: Sequence[One]) -> list[str]:
    rows = any(item.row for item in items)
    head = ["due", *(["row"] if rows else [])]
    cells = [
        [_when(item.due), *([md(item.row or "")] if rows else [])]
        for item in items[:NEXT]
    ]
    return table(head, cells)


def _moves(items: Sequence[One]) -> list[str]:
    rows = any(item.row for item in items)
    head = ["from", "to", "because", *(["row"] if rows else [])]
    cells = [
        [
            _when(i.nominal),
            _when(i.due),
            md(i.because),
            *([md(i.row or "")] if rows else []),
        ]
        for i in items[:MOVES]
    ]
    return [
        *table(head, cells),
        *(["", f"and {len(items) - MOVES} more"] if len(items) > MOVES else []),
    ]


def _when(at: datetime | None) -> str:
    return f"{at:%a %Y-%m-%d %H:%M}" if at else "left out"


__all__ = ["keep", "page", "put", "summary"]
