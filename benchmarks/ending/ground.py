"""What the campaign stands on: databases, a Prefect server and two workers that may be killed, and the app."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments
from jittask_prefect.errors import JittaskError
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows.run_endings import SYNC
from jittask_prefect.running.sync_flow import run_sync
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.testing import build_app

from .shop import FLOWS, elements

WORKERS = 2
HORIZON = 30  # hours: each row has one occurrence after its first


def until(condition: Callable[[], Any], seconds: float, every: float = 0.03) -> Any:
    """The first true value of a condition, or its last one once the seconds are over."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return found


class Ground:
    """The app on a running server, with its workers.

    Args:
        home: A folder of its own.
        keys: Keys of app.json.
        workers: How many there are.
    """

    def __init__(
        self, home: Path, keys: dict[str, Any], workers: int = WORKERS
    ) -> None:
        self.home = home
        self.server = Embedded(home / "server")
        self.workers = [Embedded(home / f"worker{number}") for number in range(workers)]
        info = self.server.ensure()[0]
        self.port, self.url = info.port, info.url
        os.environ["PREFECT_API_URL"] = self.url
        refresh_settings()
        self.api = PrefectApi(self.url)
        self.app = build_app(
            home / "app", elements(), name="ends", horizon=HORIZON, **keys
        )
        if problems := self.app.check():
            raise SystemExit("\n".join(map(str, problems)))
        (home / "app" / deployments.FLOW_FILE).write_text(FLOWS)
        self.svc = TaskSvc(self.app, self.api)
        self.api.ensure_pool(deployments.POOL, deployments.POOL_TYPE)
        deploying.deploy(self.app, self.api, clock.now())
        self.deployments = self.api.deployments(app_tag(self.app.name))
        self.api.delete_deployment(
            self.deployments[SYNC].id
        )  # syncs of ours, when it is time
        for worker in self.workers:
            self.start_worker(worker)

    def start_worker(self, worker: Embedded) -> None:
        env = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        worker.start_worker(
            self.url,
            deployments.POOL,
            cwd=self.home,
            env=env,
            worker_type=deployments.POOL_TYPE,
        )

    def kill_workers(self) -> int:
        """Kill the workers' own processes; how many."""
        found = [info for worker in self.workers if (info := worker.worker_running())]
        for info in found:
            os.kill(info.pid, signal.SIGKILL)
        return len(found)

    def restart_workers(self) -> None:
        for worker in self.workers:
            worker.stop()
            self.start_worker(worker)

    def sync(self, ahead: float = 0.0) -> None:
        """One sync, as the flow does it each minute; `ahead` as it will be so many seconds from now."""
        try:
            run_sync(self.app, clock.now() + timedelta(seconds=ahead))
        except JittaskError as error:
            print(f"sync: {error}"[:300], file=sys.stderr, flush=True)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`jittask`, in a process of its own."""
        env = {**os.environ, "JITTASK_APP": str(self.app.path)}
        jittask = Path(sys.executable).parent / "jittask"
        return subprocess.run(
            [jittask, *arguments],
            cwd=self.home,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def close(self) -> None:
        for one in (*self.workers, self.server):
            one.stop()
        self.app.close()
