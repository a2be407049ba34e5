"""An app on a real Prefect server: build it, deploy it, look at what became of it; and how tests wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from patience import PATIENCE
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.cli import CycloptsCliRunner
from sqlalchemy import text

from jittask_prefect import App
from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger.entry import Entry, find_entry, to_entry
from jittask_prefect.ledger.tables import FINAL, entries
from jittask_prefect.prefect_api.answers import FlowRun, State
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows import sync
from jittask_prefect.rows.plan import Report
from jittask_prefect.running.lease import new_owner
from jittask_prefect.running.sync_flow import run_sync
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.testing import Element, build_app
from jittask_prefect.warm.drain import ENV_SECONDS

T = TypeVar("T")
NORMAL, ROWS = "tasks.NormalType", "tasks.DateFieldType"
ONCE = {"repeatType": "normal"}
DAILY = {"repeatType": "day", "period": 1}
SCRIPTS = Path(sys.executable).parent


def until(
    condition: Callable[[], T],
    seconds: float = 30,
    *,
    every: float = 0.2,
    what: str = "",
) -> T:
    """The first true value of a condition; fails with `what` once the seconds are over, on a slow machine later.

    A look that takes long is followed by a longer pause: whoever is asked has other work, too.
    """
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := condition():
            return found
        now = time.monotonic()
        assert now < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(max(every, min(3 * (now - began), 2)))


def model(name: str, **keys: Any) -> Element:
    """A model with a date, a status, and a counter that tasks raise: `done` is the effect that must happen once."""
    code = f"""
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class {name}(SQLModel, table=True):
    __tablename__ = "{name.lower()}"
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
    status: str = "active"
    done: int = 0
"""
    about = {"type": "models.NormalType", "title": name, **keys}
    return {"e.json": about, "model.py": code}


def scheduled(
    inner: str,
    *,
    repeat: Mapping[str, Any] = DAILY,
    start: str = "2000-01-01 00:00:00",
    timer: Mapping[str, Any] = {},
    **keys: Any,
) -> Element:
    """A scheduled task."""
    cfg = {"startTime": start, "repeat": dict(repeat), **timer}
    return {
        "e.json": {"type": NORMAL, "title": "Scheduled", "timerCfg": cfg, **keys},
        "inner.py": inner,
    }


def rows(
    of: str,
    inner: str = "def customFunc(row):\n    row.done += 1\n",
    *,
    repeat: Mapping[str, Any] = ONCE,
    timer: Mapping[str, Any] = {},
    **keys: Any,
) -> Element:
    """A date-field task, due at the model's `at`."""
    cfg = {"startField": "at", "repeat": dict(repeat), **timer}
    about = {
        "type": ROWS,
        "title": "Rows",
        "modelPath": f"models.{of}",
        "timerCfg": cfg,
        **keys,
    }
    return {"e.json": about, "inner.py": inner}


class Place:
    """An app folder, its server, and what the tests ask of both."""

    def __init__(self, app: App, api: PrefectApi) -> None:
        self.app, self.api = app, api
        self.svc = TaskSvc(app, api)

    @classmethod
    def build(
        cls, folder: Path, elements: Mapping[str, Element], **app_json: Any
    ) -> Place:
        """An app in a folder of its own, on the server that PREFECT_API_URL names, whose name may have been another's."""
        made = cls(
            build_app(folder, elements, **app_json),
            PrefectApi(os.environ["PREFECT_API_URL"]),
        )
        with suppress(PrefectApiError):
            made.api.call("DELETE", f"/variables/name/jittask_{made.app.name}")
        return made

    def deploy(self, now: datetime | None = None, **keys: Any) -> deploying.Deployed:
        return deploying.deploy(self.app, self.api, now or clock.now(), **keys)

    def again(self) -> None:
        """Read the app's files anew, as another process would."""
        self.app.close()
        self.app = App(self.app.path)
        self.svc = TaskSvc(self.app, self.api)

    def change(self, element: str, **keys: Any) -> None:
        """Change keys of an e.json; None removes one."""
        file = self.app.path / element / "e.json"
        about = {**json.loads(file.read_text()), **keys}
        file.write_text(json.dumps({k: v for k, v in about.items() if v is not None}))
        self.again()

    def deployments(self) -> dict[str, dict[str, Any]]:
        """The app's deployments as the server's JSON, by name."""
        where = {"tags": {"all_": [app_tag(self.app.name)]}}
        found = self.api.call("POST", "/deployments/filter", {"deployments": where})
        return {deployment["name"]: deployment for deployment in found}

    def runs(self, name: str, *states: str) -> list[FlowRun]:
        """A template's flow runs, by due time."""
        tag = {"all_": [app_tag(self.app.name)]}
        of = {"name": {"any_": [name]}, "tags": tag}
        where = {"state": {"type": {"any_": list(states)}}} if states else {}
        found = self.api.runs(deployments=of, flow_runs=where)
        return sorted(found, key=lambda r: r.expected_start_time)

    def sync(
        self, now: datetime | None = None, since: datetime | None = None
    ) -> Report | None:
        """One sync in this process, as of an instant."""
        if now is None:
            return run_sync(self.app, clock.now(), since)
        return sync.run(
            self.app, self.api, now, new_owner(), since=since, clock=lambda: now
        )

    def sql(self, statement: str, **values: Any) -> Any:
        """Raw SQL, which no hook sees; the first column of the first row where there is one."""
        with self.app.engine().begin() as connection:
            found = connection.execute(text(statement), values)
            return found.scalar() if found.returns_rows else None

    def save(self, of: str, **fields: Any) -> Any:
        """A new row, saved in a plain session; returns it detached, with its key."""
        from sqlmodel import Session

        with Session(self.app.engine(), expire_on_commit=False) as session:
            row = self.app.getElement(f"models.{of}")(**fields)
            session.add(row)
            session.commit()
            return row

    def entries(self, name: str, row: object = None) -> list[Entry]:
        """A template's ledger entries (of one row), by generation and due time."""
        with self.app.engine().connect() as connection:
            where = [entries.c.template == name]
            if row is not None:
                where.append(entries.c.row_key == str(row))
            query = (
                entries.select()
                .where(*where)
                .order_by(entries.c.generation, entries.c.due)
            )
            return [to_entry(r) for r in connection.execute(query)]

    def entry(self, task_id: str) -> Entry:
        with self.app.engine().connect() as connection:
            found = find_entry(connection, task_id)
        assert found is not None, task_id
        return found

    def ended(self, task_id: str, seconds: float = 60) -> Entry:
        """A task's entry once it has ended."""
        return until(
            lambda: e if (e := self.entry(task_id)).status in FINAL else None,
            seconds,
            what=str(self.entry(task_id)),
        )  # type: ignore[return-value]

    def state(self, run_id: str, *names: str, seconds: float = 30) -> State:
        """A flow run's state once it has one of these names."""

        def look() -> State | None:
            run = self.api.run(run_id)
            state = run.state if run else None
            return state if state and state.name in names else None

        # Each question costs the server, which has the worker's to answer.
        found = until(
            look,
            seconds,
            every=0.3,
            what=f"run {run_id} in {names}, but {self.api.run(run_id)}",
        )
        assert found
        return found

    def jittask(
        self, *arguments: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command, in a process of its own."""
        env = {**os.environ, "JITTASK_APP": str(self.app.path)}
        return subprocess.run(
            [SCRIPTS / "jittask", *arguments],
            cwd=cwd or self.app.path,
            env=env,
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
        )

    def remove(self) -> None:
        """Delete the deployments, so that the next app may have their names: a busy server may refuse for a while."""

        def gone() -> bool:
            try:
                for found in self.deployments().values():
                    self.api.delete_deployment(found["id"])
                return not self.deployments()
            except PrefectApiError:
                return False

        until(gone, 120, every=1, what="the deployments are not deleted")
        self.app.close()


def deploy_here(api: PrefectApi, file: Path, names: Sequence[str]) -> None:
    """`prefect deploy` of some deployments of a prefect.yaml, in this process."""
    chosen = [part for name in names for part in ("--name", name)]
    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_API_URL: api.url}),
    ):
        patch.chdir(file.parent)
        patch.setenv("PWD", str(file.parent))
        patch.setattr(
            "prefect.logging.configuration.setup_logging", lambda: None
        )  # of this process
        done = CycloptsCliRunner().invoke(
            ["--no-prompt", "deploy", "--prefect-file", file.name, *chosen]
        )
    assert done.exit_code == 0, done.output


@contextmanager
def worker(
    home: Path,
    cwd: Path,
    *,
    limit: int | None = None,
    queues: Sequence[str] = (),
    **env: str,
) -> Iterator[Embedded]:
    """A real worker of the pool, which asks every second, in a folder that is not the app's; of all queues, or of some.

    What is at work at its end is ended at once.
    """
    here = Embedded(home)
    here.start_worker(
        os.environ["PREFECT_API_URL"],
        deployments.POOL,
        cwd=cwd,
        env={"PREFECT_WORKER_QUERY_SECONDS": "1", ENV_SECONDS: "0", **env},
        worker_type=deployments.POOL_TYPE,
        limit=limit,
        queues=queues,
    )
    try:
        yield here
    finally:
        here.stop()


@contextmanager
def process_pool() -> Iterator[None]:
    """Deployments and workers of a pool of Prefect's own type `process` meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployments, "POOL", "stock")
        patch.setattr(deployments, "POOL_TYPE", "process")
        yield


def iso(text_: str) -> datetime:
    """An ISO text as an aware instant; UTC where it has no offset."""
    found = datetime.fromisoformat(text_)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
