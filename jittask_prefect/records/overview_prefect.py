"""Prefect's part of an app's overview: the deployments, the work queues without a worker, late runs of schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import PAGE, Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.prefect_api.work_queues import app_queues
from jittask_prefect.records.app_facts import LATE_AFTER, Kind, Trouble

MOST_LATE = 10 * PAGE
"""Late runs of schedules that are counted: ten questions."""


@dataclass(frozen=True)
class PrefectFacts:
    """Prefect's facts about an app.

    Attributes:
        there: The app's deployments on the server, by name.
        troubles: The faults of server and workers.
        late: The late runs of schedules, which the ledger does not know before they begin: task and due time.
        asked: Whether Prefect answered all.
    """

    there: Mapping[str, ServerDeployment] = field(default_factory=dict)
    troubles: Sequence[Trouble] = ()
    late: Sequence[tuple[str, datetime]] = ()
    asked: bool = False


def without_prefect(why: str) -> PrefectFacts:
    """The facts where no server is known; `why` stands among the troubles."""
    return PrefectFacts(troubles=[Trouble(Kind.SERVER, why)])


def prefect_facts(
    app: App,
    api: Api,
    now: datetime,
    there: Mapping[str, ServerDeployment] | None = None,
) -> PrefectFacts:
    """Prefect's facts of an app; a server that does not answer is a trouble.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant; aware.
        there: The app's deployments on the server, where they are known.
    """
    try:
        there = api.deployments(app_tag(app.name)) if there is None else there
        troubles = list(_of_workers(api, there))
        return PrefectFacts(there, troubles, list(_late(app, api, there, now)), True)
    except PrefectApiError as error:
        told = Trouble(Kind.SERVER, f"Prefect does not answer: {error}")
        return PrefectFacts(there or {}, [told])


def _of_workers(api: Api, there: Mapping[str, ServerDeployment]) -> Iterator[Trouble]:
    """A line for each work queue of the app that no worker takes."""
    for queue in app_queues(api, there.values()):
        if not queue.served:
            yield Trouble(Kind.WORKER, queue.problem)


def _late(
    app: App, api: Api, there: Mapping[str, ServerDeployment], now: datetime
) -> Iterator[tuple[str, datetime]]:
    """The late runs of schedules; at most `MOST_LATE` of them."""
    rows = {t.fullName for t in app.templates() if isinstance(t, DateFieldType)}
    names = {d.id: name for name, d in there.items() if name.startswith("tasks.")}
    names = {each: name for each, name in names.items() if name not in rows}
    if not names:
        return
    where: dict[str, Any] = {
        "deployment_id": {"any_": list(names)},
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"before_": (now - LATE_AFTER).isoformat()},
    }
    runs = api.runs(flow_runs=where, limit=MOST_LATE, sort="EXPECTED_START_TIME_ASC")
    for run in runs:
        name = names.get(str(run.deployment_id))
        if name is not None:
            yield name, run.expected_start_time
