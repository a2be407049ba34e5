"""Deployments roll on: renewed in place around "now", restored, made good, ended; on a real server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from place import Place, scheduled, until

from jittask_prefect.deploying import renew, renewal_memory
from jittask_prefect.dialogs.forms import END
from jittask_prefect.ledger import state_table
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.server.service import ServiceInfo

INNER = "def customFunc():\n    return 1\n"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
EVERY_MINUTE = {"repeatType": "minute", "period": 1}
# No day of this calendar is off for now: what is dense and minds holidays is a rule with a DTSTART near now.
OFFICE = {"closed": ["2020-01-01"]}


def elements() -> dict[str, Any]:
    office = {"skipHoliday": 1, "calendar": "office", "timezone": "UTC"}
    return {
        "tasks/RollMinutely": scheduled(INNER, repeat=EVERY_MINUTE, timer=office),
        "tasks/RollHourly": scheduled(
            INNER,
            repeat={"repeatType": "minute", "period": 15},
            timer={"timezone": "UTC"},
        ),
        "tasks/RollDaily": scheduled(INNER, timer=office),
    }


@pytest.fixture
def place(tmp_path: Path, prefect_server: ServiceInfo) -> Iterator[Place]:
    made = Place.build(
        tmp_path / "app", elements(), name="rolling", calendars={"office": OFFICE}
    )
    upgrade(made.app)
    made.deploy()
    assert roll(made) == [], "a deployment that was just made is as it should be"
    yield made
    made.remove()


def roll(place: Place, now: datetime | None = None) -> list[str]:
    return [
        str(change) for change in renew.renew(place.app, place.api, now or clock.now())
    ]


def auto(place: Place, name: str, *states: str) -> Counter[datetime]:
    """How many runs a template's schedules made for each instant."""
    return Counter(
        r.expected_start_time for r in place.runs(name, *states) if r.auto_scheduled
    )


def slots(place: Place, name: str) -> dict[str, Any]:
    return {slot["slug"]: slot for slot in place.deployments()[name]["schedules"]}


def mine(place: Place, name: str) -> str:
    """The slug of a schedule that somebody added, once it is put out of action."""
    return next(slug for slug in slots(place, name) if slug.startswith("x-"))


def age(place: Place, hours: float, mark: datetime | None = None) -> datetime:
    """Let the sync have known all this for some hours; until `mark`, or from then on, it saw that nothing was lost."""
    before = clock.now() - hours * HOUR
    with place.app.engine().begin() as connection:
        state_table.put(
            connection,
            place.app.name,
            renewal_memory.MARK,
            (mark or before).isoformat(),
        )
        for key, text in state_table.starting_with(
            connection, place.app.name, renewal_memory.PREFIX
        ).items():
            state_table.put(
                connection,
                place.app.name,
                key,
                json.dumps({**json.loads(text), "since": before.isoformat()}),
            )
    return before


def late(place: Place, name: str, hours: float = 2) -> Counter[datetime]:
    """Runs that wait for a worker since some hours, and the sync knows of them."""
    before = age(place, hours, clock.now())
    place.api.fill_schedule(place.deployments()[name]["id"], before, until=clock.now())
    return past(place, name)


def past(place: Place, name: str) -> Counter[datetime]:
    now = clock.now()
    return Counter(
        {at: count for at, count in auto(place, name, "SCHEDULED").items() if at <= now}
    )


def test_renewed_in_the_minute_in_which_a_run_is_due_nothing_is_lost_or_doubled(
    place: Place,
) -> None:
    name = "tasks.RollMinutely"
    ids = {slug: slot["id"] for slug, slot in slots(place, name).items()}
    begun = clock.now()
    boundary = begun.replace(second=0, microsecond=0) + MINUTE
    until(lambda: clock.now() > boundary - timedelta(seconds=1.5), 90)
    done = []
    ends = ["2099-01-01", "2099-01-02"]
    while clock.now() < boundary + timedelta(seconds=2.5):
        place.change(
            "tasks/RollMinutely", timerCfg=minutely(endTime=ends[len(done) % 2])
        )
        done += roll(place)
    assert len(done) >= 4 and set(done) == {f"{name} changed: description, schedules"}
    assert {slug: slot["id"] for slug, slot in slots(place, name).items()} == ids, (
        "changed in place"
    )
    found = auto(place, name)
    assert (
        found[boundary - MINUTE] <= 1
        and [found[boundary + n * MINUTE] for n in range(30)] == [1] * 30
    )
    assert max(found.values()) == 1


def minutely(**more: Any) -> dict[str, Any]:
    cfg = {
        "startTime": "2000-01-01 00:00:00",
        "repeat": EVERY_MINUTE,
        "skipHoliday": 1,
        "calendar": "office",
    }
    return {**cfg, "timezone": "UTC", **more}


def changed_at(place: Place) -> dict[str, str]:
    """When each deployment was changed; the form for ending tasks changes with the next runs that the form names."""
    found = place.deployments().items()
    return {name: each["updated"] for name, each in found if name != END}


def saw_all_until(place: Place, mark: datetime) -> None:
    """Let the last sync have been at `mark`: no run before it is missing."""
    with place.app.engine().begin() as connection:
        state_table.put(
            connection, place.app.name, renewal_memory.MARK, mark.isoformat()
        )


def test_a_schedule_is_renewed_only_when_its_text_changes(place: Place) -> None:
    before = changed_at(place)
    assert roll(place) == roll(place) == []
    assert changed_at(place) == before
    # The text of what comes every minute holds for two hours, that of a daily task for a month: in its middle, whatever
    # today is.
    middle = (clock.now() + timedelta(days=31)).replace(day=15, hour=12)
    saw_all_until(place, middle)
    roll(place, middle)
    later = middle + 5 * HOUR
    saw_all_until(place, later)
    assert roll(place, later) == ["tasks.RollMinutely renewed: schedules"]
    assert roll(place, later) == []


def test_what_somebody_changed_or_broke_in_the_ui_is_restored_and_told(
    place: Place,
) -> None:
    name = "tasks.RollHourly"
    found = place.deployments()[name]
    whole = auto(place, name)
    first = slots(place, name)["s1"]

    # Pause in the UI: it takes the runs that wait with it.
    place.api.call("POST", f"/deployments/{found['id']}/pause_deployment")
    assert not auto(place, name, "SCHEDULED")
    assert roll(place) == [f"{name} restored: paused"]
    assert set(whole) - {at for at in whole if at < clock.now()} <= set(
        auto(place, name)
    )

    # The UI cannot edit a rule; choosing cron there replaces it.
    cron = {
        "schedule": {"cron": "* * * * *", "timezone": "UTC"},
        "active": True,
        "parameters": {"template": "x"},
    }
    place.api.call(
        "PATCH", f"/deployments/{found['id']}/schedules/{first['id']}", body=cron
    )
    place.api.call(
        "PATCH",
        f"/deployments/{found['id']}",
        body={"parameters": {}, "description": "mine"},
    )
    assert roll(place) == [f"{name} restored: description, parameters, schedules"]
    assert (
        slots(place, name)["s1"]["schedule"] == first["schedule"]
        and slots(place, name)["s1"]["id"] == first["id"]
    )
    assert place.deployments()[name]["parameters"] == {"template": name}

    # A schedule of somebody's own, and one of ours deleted.
    place.api.call(
        "POST",
        f"/deployments/{found['id']}/schedules",
        body=[{"schedule": {"cron": "7 * * * *"}}],
    )
    place.api.call(
        "DELETE",
        f"/deployments/{found['id']}/schedules/{slots(place, name)['s1']['id']}",
    )
    assert roll(place) == [f"{name} restored: schedules"]
    assert sorted(
        slug for slug, slot in slots(place, name).items() if not slug.startswith("s")
    ) == [mine(place, name)]
    assert not slots(place, name)[mine(place, name)]["active"] and roll(place) == []
    assert {at.minute for at in auto(place, name, "SCHEDULED")} <= {0, 15, 30, 45}
    assert max(auto(place, name).values()) == 1

    # A deployment deleted, with all its runs.
    place.api.delete_deployment(found["id"])
    assert roll(place)[0] == f"{name} restored: the deployment was gone"
    assert auto(place, name, "SCHEDULED") and roll(place) == []


def test_an_exhausted_schedule_is_deactivated_and_a_disabled_task_is_paused(
    place: Place,
) -> None:
    over = clock.now() - MINUTE
    place.change(
        "tasks/RollMinutely", timerCfg=minutely(endTime=f"{over:%Y-%m-%d %H:%M:%S}")
    )
    place.change("tasks/RollHourly", enable=0)
    told = [line for line in roll(place) if "made good" not in line]
    assert told == [
        "tasks.RollHourly changed: description, paused",
        "tasks.RollMinutely changed: description, schedules",
    ]
    assert not any(
        slot["active"] for slot in slots(place, "tasks.RollMinutely").values()
    )
    assert not any(
        at > clock.now() for at in auto(place, "tasks.RollMinutely", "SCHEDULED")
    )
    assert place.deployments()["tasks.RollHourly"]["paused"]


def test_a_calendar_that_changes_takes_the_schedules_with_it_and_stops_the_run_that_is_there(
    place: Place,
) -> None:
    name = "tasks.RollDaily"
    tomorrow = (clock.now() + timedelta(days=1)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    assert auto(place, name)[tomorrow] == 1
    [there] = [
        r for r in place.runs(name, "SCHEDULED") if r.expected_start_time == tomorrow
    ]
    file = place.app.path / "app.json"
    about = json.loads(file.read_text())
    about["calendars"]["office"]["closed"].append(f"{tomorrow:%Y-%m-%d}")
    file.write_text(json.dumps(about))
    place.again()

    # The run is there already, and a worker has taken it: nothing runs.
    outcome = execute(
        place.app, name, None, Run(there.id, tomorrow, auto=True), lambda: tomorrow
    )
    assert (outcome.status, outcome.message) == (
        "ended",
        "ended: no longer an occurrence of the schedule",
    )
    told = roll(place)
    assert f"{name} changed: schedules" in told
    assert auto(place, name, "SCHEDULED")[tomorrow] == 0
    assert auto(place, name, "SCHEDULED")[tomorrow + timedelta(days=1)] == 1


def test_what_waits_for_a_worker_survives_whatever_somebody_does_in_the_ui(
    place: Place,
) -> None:
    name = "tasks.RollHourly"
    found, waiting = place.deployments()[name], late(place, name)
    assert len(waiting) == 8

    # A schedule of somebody's own: put out of action, and nothing goes with it.
    place.api.call(
        "POST",
        f"/deployments/{found['id']}/schedules",
        body=[{"schedule": {"cron": "7 * * * *"}}],
    )
    assert roll(place) == [f"{name} restored: schedules"]
    assert past(place, name) == waiting and roll(place) == []

    # Pause and resume between two syncs leave no difference, but take what waits.
    for action in ("pause_deployment", "resume_deployment"):
        place.api.call("POST", f"/deployments/{found['id']}/{action}")
    assert past(place, name) == Counter()
    assert roll(place)[0].startswith(f"{name} made good: 8 due without a run")
    assert past(place, name) == waiting and roll(place) == []

    # Pause, and a sync that was killed after it had put it right and before it made the runs again.
    place.api.call("POST", f"/deployments/{found['id']}/pause_deployment")
    place.api.change_deployment(found["id"], {"paused": False})
    assert roll(place)[0].startswith(f"{name} made good: 8 due without a run")
    assert past(place, name) == waiting

    # Our tag taken away: it is still ours.
    place.api.change_deployment(found["id"], {"tags": ["theirs"]})
    assert roll(place) == [f"{name} restored: tags"] and name in place.deployments()


def test_a_disabled_time_and_a_slip_in_a_file(place: Place) -> None:
    name = "tasks.RollHourly"
    place.change("tasks/RollHourly", enable=0)
    roll(place)
    age(place, 60)
    place.change("tasks/RollHourly", enable=1)
    told = [line for line in roll(place) if line.startswith(name)]
    assert told == [f"{name} changed: description, paused"], "enabling never looks back"
    assert not past(place, name)

    # Two hours without a sync; at the first one the template does not load, and then it does.
    before = age(place, 2)
    inner = place.app.path / "tasks/RollHourly/inner.py"
    inner.write_text("def customFunc(:\n")
    place.again()
    roll(place)
    inner.write_text(INNER)
    place.again()
    [line] = [line for line in roll(place) if line.startswith(f"{name} made good")]
    assert past(place, name).total() >= 7 and min(past(place, name)) > before, line


def test_a_template_of_another_type_leaves_no_second_deployment(place: Place) -> None:
    name = "tasks.RollDaily"
    folder = place.app.path / "tasks/OwnType"
    folder.mkdir()
    (folder / "e.json").write_text(json.dumps({"type": "tasks.Meta", "title": "Own"}))
    (folder / "type.py").write_text(
        "from datetime import timedelta\nfrom jittask_prefect import NormalType\n\n"
        "class OwnType(NormalType):\n"
        "    def getNextRunTime(self, task=None, now=None):\n"
        "        return now + timedelta(minutes=10)\n"
    )
    place.change("tasks/RollDaily", type="tasks.OwnType")
    old = place.deployments()[name]
    assert place.deploy().changed == [name]
    new = place.deployments()[name]
    assert new["id"] != old["id"] and new["entrypoint"].endswith(":OwnType")
    where = {"deployments": {"name": {"any_": [name]}}}
    assert [
        d["id"] for d in place.api.call("POST", "/deployments/filter", body=where)
    ] == [new["id"]]

    # A Type that answers otherwise at every sync is due all the same: what it said stands until it has come.
    roll(place)
    said = slots(place, name)["s1"]["schedule"]["rrule"]
    told = f"{name} renewed: schedules"  # others may be renewed too, by what time of day it is
    assert (
        told not in roll(place, clock.now() + 5 * MINUTE)
        and slots(place, name)["s1"]["schedule"]["rrule"] == said
    )
    assert told in roll(place, clock.now() + 11 * MINUTE)


def test_what_was_due_while_the_server_was_down_for_two_hours_exists_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "server"
    name = "tasks.RollHourly"
    with Embedded(home) as first:
        url = first.ensure()[0].url
        monkeypatch.setenv("PREFECT_API_URL", url)
        refresh_settings()
        place = Place.build(
            tmp_path / "app", elements(), name="down", calendars={"office": OFFICE}
        )
        upgrade(place.app)
        place.deploy()
        roll(place)
    # Two hours pass: no sync has run since, no run was made.
    now, before = clock.now(), age(place, 2)
    with Embedded(home) as second:
        place.api = PrefectApi(second.ensure()[0].url)
        quarter = (
            before.replace(minute=before.minute // 15 * 15, second=0, microsecond=0)
            + 15 * MINUTE
        )
        due = [quarter + n * 15 * MINUTE for n in range(8)]
        lost = [
            at for at in due if not auto(place, name)[at]
        ]  # the last may have been due as we deployed
        assert len(lost) >= 7
        told = roll(place, now)
        assert [
            line
            for line in told
            if line.startswith(f"{name} made good: {len(lost)} due without a run")
        ]
        found = auto(place, name)
        assert [found[at] for at in due] == [1] * 8 and max(found.values()) == 1
        assert found[due[-1] + 15 * MINUTE] == 1 and min(found) >= quarter
        # A minutely task has 120 of them, and a run that was finished and then deleted is not made again.
        assert sum(at <= now for at in auto(place, "tasks.RollMinutely")) >= 119
        one = next(r for r in place.runs(name) if r.expected_start_time == due[2])
        assert (
            execute(
                place.app, name, None, Run(one.id, due[2], auto=True), lambda: due[2]
            ).status
            == "completed"
        )
        place.api.delete_run(one.id)
        first = next(r for r in place.runs(name) if r.expected_start_time == due[0])
        place.api.delete_run(first.id)
        with place.app.engine().begin() as connection:
            state_table.put(
                connection, place.app.name, renewal_memory.MARK, before.isoformat()
            )
        assert (
            f"{name} made good: 1 due without a run, {due[0]:%Y-%m-%d %H:%M} UTC"
            in roll(place, now)
        )
        assert [auto(place, name)[at] for at in due] == [1, 1, 0, 1, 1, 1, 1, 1]
    refresh_settings()
