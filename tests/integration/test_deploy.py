"""prefect.yaml on a real server: as a user deploys it, and as `jittask deploy` does."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from patience import PATIENCE
from place import SCRIPTS, Place, deploy_here, scheduled, until

from jittask_prefect.deploying import (
    comparison,
    deployments,
    prefect_folder,
    prefect_yaml,
)
from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.schedule import clock
from jittask_prefect.schedule.schedule_text import SLUGS
from jittask_prefect.server.service import ServiceInfo

INNER = "def customFunc():\n    return 1\n"
SHANGHAI = {"timezone": "Asia/Shanghai", "calendar": "CN", "skipHoliday": 1}
BEFORE_NATIONAL_DAY = datetime(2026, 9, 21, tzinfo=UTC)
TUESDAYS = {
    "repeat": {"repeatType": "week", "period": 1, "weekday": [2]},
    "start": "2026-01-06 09:00:00",
    "timer": SHANGHAI,
}
# An hourly task that skips holidays in a zone with DST: one schedule for each offset.
OFFICE_HOURS = {
    "startTime": "2026-01-01 00:00:00",
    "repeat": {"repeatType": "hour", "period": 1},
    "skipHoliday": 1,
}
OFFICE_HOURS |= {"calendar": "US", "timezone": "America/New_York"}


@pytest.fixture
def place(tmp_path: Path, prefect_server: ServiceInfo) -> Iterator[Place]:
    elements = {
        "tasks/DeployTuesdays": scheduled(INNER, **TUESDAYS),
        "tasks/DeployOff": scheduled(INNER, enable=0),
        "tasks/DeployMany": scheduled(INNER, timer=OFFICE_HOURS),
    }
    made = Place.build(tmp_path / "app", elements, name="deploying")
    yield made
    made.remove()


def test_plain_prefect_deploy_takes_the_file_unchanged_and_makes_what_jittask_deploy_does(
    place: Place,
) -> None:
    place.deploy(BEFORE_NATIONAL_DAY)
    ours = whole(place)
    for deployment in place.deployments().values():
        place.api.delete_deployment(deployment["id"])
    file = prefect_yaml.write(place.app, BEFORE_NATIONAL_DAY)
    text = file.read_text()
    said = prefect_deploy_all(file.parent)
    assert file.read_text() == text, said
    names = [entry["name"] for entry in yaml.safe_load(text)["deployments"]]
    found = deployments.deployments(place.app, BEFORE_NATIONAL_DAY)
    wanted = {deployment.name: deployment for deployment in found}
    there = place.api.deployments(app_tag(place.app.name))
    dialogs = {
        "new-scheduled-task",
        "new-date-field-task",
        "edit-task",
        "end-task",
        "run-task-now",
        "retry-failed",
    }
    own = {
        "tasks.DeployTuesdays",
        "tasks.DeployOff",
        "tasks.DeployMany",
        "jittask.sync",
    }
    assert names == list(wanted)
    assert set(there) == set(wanted) == own | {f"jittask.{name}" for name in dialogs}
    assert [
        n
        for n in wanted
        if comparison.differences(
            wanted[n], there[n], prefect_folder.root_of(place.app)
        )
    ] == []
    assert there["tasks.DeployOff"].paused and not there["tasks.DeployTuesdays"].paused
    # Field by field, the forms filled in as the first sync does.
    deploying.fill_forms(
        place.app,
        place.api,
        place.api.deployments(app_tag(place.app.name)),
        BEFORE_NATIONAL_DAY,
        wanted.values(),
    )
    theirs = whole(place)
    assert list(ours) == list(theirs) and len(ours) == 10
    for name in ours:
        assert ours[name] == theirs[name], name
    assert place.deploy(BEFORE_NATIONAL_DAY).changed == [], (
        "what `prefect deploy` made is what `jittask deploy` wants"
    )


OF_THE_SERVER = {"id", "created", "updated", "created_by", "updated_by", "last_polled"}
"""Fields of a deployment, and of its schedules, that the server sets."""
OF_THE_FILE = {"version", "version_id", "version_info"}
"""`prefect deploy` sets these from the digest of the file of the flow; this package reads none of them."""


def whole(place: Place) -> dict[str, Any]:
    """The app's deployments by name, each with all its fields."""
    found = {}
    for name, deployment in place.deployments().items():
        fields = place.api.call("GET", f"/deployments/{deployment['id']}")
        for schedule in fields["schedules"]:
            for key in {*OF_THE_SERVER, "deployment_id"}:
                schedule.pop(key, None)
        fields["schedules"].sort(key=lambda schedule: schedule["slug"])
        found[name] = {
            key: value
            for key, value in fields.items()
            if key not in OF_THE_SERVER | OF_THE_FILE
        }
    return found


def test_a_sync_that_is_due_now_comes_before_all_that_is_overdue(place: Place) -> None:
    """`prefect deploy` makes the sync's work queue as the last one; the first sync makes it the first one."""
    now = clock.now().replace(second=0, microsecond=0)
    place.change(
        "tasks/DeployMany",
        timerCfg={
            "startTime": "2026-01-01 00:00:00",
            "repeat": {"repeatType": "minute"},
        },
    )
    place.api.ensure_pool(deployments.POOL, deployments.POOL_TYPE)
    file = prefect_yaml.write(place.app, now)
    deploy_here(
        place.api,
        file,
        [entry["name"] for entry in yaml.safe_load(file.read_text())["deployments"]],
    )
    there = place.deployments()
    queues = {name: found["work_queue_name"] for name, found in there.items()}
    assert {name for name, queue in queues.items() if queue == "deploying.first"} == {
        name for name in there if name.startswith("jittask.")
    }
    place.sync()
    overdue, late = there["tasks.DeployMany"]["id"], now - timedelta(minutes=220)
    place.api.fill_schedule(overdue, late, until=now - timedelta(minutes=5))
    place.api.fill_schedule(there[deployments.SYNC]["id"], now, until=now)

    def due() -> list[str]:
        found = place.api.call(
            "POST",
            f"/work_pools/{deployments.POOL}/get_scheduled_flow_runs",
            body={"scheduled_before": clock.now().isoformat()},
        )
        return [each["flow_run"]["deployment_id"] for each in found]

    def sync_is_first() -> bool:
        if due()[0] == there[deployments.SYNC]["id"]:
            return True
        place.sync()  # a busy server may have refused the call of the last one
        return False

    until(sync_is_first, 60, every=2, what="the sync's run comes first")
    assert len(due()) == 200 and due().count(overdue) > 190


def test_schedules_several_then_fewer_then_none_leave_no_old_slot_firing(
    place: Place,
) -> None:
    name, now = "tasks.DeployMany", clock.now()
    place.api.ensure_pool(deployments.POOL, deployments.POOL_TYPE)

    def deploy(timer: dict[str, Any]) -> list[dict[str, Any]]:
        place.change("tasks/DeployMany", timerCfg=timer)
        deploy_here(place.api, prefect_yaml.write(place.app, now), [name])
        found = place.deployments()[name]
        assert sorted(s["slug"] for s in found["schedules"]) == sorted(SLUGS)
        place.api.fill_schedule(found["id"], now)
        return [s for s in found["schedules"] if s["active"]]

    many = deploy(OFFICE_HOURS)
    assert len(many) > 1
    assert instants(place, name)

    daily = {
        "startTime": "2026-01-01 07:30:00",
        "repeat": {"repeatType": "day", "period": 1},
        "timezone": "UTC",
    }
    assert len(deploy(daily)) == 1
    assert {(i.hour, i.minute) for i in instants(place, name)} == {(7, 30)}

    assert deploy({**daily, "endTime": "2026-02-01 00:00:00"}) == []
    assert instants(place, name) == []


def stamps(place: Place) -> dict[str, str]:
    """When each deployment was changed; but for the form that ends tasks, which names the runs that there are by now."""
    found = place.deployments().items()
    return {n: d["updated"] for n, d in found if n != "jittask.end-task"}


def test_deploy_touches_only_what_changed_and_makes_the_runs_at_once(
    place: Place,
) -> None:
    done = place.deploy(BEFORE_NATIONAL_DAY)
    # Three tasks, the sync and six dialogs.
    assert len(done.changed) == 10 and done.unchanged == []

    # At once, not after the scheduler's next round. National Day 2026 is 1–7 October: Tuesday the 6th moves to the 8th.
    tuesdays = [
        i.astimezone(ZoneInfo("Asia/Shanghai"))
        for i in filled(place, "tasks.DeployTuesdays")
    ]
    assert [f"{i:%m-%d %H:%M}" for i in tuesdays] == [
        "09-22 09:00",
        "09-29 09:00",
        "10-08 09:00",
    ]
    assert instants(place, "tasks.DeployOff") == []

    before = stamps(place)
    again = place.deploy(BEFORE_NATIONAL_DAY + timedelta(days=1))
    assert again.changed == [] and len(again.unchanged) == 10, (
        "the schedules came back from the server as they went"
    )
    assert stamps(place) == before and len(before) == 9

    place.change("tasks/DeployOff", enable=1)
    shutil.rmtree(place.app.path / "tasks/DeployMany")
    place.again()
    done = place.deploy(BEFORE_NATIONAL_DAY)
    assert (done.changed, done.removed, done.leftover) == (
        ["tasks.DeployOff"],
        [],
        ["tasks.DeployMany"],
    )
    there = place.deployments()
    assert not there["tasks.DeployOff"]["paused"]
    assert there["tasks.DeployTuesdays"]["updated"] == before["tasks.DeployTuesdays"]

    assert place.deploy(BEFORE_NATIONAL_DAY, prune=True).removed == ["tasks.DeployMany"]
    assert "tasks.DeployMany" not in place.deployments()


def test_a_change_made_in_the_ui_is_found_and_put_right(place: Place) -> None:
    place.deploy(BEFORE_NATIONAL_DAY)
    found = place.deployments()["tasks.DeployTuesdays"]
    place.api.call("PATCH", f"/deployments/{found['id']}", body={"paused": True})
    assert place.deploy(BEFORE_NATIONAL_DAY).changed == ["tasks.DeployTuesdays"]
    assert not place.deployments()["tasks.DeployTuesdays"]["paused"]
    assert len(filled(place, "tasks.DeployTuesdays")) == 3, (
        "pausing deleted them; 3 is what Prefect makes ahead"
    )


def test_two_apps_with_a_template_of_the_same_name_have_each_their_own(
    place: Place, tmp_path: Path
) -> None:
    place.deploy(BEFORE_NATIONAL_DAY)
    other = Place.build(
        tmp_path / "other", {"tasks/DeployOff": scheduled(INNER)}, name="intruder"
    )
    before = stamps(place)
    other.deploy(BEFORE_NATIONAL_DAY)
    assert "tasks.DeployOff" in other.deployments()
    assert stamps(place) == before
    other.remove()


def instants(place: Place, name: str) -> list[datetime]:
    return [r.expected_start_time for r in place.runs(name, "SCHEDULED")]


def filled(place: Place, name: str) -> list[datetime]:
    """What the deploy made for its own `now`; later ones come from the server's scheduler, whenever its round is."""
    return [
        i for i in instants(place, name) if i < BEFORE_NATIONAL_DAY + timedelta(days=30)
    ]


def prefect_deploy_all(folder: Path) -> str:
    """As a user types it: at a terminal, in the folder of prefect.yaml; a question fails the test."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "PWD": str(folder), "TERM": "xterm", "COLUMNS": "200"}
    command = [SCRIPTS / "prefect", "deploy", "--all"]
    with subprocess.Popen(
        command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        deadline = time.monotonic() + 60 * PATIENCE
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
            said += part
            if not part:
                break
            if b"?" in part.replace(b"?25", b"") or time.monotonic() > deadline:
                process.kill()  # the process may wait for an answer
                raise AssertionError(said.decode())
        assert process.wait(10) == 0, said.decode()
    os.close(ours)
    return said.decode()
