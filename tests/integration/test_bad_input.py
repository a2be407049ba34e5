"""What a function may do wrong, in the warm worker and in a batch: an error with its reason, and the next task runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from place import Place, model, rows, scheduled, until, worker
from sqlmodel import Session

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import FINAL
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.service import ServiceInfo

# What is wrong, as the body of a function; `kept` outlives it.
WRONG = {
    "raises": "raise ValueError('no such customer')",
    "exits": "sys.exit('enough')",
    "dies": "os._exit(3)",
    "forks": "if not os.fork():\n        raise ValueError('the copy')\n    return 'the task'",
    "cannot": "return object()",
    "never": "time.sleep(600)",
    "leaks": (
        "kept.append(bytearray(300_000_000))\n    kept.extend(open(__file__) for _ in range(100))\n"
        "    kept.append(app.engine().connect())\n"
        "    threading.Thread(target=time.sleep, args=(60,), name='left').start()"
    ),
    "opens": (
        "kept.append(app.engine().connect())\n"
        "    kept[-1].execute(text(\"INSERT INTO baditem (status, done) VALUES ('left open', 0)\"))"
    ),
}
DELETED = "with app.engine().begin() as c:\n        c.execute(text(f'DELETE FROM baditem WHERE id = {row.id}'))"
HEAD = "import os, sys, threading, time\nfrom sqlalchemy import text\nkept = []\n"
# 40 MB, twice what is kept; another task has to come through meanwhile.
PRINTS = "def customFunc():\n    for _ in range(4_000):\n        print('x' * 9_999)\n"
FINE = "def customFunc(row=None):\n    return 'fine'\n"
BROKEN = "import nothing_of_this_name\n"
TIMEOUT = 4
# What each is recorded as: status, and how the message begins; what is not named is completed.
RECORDED = {
    "raises": ("error", "error: ValueError: no such customer"),
    "exits": ("error", "error: SystemExit: enough"),
    "dies": ("error", "error: worker died"),
    "never": ("error", f"error: still running after {TIMEOUT} s"),
    "opens": (
        "error",
        "error: LeftOpenError: the function left a transaction open: it was rolled back",
    ),
    "deleted": ("error", "error: StaleDataError: "),
    "broken": ("error", "error: ConfigError: tasks/Bad"),
}


def of_rows() -> str:
    cases = "".join(
        f"def {name}(row):\n    {body}\n"
        for name, body in {**WRONG, "deleted": DELETED}.items()
    )
    return HEAD + cases + (
        "def customFunc(row):\n    row.done += 1\n"
        "    return globals()[row.status](row) if row.status != 'active' else None\n"
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    elements = {
        "models/BadItem": model("BadItem"),
        "models/BadOther": model("BadOther"),
        "tasks/BadFine": scheduled(FINE),
        "tasks/BadPrints": scheduled(PRINTS),
        "tasks/BadBroken": scheduled(FINE),
        "tasks/BadBrokenRow": rows("BadOther", FINE),
        "tasks/BadRows": rows("BadItem", of_rows(), timeout=TIMEOUT),
    }
    for name, body in WRONG.items():
        inner = f"{HEAD}def customFunc():\n    {body}\n"
        elements[f"tasks/Bad{name.title()}"] = scheduled(inner, timeout=TIMEOUT)
    made = Place.build(tmp_path_factory.mktemp("bad") / "app", elements, name="bad")
    assert made.app.check() == []
    made.deploy()
    made.sync()
    for name in ("BadBroken", "BadBrokenRow"):
        (made.app.path / "tasks" / name / "inner.py").write_text(BROKEN + FINE)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def warm(place: Place) -> Iterator[Embedded]:
    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home, limit=2) as here:
        yield here


def ask(place: Place, name: str) -> str:
    """Have a template run, as Run in the UI does; the run's id, which is the task's."""
    found, key = place.deployments()[f"tasks.{name}"], f"{name} {time.time()}"
    about = {"template": f"tasks.{name}"}
    run = place.api.create_run(
        found["id"], key=key, name=name, due=clock.now(), tags=[], parameters=about
    )
    return run.id


def kept(place: Place, run_id: str) -> list[str]:
    """The last lines of a run's log."""
    where = {
        "logs": {"flow_run_id": {"any_": [run_id]}},
        "sort": "TIMESTAMP_DESC",
        "limit": 20,
    }
    return [
        line["message"] for line in place.api.call("POST", "/logs/filter", body=where)
    ]


def recorded(place: Place, run_id: str, seconds: float = 60) -> Entry:
    place.state(run_id, "Completed", "Failed", "TimedOut", "Crashed", seconds=seconds)
    return place.ended(run_id, 10)


def test_a_scheduled_task(place: Place, warm: Embedded) -> None:
    runs = {name: ask(place, f"Bad{name.title()}") for name in [*WRONG, "broken"]}
    after = ask(place, "BadFine")
    for name, run_id in runs.items():
        entry = recorded(place, run_id)
        status, message = RECORDED.get(name, ("completed", ""))
        assert entry.status == status and entry.message.startswith(message), (
            name,
            entry,
        )
    assert recorded(place, after).result == '"fine"'
    assert place.sql("SELECT count(*) FROM baditem") == 0
    log = warm.worker.log.read_text()
    assert (
        "a run left the thread 'left'" in log
        and "a run left database connections open" in log
    )


def test_forty_megabytes_keep_nobody_waiting(place: Place, warm: Embedded) -> None:
    began = time.monotonic()
    prints, fine = ask(place, "BadPrints"), ask(place, "BadFine")
    recorded(place, fine)
    meanwhile = time.monotonic() - began
    assert recorded(place, prints, 120).status == "completed"
    print(
        f"40 MB printed: {time.monotonic() - began:.1f} s; another task meanwhile: {meanwhile:.1f} s"
    )
    assert meanwhile < 30
    until(lambda: "more than 20 MB: the rest is not kept" in kept(place, prints), 60)


def test_rows_of_a_batch(place: Place, warm: Embedded) -> None:
    bad = [*WRONG, "deleted"]
    at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    with Session(place.app.engine()) as session:
        item, other = (
            place.app.getElement("models.BadItem"),
            place.app.getElement("models.BadOther"),
        )
        made = [item(at=at, status=kind) for kind in (bad + ["active"] * 30)[:30]]
        broken = other(at=at)
        session.add_all([*made, broken])
        session.commit()
        # Of this try only: the app is the module's.
        keys, broken_key = {str(row.id): row.status for row in made}, broken.id

    def own() -> list[Entry]:
        return [e for e in place.entries("tasks.BadRows") if e.row_key in keys]

    def over() -> list[Entry]:
        place.sync()
        found = own()
        return (
            found if len(found) == 30 and all(e.status in FINAL for e in found) else []
        )

    for entry in until(over, 90, every=1.0):
        name = keys[entry.row_key]
        status, message = RECORDED.get(name, ("completed", ""))
        assert entry.status == status and entry.message.startswith(message), (
            name,
            entry,
        )
    # A function that cannot be read is broken: its row's task waits.
    broken_row = place.entries("tasks.BadBrokenRow", broken_key)
    assert [entry.status for entry in broken_row] == ["pending"]
    done = {
        str(place.sql("SELECT status FROM baditem WHERE id = :id", id=key))
        for key in keys
    }
    assert done == {*bad, "active", "None"} - {"deleted"}
    failed = sum(name in RECORDED for name in keys.values())
    raised = (
        f"SELECT count(*) FROM baditem WHERE done = 1 AND id IN ({', '.join(keys)})"
    )
    assert place.sql(raised) == 30 - failed
