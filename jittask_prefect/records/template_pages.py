"""The page of each template in Prefect's UI: an artifact that the syncs keep current, a few pages each.

A sync writes the pages of templates whose tasks ended since, whose files changed, or whose day is over. The ledger's
state table remembers the pages.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.dialogs.edit import edit_link
from jittask_prefect.dialogs.forms import EDIT
from jittask_prefect.dialogs.versions import remember, version_of
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import state_table, versions
from jittask_prefect.ledger.tables import entries, of_app
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.markup import cut
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.records import statistics
from jittask_prefect.records.month_grid import month_grid
from jittask_prefect.records.page_text import page_lines, summary
from jittask_prefect.rows.template_planner import fingerprint

PREFIX, MARK = "page:", "pages"
MAX_PAGES, MAX_SECONDS = 5, 1.0
"""Pages that a sync writes at most, and the seconds after which the sync begins no further page."""
PAUSE = timedelta(minutes=5)
"""The age at which a page is written again on the same day."""
CLOCK_SKEW = timedelta(minutes=1)
"""How far a worker's clock may be behind."""
log = logging.getLogger("jittask")


class Page(BaseModel, frozen=True):
    """A template's page, as the state table remembers it.

    Attributes:
        id: The artifact's id; empty where the page was never written.
        day: The day of the page, in the template's zone.
        at: When the page was written.
        version: A digest of the template's e.json and calendar then.
        stale: Whether tasks have ended since.
    """

    id: str
    day: date
    at: datetime
    version: str
    stale: bool = False

    def is_current(self, day: date, version: str, now: datetime) -> bool:
        """Whether the page need not be written again."""
        if (self.day, self.version) != (day, version):
            return False
        return not self.stale or now - self.at < PAUSE


def refresh(app: App, api: Api, now: datetime) -> list[str]:
    """Write the pages that are due; the names of their templates.

    An error of a page is logged, and the page is left until its tasks or its day change.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant, aware.

    Raises:
        PrefectApiError: Prefect cannot be reached; the next sync writes the other pages.
    """
    with app.engine().connect() as connection:
        if not versions.there(connection):
            return []
        texts = state_table.starting_with(connection, app.name, PREFIX)
        mark = state_table.get(connection, app.name, MARK)
    known = {
        name.removeprefix(PREFIX): Page.model_validate_json(text)
        for name, text in texts.items()
    }
    ended = _templates_ended(app, datetime.fromisoformat(mark)) if mark else set[str]()
    pages = {
        name: page.model_copy(update={"stale": True}) if name in ended else page
        for name, page in known.items()
    }
    written: list[str] = []
    try:
        for name, page in _due_pages(app, api, now, pages):
            pages[name] = page
            written.append(name)
        for name in filter(app.gone, known):
            api.drop_artifact(pages.pop(name).id)
    finally:  # written pages are remembered, also where Prefect fails in between
        with app.engine().begin() as connection:
            for name in {*known, *pages}:
                kept = pages.get(name)
                if kept != known.get(name):
                    text = kept.model_dump_json() if kept else None
                    state_table.put(connection, app.name, PREFIX + name, text)
            state_table.put(connection, app.name, MARK, now.isoformat())
    return written


def _templates_ended(app: App, since: datetime) -> set[str]:
    """The templates whose tasks have ended since an instant."""
    # By the index on `returned` and `finished`.
    query = select(entries.c.template).where(
        of_app(app.name),
        entries.c.returned.in_((True, False)),
        entries.c.finished >= since - CLOCK_SKEW,
    )
    found: set[str] = set()
    for database in app.databases():
        try:
            with app.engine(database).connect() as connection:
                if versions.there(connection):
                    found |= set(connection.scalars(query.distinct()))
        except SQLAlchemyError as error:
            log.debug("statistics: database %s: %s", database or "default", error)
    return found


def _due_pages(
    app: App, api: Api, now: datetime, pages: Mapping[str, Page]
) -> Iterator[tuple[str, Page]]:
    """Write some pages: first the pages of changed templates, then the oldest pages."""
    templates = app.templates()
    current = {template.fullName: _version(template) for template in templates}

    def urgency(template: Meta) -> tuple[bool, str]:
        # A page, and its link, are wrong until they follow their template.
        page = pages.get(template.fullName)
        same = page is None or page.version == current[template.fullName]
        return same, page.at.isoformat() if page else ""

    begun, count = time.monotonic(), 0
    for template in sorted(templates, key=urgency):
        name, page = template.fullName, pages.get(template.fullName)
        day = now.astimezone(template.timer.zone).date()
        if page is not None and page.is_current(day, current[name], now):
            continue
        if count == MAX_PAGES or time.monotonic() - begun > MAX_SECONDS:
            break
        artifact_id = page.id if page else ""
        try:
            artifact_id = write_page(api, template, now, artifact_id)
        except Exception as error:  # noqa: BLE001  a Type or a filter of the app's own may raise anything
            if isinstance(error, PrefectApiError):
                api.ping()  # raises where more than this page is refused
            reason = f"{type(error).__name__}: {error}"
            log.warning("%s: its statistics are not written: %s", name, reason)
        count += 1
        yield name, Page(id=artifact_id, day=day, at=now, version=current[name])


def _version(template: Meta) -> str:
    content = f"{fingerprint(template)} {version_of(template)}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_page(api: Api, template: Meta, now: datetime, known: str = "") -> str:
    """Write a template's page; the id of its artifact.

    Args:
        api: Prefect.
        template: The template.
        now: The present instant, aware.
        known: The artifact's id where the page was written before.
    """
    app = template.app
    borders = statistics.day_borders(template, now)
    numbers = statistics.of_template(template, borders, now)
    lines = page_lines(template, numbers, month_grid(template, now), now)
    key = links.key(app.name, template.fullName, app.names("tasks"))
    text = cut("\n".join(lines))
    dialog = api.deployments(app_tag(app.name)).get(EDIT)
    if template.declared is not None:
        dialog = None  # its file is edited, no form

    link = edit_link(links.ROOT, dialog.id, template) if dialog else ""
    remember(template)
    about = summary(numbers, known, link)
    artifact_id = api.put_markdown(key, text, about, known or None)
    if artifact_id != known:  # the summary on the page of the key leads to the artifact
        about = summary(numbers, artifact_id, link)
        api.put_markdown(key, text, about, artifact_id)
    return artifact_id
