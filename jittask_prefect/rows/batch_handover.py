"""Ledger → Prefect for rows that share flow runs: batches are made, joined, ended and dropped.

Each step may stop anywhere and be done again, as in `handover`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial

from jittask_prefect.elements.app import App
from jittask_prefect.ledger import handover_marks
from jittask_prefect.ledger.entry import entries_of_run
from jittask_prefect.ledger.settlement import carry_out
from jittask_prefect.ledger.verdict import Verdict
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import of_app
from jittask_prefect.rows import batches
from jittask_prefect.rows.flow_runs import (
    Calls,
    Keep,
    batch_name,
    end_run,
    is_cancelled,
    is_open,
)
from jittask_prefect.rows.plan import Report

GO_ON = "its worker died: the rows that are left go on in another run"
EMPTY = "superseded: none of its rows is due any more"


class BatchHandOver:
    """The hand-over of rows that share flow runs.

    Args:
        app: The app.
        database: Whose ledger.
        calls: The calls of the whole hand-over.
        api: Prefect.
        now: The present instant.
        report: Takes the counts, and the tasks that ended.
        keep: Called again and again; the holder of a lease renews the lease.
    """

    def __init__(
        self,
        app: App,
        database: str,
        calls: Calls,
        api: Api,
        now: datetime,
        report: Report,
        keep: Keep,
    ) -> None:
        self.app, self.database, self.engine = app, database, app.engine(database)
        self.calls, self.api, self.now = calls, api, now
        self.report, self.keep = report, keep

    def share(self, group: batches.Group) -> None:
        """Hand over tasks that are due together, in batches."""
        if (deployment := self.calls.deployment(group.template)) is None:
            return

        with self.engine.connect() as connection:
            shares = batches.shares(self.app, connection, group, self.now)

        self._end_cancelled({run for share in shares for run in share.dead})
        closed: set[str] = set()

        while refused := self._share(group, deployment, closed):
            closed |= refused

    def _share(
        self, group: batches.Group, deployment: str, closed: Collection[str]
    ) -> set[str]:
        """Hand over tasks in batches; the runs that have ended meanwhile, whose new rows are to join others.

        A row is written into an existing batch first, and the batch's run is asked for then. So a person who cancels
        the run after the answer ends the row too, and a Cancel before the answer does not reach the row.
        """
        workers = self.calls.workers(group.template)

        with self.engine.connect() as connection:
            about = (self.app, connection, group, self.now)
            shares = batches.shares(*about, closed, workers)

        ended = set()

        for share in shares:
            self.keep()
            make = partial(self._make_batch, deployment, group, share)
            run_id = share.run_id or self.calls.tried(group.template, make)

            if run_id is None:
                continue

            tasks = share.tasks

            with self.engine.begin() as connection:
                handover_marks.batch_joined(connection, tasks, share.batch, run_id)

            for dead in share.dead - {run_id}:
                self.calls.tried(group.template, partial(self.api.mark, dead, "died"))
                end = partial(end_run, self.api, dead, GO_ON, "CRASHED")
                self.calls.tried(group.template, end)

            if share.run_id is None and not share.before:
                continue  # a new run takes rows that had none, also before they joined

            takes = self.calls.tried(run_id, partial(self._takes_rows, run_id))

            if not takes:  # where Prefect refused the question, the next hand-over asks
                with self.engine.begin() as connection:
                    handover_marks.batch_left(connection, tasks, run_id)

            if takes is False:
                ended.add(run_id)

        return ended

    def _takes_rows(self, run_id: str) -> bool:
        run = self.api.run(run_id)
        return run is not None and is_open(run) and not run.ended_by_us

    def _end_cancelled(self, runs: set[str]) -> None:
        """End the waiting rows of batches that a person cancelled and whose worker died then."""
        for run_id in sorted(runs):
            run = self.calls.tried(run_id, partial(self.api.run, run_id))
            if run is None or not is_cancelled(run):
                continue

            with self.engine.begin() as connection:
                for entry in entries_of_run(connection, run_id):
                    about = (connection, Verdict.CANCEL, entry, run, self.now)
                    if entry.status == "pending" and carry_out(*about):
                        self.report.died.append((self.database, entry))

    def _make_batch(
        self, deployment: str, group: batches.Group, share: batches.Share
    ) -> str:
        template, due, rows = group.template, group.due, len(share.tasks)
        while True:
            run = self.api.create_run(
                deployment,
                key=batches.key(self.app, group, share.batch),
                name=batch_name(self.app, template, due, share.batch, rows),
                due=group.opening or due,
                tags=[of_app(self.app.name, template)],
                parameters={"template": template, "due": due.isoformat()},
            )

            # A run that we have labelled is spent too: a person's Cancel would be taken for ours.
            spent = run.ended_by_us or run.id in share.before

            if is_open(run) and not spent:
                self.report.created += 1
                return run.id

            share.batch += 1

    def drop(self, run_id: str) -> None:
        """Cancel a batch's run that has not begun and that no row is left in."""
        run = self.api.run(run_id)

        if run is None or run.state_type != "SCHEDULED":
            return

        self.api.mark(run_id, "superseded")

        with self.engine.connect() as connection:
            joined = handover_marks.open_runs(connection, [run_id])

        # They joined before the label: a row that comes later finds the label, and leaves.
        if joined:
            self.api.mark(run_id, "")
        else:
            self.api.set_state(run_id, "CANCELLING", message=EMPTY)
