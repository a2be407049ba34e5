"""The warm worker on a real server: what one process after the other does, and what becomes of one that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from place import SCRIPTS, Place, model, rows, scheduled, until, worker

from jittask_prefect.deploying import deployments
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.running.process_status import process_of
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.service import ServiceInfo

PID = "import os\ndef customFunc(**more):\n    return os.getpid()\n"
HERE = "import os, time, ctypes, signal, threading\ndef here(name):\n    (app.path / name).write_text(str(os.getpid()))\n"
# C code that holds the interpreter's lock: no thread of the process runs meanwhile, and no signal handler.
DEAF = HERE + (
    "def customFunc():\n    here('deaf')\n    ctypes.PyDLL(None).sleep(60)\n"
)
# The copy comes back first, with everything that its parent holds.
FORKS = HERE + (
    "def customFunc():\n    copy = os.fork()\n    if not copy:\n        return 'the copy'\n"
    "    (app.path / 'copy').write_text(str(copy))\n    time.sleep(1.5)\n    return 'the task'\n"
)
STAYS = HERE + (
    "def customFunc():\n    copy = os.fork()\n    if not copy:\n        time.sleep(60)\n"
    "    (app.path / 'stays').write_text(str(copy))\n    return os.getpid()\n"
)
STARTS = HERE + (
    "import subprocess\ndef customFunc():\n    started = subprocess.Popen(['sleep', '60'])\n"
    "    (app.path / 'started').write_text(str(started.pid))\n    started.wait()\n"
)
TYPE = """
from jittask_prefect import NormalType
class WarmType(NormalType):
    def afterReturn(self, task):
        with open(app.path / "returned.txt", "a") as file:
            file.write(f"{task.taskId} {task.status}\\n")
"""
CHANGES = "import os\ndef customFunc():\n    os.chdir('/')\n    os.environ['LEFT'] = 'x'\n    return os.getpid()\n"
LOOKS = "import os\ndef customFunc():\n    return [os.getcwd(), os.environ.get('LEFT'), os.getpid()]\n"


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    elements = {
        "models/WarmItem": model("WarmItem"),
        "tasks/WarmType": {
            "e.json": {"type": "tasks.Meta", "title": "Warm"},
            "type.py": TYPE,
        },
        "tasks/WarmPid": scheduled(PID),
        "tasks/WarmExits": scheduled("import os\ndef customFunc():\n    os._exit(3)\n"),
        "tasks/WarmCloses": scheduled(
            "import os, time\ndef customFunc():\n    os.closerange(3, 200)\n    time.sleep(90)\n"
        ),
        "tasks/WarmDeaf": scheduled(DEAF),
        "tasks/WarmForks": scheduled(FORKS),
        "tasks/WarmStays": scheduled(STAYS),
        "tasks/WarmStarts": scheduled(STARTS),
        "tasks/WarmThread": scheduled(
            HERE
            + "def customFunc():\n    threading.Thread(target=time.sleep, args=(30,), name='left').start()\n"
            "    return os.getpid()\n"
        ),
        "tasks/WarmUmask": scheduled(
            "import os\ndef customFunc():\n    os.umask(0)\n    return os.getpid()\n"
        ),
        "tasks/WarmPrints": scheduled(
            "def customFunc():\n    for _ in range(50):\n        print('x' * 100_000)\n    print('the last line')\n"
        ),
        "tasks/WarmBroken": scheduled(PID),
        "tasks/WarmSleeps": scheduled(
            HERE + "def customFunc():\n    here('sleeps')\n    time.sleep(60)\n"
        ),
        "tasks/WarmChanges": scheduled(CHANGES),
        "tasks/WarmLooks": scheduled(LOOKS),
        "tasks/WarmRow": rows("WarmItem"),
        "tasks/WarmDates": scheduled(PID),
    }
    for name in ("WarmExits", "WarmDeaf"):
        elements[f"tasks/{name}"]["e.json"]["type"] = "tasks.WarmType"  # type: ignore[index]
    made = Place.build(
        tmp_path_factory.mktemp("warm") / "app", elements, name="warming"
    )
    assert made.app.check() == []
    made.deploy()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def warm(place: Place) -> Iterator[Embedded]:
    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home, limit=1) as here:
        yield here


def ask(place: Place, name: str, seconds: float = 0, **arguments: Any) -> str:
    """Have a template run once; the task's id, which is the flow run's."""
    template = place.app.template(f"tasks.{name}")
    due = clock.now() + timedelta(seconds=seconds)
    made = place.svc.createTimerTask(
        template.fullName, due, "customFunc", template.taskType, arguments
    )
    return str(made["taskId"])


def result(place: Place, task_id: str, seconds: float = 60) -> str:
    entry = place.ended(task_id, seconds)
    assert entry.status == "completed", entry.message
    place.state(task_id, "Completed")
    return str(entry.result)


def written(place: Place, name: str, seconds: float = 60) -> int:
    file: Path = place.app.path / name
    return int(
        until(
            lambda: file.exists() and file.read_text(), seconds, what=f"{name} written"
        )
    )


def gone(pid: int) -> bool:
    found = process_of(pid)
    return found is None or found.dead


def run_of(place: Place, run_id: str) -> FlowRun:
    run = place.api.run(run_id)
    assert run is not None
    return run


def said(place: Place, run_id: str) -> list[str]:
    return [line.message for line in place.api.logs(run_id)]


def test_one_process_does_several_runs_one_after_the_other(
    place: Place, warm: Embedded
) -> None:
    tasks = [ask(place, "WarmPid") for _ in range(5)]
    pids = {result(place, task) for task in tasks}
    assert len(pids) == 1
    runs = [run_of(place, task) for task in tasks]
    spans = sorted((r.start_time, r.end_time) for r in runs)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_run_that_the_schedule_made_has_its_occurrence(
    place: Place, warm: Embedded
) -> None:
    at = clock.now().replace(microsecond=0) + timedelta(seconds=5)
    dates = {"repeatType": "custom", "dates": [f"{at:%Y-%m-%d %H:%M:%S}"]}
    place.change(
        "tasks/WarmDates",
        timerCfg={"startTime": "2000-01-01 00:00:00", "repeat": dates},
    )
    place.deploy()

    def made() -> list[dict[str, Any]]:
        return [
            run
            for run in place.runs("tasks.WarmDates")
            if run.expected_start_time == at
        ]

    [run] = until(made, 10)
    assert run.auto_scheduled
    place.state(run.id, "Completed")
    entry = place.entry(run.id)
    assert (entry.nominal, entry.due, entry.status) == (at, at, "completed")
    assert entry.started is not None and entry.started >= at


def test_a_run_leaves_no_working_directory_and_no_environment_behind(
    place: Place, warm: Embedded
) -> None:
    first = result(place, ask(place, "WarmChanges"))
    assert (
        result(place, ask(place, "WarmLooks")) == f'["{place.app.path}", null, {first}]'
    )


def test_a_function_that_exits_is_an_error_and_the_next_task_runs(
    place: Place, warm: Embedded
) -> None:
    task, after = ask(place, "WarmExits"), ask(place, "WarmPid")
    entry = place.ended(task)
    assert (entry.status, entry.outcome, entry.message) == (
        "error",
        "died",
        "error: worker died",
    )
    state = place.state(task, "Crashed")
    assert state.message == "the process of this run ended with exit code 3"
    result(place, after)
    returned = place.app.path / "returned.txt"
    until(
        lambda: (
            returned.exists() and f"{task} error" in returned.read_text().splitlines()
        ),
        10,
    )


def test_a_function_that_closes_what_its_process_lives_by_is_an_error(
    place: Place, warm: Embedded
) -> None:
    """The worker notices within 30 s, both records end, and the place is free."""
    task, after = ask(place, "WarmCloses"), ask(place, "WarmPid")
    assert (place.ended(task, 40).status, place.state(task, "Crashed").type) == (
        "error",
        "CRASHED",
    )
    result(place, after)


def test_a_copy_that_a_function_forks_does_not_go_on_as_the_task(
    place: Place, warm: Embedded
) -> None:
    assert result(place, ask(place, "WarmForks")) == '"the task"'
    until(lambda: gone(written(place, "copy")), 10)


def test_a_process_that_left_processes_is_replaced_and_they_are_gone(
    place: Place, warm: Embedded
) -> None:
    left = result(place, ask(place, "WarmStays"))
    assert result(place, ask(place, "WarmPid")) != left
    until(lambda: gone(written(place, "stays")), 10)


def test_a_process_with_a_leftover_thread_is_replaced(
    place: Place, warm: Embedded
) -> None:
    left = result(place, ask(place, "WarmThread"))
    assert result(place, ask(place, "WarmPid")) != left
    until(lambda: gone(int(left)), 5)
    assert "a run left the thread 'left'" in warm.worker.log.read_text()


def test_a_process_that_a_task_has_changed_is_replaced(
    place: Place, warm: Embedded
) -> None:
    """What is not put back after a task (a umask, a time zone, a locale, …) does not reach the next."""
    changed = result(place, ask(place, "WarmUmask"))
    assert result(place, ask(place, "WarmPid")) != changed
    assert f"Child {changed} is replaced after" in warm.worker.log.read_text()
    assert "a run changed the umask" in warm.worker.log.read_text()


def test_a_fork_server_that_is_killed_takes_no_task_with_it(
    place: Place, warm: Embedded
) -> None:
    parent = warm.worker_running()
    pid = int(result(place, ask(place, "WarmPid")))
    child = process_of(pid)
    assert parent and child and child.parent != parent.pid
    server = process_of(child.parent)
    assert server and server.parent == parent.pid
    os.kill(child.parent, signal.SIGKILL)
    until(lambda: gone(child.parent), 10)
    assert int(result(place, ask(place, "WarmPid"))) == pid
    changed = int(result(place, ask(place, "WarmUmask")))
    assert changed == pid  # and so another child takes its place
    other = process_of(int(result(place, ask(place, "WarmPid"))))
    assert other and other.parent not in (parent.pid, child.parent)
    until(lambda: gone(pid), 10)


def test_all_that_a_function_prints_arrives(place: Place, warm: Embedded) -> None:
    task = ask(place, "WarmPrints")
    result(place, task)
    lines = until(
        lambda: found if "the last line" in (found := said(place, task)) else None, 30
    )
    assert [len(line) for line in lines or [] if line.startswith("xxx")] == [
        100_000
    ] * 50


def test_a_function_in_c_code_that_listens_to_nobody_is_ended(
    place: Place, warm: Embedded
) -> None:
    task = ask(place, "WarmDeaf")
    pid = written(place, "deaf")
    began = time.monotonic()
    answer = place.svc.forcedEnd(task)
    took = time.monotonic() - began
    print(f"forcedEnd of C code → gone: {took:.2f} s")
    assert gone(pid) and took < 5
    assert (answer["previousStatus"], answer["status"], answer["changed"]) == (
        "executing",
        "ended",
        True,
    )
    assert place.state(task, "Cancelled").message == "ended: forced end"
    result(place, ask(place, "WarmPid"))
    lines = (place.app.path / "returned.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith(task)] == [f"{task} ended"]


def test_a_changed_file_of_the_app_counts_from_the_next_run_on(
    place: Place, warm: Embedded
) -> None:
    old = result(place, ask(place, "WarmPid"))
    inner = place.app.path / "tasks" / "WarmPid" / "inner.py"
    inner.write_text("def customFunc(**more):\n    return 'new'\n")
    try:
        assert result(place, ask(place, "WarmPid")) == '"new"'
        until(lambda: gone(int(old)), 5)
    finally:
        inner.write_text(PID)


def test_an_early_run_is_held_by_nobody_until_it_is_due(
    place: Place, warm: Embedded
) -> None:
    task = ask(place, "WarmPid", 6)
    due = run_of(place, task).expected_start_time
    while clock.now() < due - timedelta(
        seconds=1
    ):  # the worker asks for what is due within 10 s
        assert run_of(place, task).state_type == "SCHEDULED"
        time.sleep(0.2)
    result(place, task)
    run = run_of(place, task)
    assert run.start_time is not None
    assert run.expected_start_time <= run.start_time


@pytest.mark.parametrize(
    ("variables", "named"),
    [({"env": {"A": "b"}}, "env.A"), ({"command": "echo"}, "command")],
)
def test_job_variables_are_refused(
    place: Place, warm: Embedded, variables: dict[str, Any], named: str
) -> None:
    found = place.deployments()["tasks.WarmPid"]["id"]
    body = {"parameters": {"template": "tasks.WarmPid"}, "job_variables": variables}
    run = place.api.call("POST", f"/deployments/{found}/create_flow_run", body=body)
    message = place.state(str(run["id"]), "Crashed").message
    assert message.startswith(f"job variables {named} of deployment tasks.WarmPid: ")
    assert message.endswith("remove them, or use a pool of type process")


def test_a_row_task_commits_its_effect(place: Place, warm: Embedded) -> None:
    row = place.save(
        "WarmItem", at=clock.now().replace(tzinfo=None) - timedelta(seconds=1)
    )
    [entry] = place.entries("tasks.WarmRow", row.id)
    assert place.ended(entry.task_id).status == "completed"
    assert place.sql("SELECT done FROM warmitem WHERE id = :id", id=row.id) == 1


def test_a_flow_that_is_not_there_is_said_and_the_next_task_runs(
    place: Place, warm: Embedded
) -> None:
    found = place.deployments()["tasks.WarmBroken"]
    place.api.change_deployment(
        found["id"], {"entrypoint": found["entrypoint"].replace("NormalType", "Gone")}
    )
    run = place.api.create_run(
        found["id"], key="broken", name="b", due=clock.now(), tags=[], parameters={}
    )
    message = place.state(run.id, "Crashed").message
    assert (
        "the flow could not be loaded: LookupError: " in message
        and "has no flow 'Gone'; it has: " in message
    )
    result(place, ask(place, "WarmPid"))


def test_a_worker_that_is_killed_leaves_no_process(
    place: Place, warm: Embedded
) -> None:
    warm.stop()
    home = place.app.path.parent
    (place.app.path / "deaf").unlink()
    with worker(home / ".jittask", cwd=home) as here:
        ask(place, "WarmDeaf")
        ask(place, "WarmStarts")
        running = here.worker_running()
        pid, started = written(place, "deaf"), written(place, "started")
        assert running
        os.kill(running.pid, signal.SIGKILL)
        until(lambda: gone(pid), 10, what="its child is gone, in C code too")
        until(lambda: gone(started), 10, what="and so is what a child had started")


def test_a_long_task_keeps_nobody_waiting_and_a_worker_that_ends_says_so(
    place: Place, warm: Embedded
) -> None:
    warm.stop()
    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home) as here:
        long = ask(place, "WarmSleeps")
        pid = written(place, "sleeps")
        assert result(place, ask(place, "WarmPid")) != str(pid)
        running = here.worker_running()
        assert running and place.entry(long).status == "executing"
        os.kill(running.pid, signal.SIGTERM)
        until(lambda: gone(running.pid), 20, what="the worker's end")
        assert gone(pid)
    assert place.state(long, "Crashed", seconds=1).message == "error: worker died"
    assert (place.entry(long).status, place.entry(long).message) == (
        "error",
        "error: worker died",
    )


def test_a_worker_that_ends_says_so_of_a_run_that_listens_to_nobody(
    place: Place, warm: Embedded
) -> None:
    warm.stop()
    home = place.app.path.parent
    (place.app.path / "deaf").unlink(missing_ok=True)
    with worker(home / ".jittask", cwd=home) as here:
        task = ask(place, "WarmDeaf")
        pid, running = written(place, "deaf"), here.worker_running()
        assert running
        os.kill(running.pid, signal.SIGTERM)
        until(lambda: gone(pid), 10)
        assert (
            place.state(task, "Crashed").message
            == "the process of this run ended with signal SIGKILL"
        )


def test_a_run_that_another_worker_completed_meanwhile_is_left_alone(
    place: Place, warm: Embedded
) -> None:
    warm.stop()
    home = place.app.path.parent
    task = ask(place, "WarmPid", 20)
    here = Embedded(home / ".jittask")
    env = {
        "PREFECT_WORKER_QUERY_SECONDS": "60",
        "PREFECT_WORKER_PREFETCH_SECONDS": "60",
    }  # it knows it, and asks no more
    here.start_worker(
        place.api.url,
        deployments.POOL,
        cwd=home,
        env=env,
        worker_type=deployments.POOL_TYPE,
    )
    try:
        until(
            lambda: "started!" in here.worker.log.read_text().rpartition("stopped!")[2],
            15,
        )
        time.sleep(2)  # its first question; nothing tells of it
        assert (
            place.api.set_state(
                task, "COMPLETED", message="by another worker", force=True
            )
            == "COMPLETED"
        )
        due = run_of(place, task).expected_start_time
        time.sleep(max(0.0, (due - clock.now()).total_seconds()) + 4)
        assert run_of(place, task).message == "by another worker"
    finally:
        here.stop()


def test_the_command_makes_the_pool_and_prefects_own_command_runs_it(
    place: Place, prefect_server: ServiceInfo
) -> None:
    env = {**os.environ, "JITTASK_APP": str(place.app.path)}
    for before, command, end in (
        # As a script starts it with `&`, which has SIGINT ignored, and a container's end.
        (
            "trap '' INT; ",
            ["jittask", "worker", "--pool", "another", "--limit", "2"],
            signal.SIGTERM,
        ),
        ("", ["prefect", "worker", "start", "--pool", "another"], signal.SIGINT),
    ):
        log = place.app.path.parent / f"{command[0]}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    "sh",
                    "-c",
                    before + 'exec "$@"',
                    "sh",
                    str(SCRIPTS / command[0]),
                    *command[1:],
                ],
                env=env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            until(
                lambda log=log: "started!" in log.read_text(), 60, what=log.read_text()
            )  # type: ignore[misc]
            assert place.api.call("GET", "/work_pools/another")["type"] == "jittask"
        finally:
            process.send_signal(end)
            process.wait(30)
    place.api.ensure_pool("stock", "process")
    refused = place.jittask("worker", "--pool", "stock")
    assert (
        refused.returncode == 1
        and "is of type process; allowed: jittask" in refused.stderr
    )
    assert deployments.POOL_TYPE == "jittask"
