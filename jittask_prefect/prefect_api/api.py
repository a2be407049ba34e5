"""The calls of Prefect's API that this package makes.

`client.PrefectApi` talks to a server, `testing.FakePrefect` is a server in memory. Every call raises `PrefectApiError` where
the server gives no answer or refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from jittask_prefect.prefect_api.answers import (
    FlowRun,
    LogLine,
    ServerDeployment,
    WorkQueue,
)

PAGE = 200
"""How many objects the server gives in an answer at most."""
BY_HAND = "ended: cancelled in Prefect"
"""The reason of a run that a person cancelled without giving a reason."""


class Api(Protocol):
    """A Prefect server.

    Attributes:
        url: The API's address.
        ui_url: The UI's address.
    """

    url: str
    ui_url: str

    def ping(self) -> None:
        """Raise PrefectApiError where the server does not answer."""

    # Work pools

    def ensure_pool(self, name: str, kind: str) -> str:
        """Make a work pool of a type where the pool is missing.

        Returns:
            The pool's type. The type of a pool cannot be changed, so this may be another type.
        """

    def ensure_queue(self, pool: str, name: str, *, first: bool) -> None:
        """Make a work queue where the queue is missing.

        Args:
            pool: The work pool.
            name: The queue.
            first: Whether workers begin its runs before those of tasks. Then only queues whose names end alike, behind
                the dot, may stand before this queue.
        """

    def queues(self, pool: str) -> list[WorkQueue]:
        """The work queues of a pool; none where there is no such pool."""

    def workers(self, pool: str) -> int:
        """How many workers of a pool live."""

    def pool_kind(self, name: str) -> str | None:
        """The type of a work pool; None where there is no such pool."""

    # Deployments

    def deployments(self, tag: str) -> dict[str, ServerDeployment]:
        """The deployments that carry a tag, by name."""

    def of_flows(self, names: Sequence[str]) -> dict[str, ServerDeployment]:
        """The deployments of the flows of some names, by the deployment's name, whoever made them."""

    def make_deployment(self, flow: str, body: Mapping[str, Any]) -> str:
        """Make a deployment of a flow, or replace the flow's deployment of that name; the deployment's id."""

    def change_deployment(self, deployment_id: str, body: Mapping[str, Any]) -> None:
        """Change some fields of a deployment, and the schedules that the body names by slug, in place."""

    def delete_deployment(self, deployment_id: str) -> None:
        """Delete a deployment with its runs."""

    def change_schedule(
        self, deployment_id: str, schedule_id: str, body: Mapping[str, Any]
    ) -> None:
        """Change a schedule of a deployment by its id; runs that wait in the past stay."""

    def fill_schedule(
        self, deployment_id: str, start: datetime, until: datetime | None = None
    ) -> None:
        """Make the scheduled runs of a deployment; runs that exist stay.

        Args:
            deployment_id: The deployment.
            start: The first due time, in the past too; aware.
            until: The last due time, for 1,000 runs at most, and an hour more; absent, as many runs as the server
                always makes ahead.
        """

    def flow_name(self, flow_id: str) -> str | None:
        """The name of a flow; None where there is no such flow."""

    # Flow runs

    def create_run(
        self,
        deployment_id: str,
        *,
        key: str,
        name: str,
        due: datetime,
        tags: Sequence[str],
        parameters: Mapping[str, Any],
    ) -> FlowRun:
        """Make a flow run, once for each idempotency key.

        Args:
            deployment_id: The deployment.
            key: The idempotency key. A second call with the key gives the run that exists, in whatever state.
            name: The run's name.
            due: The scheduled time; aware.
            tags: The run's tags, beside those of the deployment.
            parameters: The flow's parameters.
        """

    def run(self, run_id: str) -> FlowRun | None:
        """A flow run; None where there is no such run."""

    def runs(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        sort: str = "EXPECTED_START_TIME_DESC",
        **filters: Any,
    ) -> list[FlowRun]:
        """Flow runs by the API's own filters (`flow_runs`, `deployments`, …); all pages where `limit` is absent."""

    def count_runs(self, **filters: Any) -> int:
        """The number of flow runs by the API's own filters."""

    def delete_run(self, run_id: str) -> None:
        """Delete a flow run."""

    def set_state(
        self,
        run_id: str,
        kind: str,
        *,
        name: str | None = None,
        message: str = "",
        force: bool = False,
    ) -> str:
        """Propose a state.

        Args:
            run_id: The flow run.
            kind: The state's type.
            name: The state's name, where the type's usual name does not fit.
            message: The reason.
            force: Whether to set the state against the server's rules, e.g. over a final state.

        Returns:
            The type of the state that the run has then; `MISSING` where there is no such run.
        """

    def name_run(self, run_id: str, name: str) -> None:
        """Give a flow run another name; nothing happens where the run is gone."""

    def mark(self, run_id: str, why: str) -> None:
        """Label a flow run as ended by this package (`answers.OWN`), before its state is set."""

    def logs(self, run_id: str) -> list[LogLine]:
        """The first 200 lines of a flow run's log."""

    def add_logs(self, run_id: str, lines: Sequence[LogLine]) -> None:
        """Add lines to a flow run's log at once; Prefect's own logging is up to two seconds behind."""

    def task_runs(self, run_id: str) -> dict[str, str]:
        """The names of a flow run's task runs by id, in the order in which they began."""

    # Variables

    def variable(self, name: str) -> Any:
        """The value of a variable; None where there is no such variable."""

    def set_variable(self, name: str, value: Any) -> None:
        """Make a variable, or change its value."""

    # Artifacts

    def put_table(
        self, run_id: str, key: str, rows: Sequence[Mapping[str, Any]], description: str
    ) -> None:
        """Keep a table as an artifact of a flow run."""

    def table(self, run_id: str) -> list[dict[str, Any]]:
        """The rows of all tables of a flow run, the newest table last."""

    def put_markdown(
        self,
        key: str,
        text: str,
        description: str,
        known: str | None = None,
        run_id: str | None = None,
    ) -> str:
        """Keep a Markdown page as an artifact.

        Args:
            key: The artifact's key.
            text: The page.
            description: Of the artifact; Markdown.
            known: The id of an artifact to replace; where the artifact is gone, or `known` is absent, a new artifact is made.
            run_id: The flow run that the artifact belongs to.

        Returns:
            The artifact's id.
        """

    def drop_artifact(self, artifact_id: str) -> None:
        """Delete an artifact."""
