"""One app with a real worker, for the tests that look at executions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from place import Place, model, rows, scheduled, worker
from prefect_database import prepare
from shop import servers, url  # noqa: F401  fixtures

from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.server.service import ServiceInfo

# Types of the app's own; `returned.txt` has one line for each call of afterReturn.
TYPE = """
from jittask_prefect import {base}

class {name}({base}):
    def handle(self, task):
        log.info("handled by {name}")
        return super().handle(task)

    def afterReturn(self, task):
        with open(app.path / "returned.txt", "a") as file:
            file.write(f"{{task.taskId}} {{task.status}} {{task.result}}\\n")
"""
PID = "import os, time\ndef here(name):\n    (app.path / name).write_text(str(os.getpid()))\n"
SLEEPS = (
    PID
    + "def customFunc(row):\n    row.done += 1\n    here(f'sleeping-{row.id}')\n    time.sleep(120)\n"
)
LOCKS = PID + (
    "def customFunc(row):\n    row.done += 1\n    with app.session() as s:\n        s.flush()\n"
    "    here(f'locking-{row.id}')\n    time.sleep(120)\n"
)
BUSY = PID + (
    "import ctypes\ndef customFunc(name='busy', held=False):\n    here(name)\n"
    "    while True:\n        ctypes.PyDLL(None).sleep(60) if held else None\n"
)
TRIES = """
def customFunc():
    tries = app.path / "tries.txt"
    tries.write_text((tries.read_text() if tries.exists() else "") + "x")
    if len(tries.read_text()) < 3:
        raise RuntimeError("not yet")
    return tries.read_text()
"""
SERVICE = """
from jittask_prefect import NormalService

class WorkSvc(NormalService):
    def count(self, upTo=3):
        return list(range(upTo))
"""
SAVES = """
from datetime import datetime, timedelta
def customFunc(hours=5):
    with app.session() as s:
        row = app.getElement("models.WorkItem")(at=(datetime.now() + timedelta(hours=hours)), status="later")
        s.add(row)
        s.commit()
        return [row.id, [t["fullName"] for t in app.getElement("services.TaskSvc").getTaskTmplList("WorkLater")]]
"""


# Each row leaves a line when it begins; `wait` goes on when the test lets it, `held` keeps the interpreter's lock in C
# code, `bad` fails.
MANY = """
import ctypes, os, time
def customFunc(row):
    row.done += 1
    with open(app.path / "many.txt", "a") as file:
        file.write(f"{row.id} {os.getpid()}\\n")
    while row.status == "wait" and not (app.path / "go").exists():
        time.sleep(0.05)
    if row.status == "held":
        ctypes.PyDLL(None).sleep(60)
    if row.status == "bad":
        raise ValueError(f"row {row.id} is bad")
"""

# A call leaves a line when it begins, and goes on when the test lets it; `locks` has SQLite locked meanwhile.
DIGEST = """
import os, time
def customFunc(rows):
    for row in rows:
        row.done += 1
    if rows[0].status == "locks":
        with app.session() as session:
            session.flush()
    with open(app.path / "digests.txt", "a") as file:
        file.write(f"{rows[0].status} {os.getpid()} {','.join(str(row.id) for row in rows)}\\n")
    while not (app.path / "go-digests").exists():
        time.sleep(0.05)
    return len(rows)
"""

# Says when it begins and ends, which it does when the test lets it.
LIMITED = """
import os, time
def customFunc(name="limited"):
    def say(what):
        with open(app.path / "limited.txt", "a") as file:
            file.write(f"{what} {name} {os.getpid()}\\n")
    say("begin")
    while not (app.path / f"end-{name}").exists():
        time.sleep(0.05)
    say("end")
"""


def own_type(name: str, base: str) -> dict[str, object]:
    return {
        "e.json": {"type": "tasks.Meta", "title": name},
        "type.py": TYPE.format(name=name, base=base),
    }


@pytest.fixture(scope="package")
def prefect_server(
    tmp_path_factory: pytest.TempPathFactory, prefect_database: Path
) -> Iterator[ServiceInfo]:
    """A real Prefect server, which ends with the last test here; `PREFECT_API_URL` points at it, for child processes too.

    An idle server, and an idle worker, take their share of the processor.
    """
    home = tmp_path_factory.mktemp("prefect") / "server"
    prepare(home, prefect_database)
    with Embedded(home) as embedded, pytest.MonkeyPatch.context() as patch:
        server, _ = embedded.ensure()
        patch.setenv("PREFECT_API_URL", server.url)
        patch.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
        refresh_settings()
        yield server
    refresh_settings()


@pytest.fixture(scope="package")
def work(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    """An app whose templates are deployed, and a worker that executes them."""
    ended = "tasks.WorkRowsType"
    named = model("WorkNamed")  # whose keys are texts
    named["model.py"] = str(named["model.py"]).replace(
        "id: int | None = Field(default=None, ", "id: str = Field("
    )
    elements = {
        "models/WorkItem": model("WorkItem"),
        "services/WorkSvc": {
            "e.json": {"type": "services.NormalType", "title": "Work"},
            "service.py": SERVICE,
        },
        "tasks/WorkType": own_type("WorkType", "NormalType"),
        "tasks/WorkRowsType": own_type("WorkRowsType", "DateFieldType"),
        "tasks/WorkAdd": scheduled(
            "def customFunc(amount=1):\n    log.info('adding %s', amount)\n    print('printed line')\n"
            "    return {'sum': amount}\n"
        ),
        "tasks/WorkAsync": scheduled(
            "import asyncio\nasync def customFunc():\n    await asyncio.sleep(0.01)\n    return 'awaited'\n"
        ),
        "tasks/WorkGlobal": scheduled(
            "", funcType="Global", func="services.WorkSvc.count"
        ),
        "tasks/WorkFails": scheduled(
            "def customFunc():\n    raise ValueError('no such customer')\n"
        ),
        "tasks/WorkSlow": scheduled(
            "import time\ndef customFunc():\n    time.sleep(60)\n", timeout=2
        ),
        "tasks/WorkRetries": scheduled(TRIES, retries=2, retryDelay=0.1),
        "tasks/WorkOwn": scheduled("def customFunc():\n    return 'own'\n"),
        "tasks/WorkSaves": scheduled(SAVES),
        "tasks/WorkBusy": scheduled(BUSY),
        "tasks/WorkRow": rows("WorkItem", filter="Q(status='row')"),
        "tasks/WorkStale": rows("WorkItem", filter="Q(status='stale')"),
        "tasks/WorkLater": rows("WorkItem", filter="Q(status='later')"),
        "tasks/WorkSleeps": rows(
            "WorkItem",
            SLEEPS,
            filter="Q(status='sleeps')",
            repeat={"repeatType": "day", "period": 1},
        ),
        "tasks/WorkLocks": rows("WorkItem", LOCKS, filter="Q(status='locks')"),
        "models/WorkMany": model("WorkMany"),
        "tasks/WorkBatch": rows("WorkMany", MANY, title="Many"),
        "models/WorkOwned": model("WorkOwned"),
        "tasks/WorkDigest": rows(
            "WorkOwned", DIGEST, digest={"by": "status"}, retries=1, title="Digest"
        ),
        "models/WorkNamed": named,
        "tasks/WorkNamed": rows("WorkNamed", MANY, dispatch="batch"),
        "tasks/WorkMany": scheduled(LIMITED),
        **{
            f"tasks/Work{overlap.title()}": scheduled(
                LIMITED, concurrency={"limit": 1, "overlap": overlap}
            )
            for overlap in ("queue", "skip", "replace")
        },
    }
    for name, kind in (
        ("WorkOwn", "tasks.WorkType"),
        ("WorkBusy", "tasks.WorkType"),
        ("WorkSleeps", ended),
        ("WorkLocks", ended),
        ("WorkStale", ended),
    ):
        elements[f"tasks/{name}"]["e.json"]["type"] = kind  # type: ignore[index]
    home = tmp_path_factory.mktemp("work")
    made = Place.build(home / "app", elements, name="working")  # type: ignore[arg-type]
    assert made.app.check() == []
    made.deploy()
    # Its worker is there to the end, and leaves the tasks of all other files alone.
    with worker(home / ".jittask", cwd=home, queues=("working", "working.first")):
        yield made
    made.remove()
