"""forcedEnd, step by step: who knows what when, for a task that a process of this host executes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from shop import Shop
from sqlalchemy.exc import OperationalError

from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.running import process_end
from jittask_prefect.running.function import follow_up

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
TYPE = """
from jittask_prefect import DateFieldType

class Noted(DateFieldType):
    def afterReturn(self, task):
        self.note(task)
"""
NOTED = {
    "tasks/Noted": {
        "e.json": {"type": "tasks.Meta", "title": "Noted"},
        "type.py": TYPE,
    }
}


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that executes a task, as far as the ledger knows."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    ) as p:
        yield p
        p.kill()


def executing(
    shop: Make, process: subprocess.Popen[bytes], **keys: Any
) -> tuple[Shop, Entry]:
    """A row's task, daily, at work in the process."""
    s = shop(more=NOTED, type="tasks.Noted", repeat={"repeatType": "day"}, **keys)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 09:00")
    [task] = s.at("2026-03-02 10:00").entries()
    run_id, owner = str(task.flow_run_id), f"{socket.gethostname()}:{process.pid}:x"
    with s.app.engine().begin() as connection:
        claim = (connection, task.task_id, owner, run_id, s.now, 25)
        assert transitions.claim(*claim, in_batch=task.batch is not None)
    s.api.set_state(run_id, "RUNNING")
    return s, task


def test_the_order_of_a_forced_end(
    shop: Make, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    s, task = executing(shop, process)
    s.save(id=2, at=TEN)  # nobody has handed it over yet
    run_id, seen = str(task.flow_run_id), list[tuple[Any, ...]]()
    set_state, run, create = s.api.set_state, s.api.run, s.api.create_run

    def status() -> str:
        return s.entries(task_id=task.task_id)[0].status

    def told(of: str, kind: str, **about: Any) -> str:
        seen.append((kind, status(), process.poll()))
        return set_state(of, kind, **about)

    def asked(of: str) -> Any:
        if process.poll() is None:
            seen.append(("awaited", status(), None))
            process.kill()
            process.wait()
        return run(of)

    def created(*args: Any, parameters: dict[str, str], **about: Any) -> Any:
        [entry] = s.entries(task_id=parameters["taskId"])
        seen.append(("handed over", f"{entry.row_key} {entry.due:%m-%d %H:%M}"))
        return create(*args, parameters=parameters, **about)

    def returned(task: Any) -> None:
        state = s.api.all_runs[run_id]["state_type"]
        seen.append(("afterReturn", task.status, state, len(s.entries(row_key="1"))))

    for name, call in (("set_state", told), ("run", asked), ("create_run", created)):
        monkeypatch.setattr(s.api, name, call)
    kind = type(s.app.template("tasks.Task"))
    monkeypatch.setattr(kind, "note", staticmethod(returned), raising=False)
    answer = s.element("services.TaskSvc").forcedEnd(task.task_id)
    assert (answer["previousStatus"], answer["changed"]) == ("executing", True)
    assert seen == [
        ("CANCELLING", "executing", None),
        ("awaited", "ended", None),
        ("CANCELLED", "ended", -signal.SIGKILL),
        ("afterReturn", "ended", "CANCELLED", 1),
        ("handed over", "1 03-03 10:00"),
    ]
    assert {e.dirty for e in s.entries(row_key="2")} == {True}


def test_prefect_is_asked_for_two_seconds_at_most(
    shop: Make, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes a request and does not answer keeps nobody from ending a task."""
    assert process_end.ASK_SECONDS == 2
    monkeypatch.setattr(process_end, "ASK_SECONDS", 0.1)
    s, task = executing(shop, process)
    process.kill()
    process.wait()
    answers, asked = threading.Event(), threading.Event()
    late: list[bool] = []

    def silent(*_: Any, **__: Any) -> str:
        asked.set()
        late.append(answers.wait(20))
        return "CANCELLING"

    monkeypatch.setattr(s.api, "set_state", silent)
    monkeypatch.setattr(
        type(s.app.template("tasks.Task")), "note", print, raising=False
    )
    changed = s.element("services.TaskSvc").forcedEnd(task.task_id)["changed"]
    assert (changed, asked.is_set(), late) == (True, True, [])
    answers.set()
    [ended] = s.entries(task_id=task.task_id)
    assert (ended.outcome, ended.returned, ended.dirty) == ("forced", True, True)


class Away:
    """A database that is away, as a question at its engine notices."""

    def connect(self) -> None:
        raise OperationalError("SELECT 1", {}, Exception("the database is away"))

    begin = connect


def test_a_database_that_is_away_while_the_process_ends(
    shop: Make, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is written down by then. Nobody is killed meanwhile; afterReturn and the next occurrence follow."""
    s, task = executing(shop, process, dispatch="batch")
    monkeypatch.setattr(process_end, "KILL_SECONDS", 0)
    returned: list[str] = []
    kind = type(s.app.template("tasks.Task"))
    note = staticmethod(lambda task: returned.append(task.status))
    monkeypatch.setattr(kind, "note", note, raising=False)
    questions, killed, run = list[str](), list[Entry](), s.api.run
    monkeypatch.setattr(process_end, "kill", lambda entry, *_: killed.append(entry))

    with monkeypatch.context() as patch:

        def asked(of: str) -> Any:
            questions.append(of)
            patch.setattr(s.app, "engine", lambda _database="": Away())
            if len(questions) == 3:
                process.kill()
                process.wait()
            return run(of)

        patch.setattr(s.api, "run", asked)
        answer = s.element("services.TaskSvc").forcedEnd(task.task_id)
    assert (answer["previousStatus"], answer["status"]) == ("executing", "ended")
    assert answer["changed"] is True and killed == [] and returned == []
    for _, entry in s.sync("2026-03-02 10:01:30").died:
        follow_up(s.app, "", entry, s.now)
    assert returned == ["ended"]
    assert s.tasks() == ["1 03-02 10:00 #1 forced", "1 03-03 10:00 #1 pending"]
