"""The overview of an app in Prefect's UI: an artifact that the syncs keep current.

A page is written when something on it has changed, at most once in each minute of the clock. Ledgers and rows are asked only after a
sign of change (`overview_sign`). Every ten minutes all is asked, and a page that says the same gets another *as of*, so that an
old page is known for what it is.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from pydantic import BaseModel

from jittask_prefect.dialogs.edit import edit_link
from jittask_prefect.dialogs.forms import (
    EDIT,
    END,
    NEW_DATE_FIELD,
    NEW_SCHEDULED,
    RETRY,
    RUN_NOW,
)
from jittask_prefect.dialogs.versions import remember
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import Meta
from jittask_prefect.ledger import state_table, versions
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.records.overview import Overview, overview
from jittask_prefect.records.overview_facts import facts
from jittask_prefect.records.overview_markdown import PageLinks, markdown, summary
from jittask_prefect.records.overview_prefect import prefect_facts
from jittask_prefect.records.overview_sign import sign_of_change

MARK = "overview"
AGAIN = timedelta(minutes=10)
"""The age at which a page is written again, although its text is the same."""
MOST_EDIT_LINKS = 40
"""Above this number of tasks the forms for editing open with the task alone: a filled form is a long address."""
FORMS = {
    "New task for each row of a model": NEW_DATE_FIELD,
    "New task at times of its own": NEW_SCHEDULED,
    "End a task": END,
}
"""The forms that are about no single task, by their text on the page."""
log = logging.getLogger("jittask")


class Written(BaseModel, frozen=True):
    """The page as the state table remembers it.

    Attributes:
        id: The artifact's id.
        at: When the page was written.
        digest: A digest of all but the time on the page.
        asked: When a sync last looked for a change, where that was later.
        sign: The sign of change at that time, and a digest of the page's links.
    """

    id: str
    at: datetime
    digest: str
    asked: datetime | None = None
    sign: str = ""

    @property
    def looked(self) -> datetime:
        """When a sync last looked for a change."""
        return self.asked or self.at


def refresh(app: App, api: Api, now: datetime) -> bool:
    """Write the page where its text has changed; True where it was written.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant, aware.

    Raises:
        PrefectApiError: Prefect cannot be reached; the next sync writes the page.
    """
    with app.engine().connect() as connection:
        if not versions.there(connection):
            return False
        text = state_table.get(connection, app.name, MARK)
    known = Written.model_validate_json(text) if text else None
    if known is not None and _minute(known.looked) == _minute(now):
        return False
    fresh = known is not None and known.at <= now < known.at + AGAIN
    there = api.deployments(app_tag(app.name))
    try:
        prefect = prefect_facts(app, api, now, there)
        to = _links(app, there)
        sign = f"{sign_of_change(app, prefect, now)} {_digest(str(to))}"
        if known and fresh and known.sign == sign:
            _remember(app, known.model_copy(update={"asked": now}))
            return False
        page = overview(facts(app, prefect, now))
        digest = _digest(
            f"{page.as_dict() | {'asOf': None}} {page.hours[24].start} {to}"
        )
    except Exception as error:  # noqa: BLE001  a Type or a filter of the app's own may raise anything
        log.warning("the overview is not written: %s: %s", type(error).__name__, error)
        return False
    if known and fresh and known.digest == digest:
        _remember(app, known.model_copy(update={"asked": now, "sign": sign}))
        return False
    artifact_id = _write(api, page, to, known.id if known else "")
    _remember(app, Written(id=artifact_id, at=now, digest=digest, sign=sign))
    return True


def _remember(app: App, written: Written) -> None:
    text = written.model_dump_json(exclude_none=True)
    with app.engine().begin() as connection:
        state_table.put(connection, app.name, MARK, text)


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60


def _links(app: App, there: Mapping[str, ServerDeployment]) -> PageLinks:
    """The links of the page: forms for editing are filled with the tasks' present content."""
    ids = {name: found.id for name, found in there.items()}
    editing = ids.get(EDIT, "")
    forms: dict[str, str] = {}
    templates = app.templates()
    if editing and len(templates) <= MOST_EDIT_LINKS:
        for template in templates:
            if template.declared is None:
                forms |= _filled(editing, template)
    others = {
        text: links.form(ids[name], {}) for text, name in FORMS.items() if name in ids
    }
    return PageLinks(
        run=ids.get(RUN_NOW, ""),
        edit=forms,
        retry=ids.get(RETRY, ""),
        forms=others,
        editing=editing,
    )


def _filled(edit_id: str, template: Meta) -> dict[str, str]:
    """The address of a task's filled form; none where its Type raises: the page marks the task."""
    try:
        remember(template)
        return {template.fullName: edit_link(links.ROOT, edit_id, template)}
    except Exception as error:  # noqa: BLE001  of the app's own code
        log.debug("%s: no filled form: %s", template.fullName, error)
        return {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _write(api: Api, page: Overview, to: PageLinks, known: str) -> str:
    key, text = links.overview_key(page.app), markdown(page, to)
    artifact_id = api.put_markdown(key, text, summary(page, known), known or None)
    if artifact_id != known:  # the summary on the page of the key leads to the artifact
        about = summary(page, artifact_id)
        api.put_markdown(key, text, about, artifact_id)
    return artifact_id
