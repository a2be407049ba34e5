"""App → prefect.yaml, and the deployments that a deploy touches."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from jittask_prefect import App, ConfigError, PrefectApiError
from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import prefect_folder, prefect_yaml
from jittask_prefect.deploying.deployments import deployments, ensure_work_pool
from jittask_prefect.deploying.renew import renew
from jittask_prefect.errors import ArgumentError
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)
DIALOGS = [
    f"jittask.{name}"
    for name in (
        "new-scheduled-task",
        "new-date-field-task",
        "edit-task",
        "end-task",
        "run-task-now",
        "retry-failed",
    )
]
ENTRYPOINTS = {
    name: "jittask_flows.py:" + name.replace(".", "_").replace("-", "_")
    for name in DIALOGS
}
DAILY: dict[str, Any] = {
    "type": "tasks.NormalType",
    "title": "Daily",
    "timerCfg": {"startTime": "2026-01-01 09:00:00", "repeat": {"repeatType": "day"}},
}
MODEL = """
from datetime import date
from sqlmodel import Field, SQLModel



class Contract(SQLModel, table=True):
    __tablename__ = "contract"
    id: int | None = Field(default=None, primary_key=True)
    status: str = ""
    endDate: date | None = None
"""
ELEMENTS: dict[str, Any] = {
    "models/Contract": {
        "e.json": {"type": "models.NormalType", "title": "Contract"},
        "model.py": MODEL,
    },
    "tasks/Audited": {
        "e.json": {"type": "tasks.Meta", "title": "Audited"},
        "type.py": "from jittask_prefect import NormalType\nclass Audited(NormalType): pass\n",
    },
    "tasks/Daily": {
        "e.json": DAILY
        | {"tags": ["nightly", "夜间"], "description": "What it is for."},
        "inner.py": "def customFunc(): ...\n",
    },
    "tasks/Monthly": {
        "e.json": DAILY
        | {
            "title": "Monthly",
            "type": "tasks.Audited",
            "enable": 0,
            "argDict": {"secret": "__prefect_kind {{ x }}"},
            "timerCfg": {
                "startTime": "2026-01-31 09:00:00",
                "repeat": {"repeatType": "month"},
            },
        },
        "inner.py": "def customFunc(secret): ...\n",
    },
    "tasks/Remind": {
        "e.json": {
            "type": "tasks.DateFieldType",
            "title": "Remind",
            "modelPath": "models.Contract",
            "filter": "Q(status='{{ x }}')",
            "timerCfg": {
                "startField": "endDate",
                "startOffset": {
                    "offsetType": -1,
                    "offset": 7,
                    "offsetUnit": "day",
                    "time": "09:00",
                },
                "repeat": {"repeatType": "normal"},
            },
        },
        "inner.py": "def customFunc(rowData): ...\n",
    },
}


@pytest.fixture
def app(tmp_path: Path) -> App:
    return build_app(tmp_path / "shop", ELEMENTS, name="shop", timezone="Asia/Shanghai")


def change(app: App, task: str, **keys: Any) -> App:
    """The app again, with keys of a task's e.json changed."""
    file = app.path / "tasks" / task / "e.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | keys),
        encoding="utf-8",
    )
    return App(app.path)


def by_name(text: str) -> dict[str, Any]:
    return {d["name"]: d for d in yaml.safe_load(text)["deployments"]}


def test_the_first_line_records_the_instant(app: App) -> None:
    first = prefect_yaml.text(app, NOW).splitlines()[0]
    assert first == "# made by: jittask compile --now 2026-03-02T00:00:00+00:00"


def test_the_same_text_twice_whoever_loads_the_app(app: App) -> None:
    assert prefect_yaml.text(app, NOW) == prefect_yaml.text(App(app.path), NOW)


def test_made_again_with_the_recorded_instant_it_is_the_same_file(app: App) -> None:
    file = prefect_yaml.write(app, NOW)
    before = file.read_bytes()
    recorded = prefect_folder.recorded_instant(file)
    assert recorded == NOW
    prefect_yaml.write(App(app.path), recorded)
    assert file.read_bytes() == before


def test_a_file_of_this_month_is_not_made_anew_for_another_day(app: App) -> None:
    prefect_yaml.write(app, NOW)
    assert prefect_yaml.instant_of(app, NOW + timedelta(days=29)) == NOW
    assert prefect_yaml.instant_of(
        app, NOW + timedelta(days=31, hours=5)
    ) == NOW + timedelta(days=31)


def test_one_deployment_for_each_template_and_the_sync(app: App) -> None:
    made = by_name(prefect_yaml.text(app, NOW))
    assert list(made) == [
        "tasks.Daily",
        "tasks.Monthly",
        "tasks.Remind",
        "jittask.sync",
        *DIALOGS,
    ]
    assert {n: d["entrypoint"] for n, d in made.items()} == {
        "tasks.Daily": "jittask_flows.py:NormalType",
        "tasks.Monthly": "jittask_flows.py:Audited",
        "tasks.Remind": "jittask_flows.py:DateFieldType",
        "jittask.sync": "jittask_flows.py:jittask_sync",
        **ENTRYPOINTS,
    }
    assert {n: d["paused"] for n, d in made.items()} == {
        "tasks.Daily": False,
        "tasks.Monthly": True,  # enable 0
        "tasks.Remind": False,
        "jittask.sync": False,
        **dict.fromkeys(DIALOGS, False),
    }
    assert made["tasks.Daily"]["tags"] == [
        "app:shop",
        "shop.tasks.NormalType",
        "shop.tasks.Daily",
        "nightly",
        "夜间",
    ]
    assert made["tasks.Daily"]["parameters"] == {"template": "tasks.Daily"}


def test_the_sync_runs_every_minute(app: App) -> None:
    active = [
        s
        for s in by_name(prefect_yaml.text(app, NOW))["jittask.sync"]["schedules"]
        if s["active"]
    ]
    assert [s["interval"] for s in active] == [60]


def test_rows_and_arguments_stay_at_home(app: App) -> None:
    text = prefect_yaml.text(app, NOW)
    assert "__prefect_kind" not in text
    directory, *folders = [line for line in text.splitlines() if "{{" in line]
    assert directory == "    directory: '{{ $PWD }}'"
    assert set(folders) == {"        JITTASK_APP: '{{ $PWD }}'"}


def test_a_description_says_the_rule_in_words(app: App) -> None:
    made = by_name(prefect_yaml.text(app, NOW))
    daily, remind = (
        made["tasks.Daily"]["description"],
        made["tasks.Remind"]["description"],
    )
    assert "**Daily**" in daily
    assert "Every day at 09:00" in daily
    assert "What it is for." in daily
    assert "7 days before" in remind
    assert "`endDate`" in remind
    assert "Disabled" in made["tasks.Monthly"]["description"]


def test_the_folder_of_tasks_is_read_as_often_for_many_tasks_as_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 200 descriptions read the names of all 200 tasks: half of the file accesses of a sync."""

    def reads(tasks: int) -> int:
        found = {
            f"tasks/Daily{n}": {
                "e.json": DAILY,
                "inner.py": "def customFunc(): ...\n",
            }
            for n in range(tasks)
        }
        app = build_app(tmp_path / str(tasks), found)
        names, folders = app.names, []

        def counted(folder: str) -> list[str]:
            folders.append(folder)
            return names(folder)

        monkeypatch.setattr(app, "names", counted)
        made = deployments(app, NOW)
        app.close()
        assert sum(d.name.startswith("tasks.Daily") for d in made) == tasks
        return folders.count("tasks")

    assert reads(1) == reads(4)


def test_a_description_does_not_change_with_the_day(app: App) -> None:
    app = change(
        app,
        "Daily",
        timerCfg=DAILY["timerCfg"]
        | {"skipHoliday": 1, "calendar": "CN", "endTime": "2027-06-30"},
    )

    def descriptions(now: datetime) -> dict[str, str]:
        return {
            n: d["description"] for n, d in by_name(prefect_yaml.text(app, now)).items()
        }

    assert descriptions(NOW) == descriptions(NOW + timedelta(days=200))


def test_entrypoints_resolve_where_the_file_stands(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.flows import load_flow_from_entrypoint

    file = prefect_yaml.write(app, NOW)
    monkeypatch.chdir(file.parent)
    flows = {
        d["entrypoint"]: load_flow_from_entrypoint(d["entrypoint"]).name
        for d in by_name(file.read_text()).values()
    }
    assert flows == {
        "jittask_flows.py:NormalType": "shop.tasks.NormalType",
        "jittask_flows.py:DateFieldType": "shop.tasks.DateFieldType",
        "jittask_flows.py:Audited": "shop.tasks.Audited",
        "jittask_flows.py:jittask_sync": "shop.jittask.sync",
        **{entrypoint: f"shop.{name}" for name, entrypoint in ENTRYPOINTS.items()},
    }


def test_a_broken_template_is_left_out_and_the_others_are_there(app: App) -> None:
    others = ["tasks.Monthly", "tasks.Remind", "jittask.sync", *DIALOGS]
    assert (
        list(by_name(prefect_yaml.text(change(app, "Daily", enable="yes"), NOW)))
        == others
    )


def test_a_template_whose_function_or_field_is_none_is_left_out_too(app: App) -> None:
    (app.path / "tasks/Daily/inner.py").write_text(
        "raise SystemExit\n", encoding="utf-8"
    )
    timer = {"startField": "{{ $HOME }}", "repeat": {"repeatType": "normal"}}
    text = prefect_yaml.text(change(app, "Remind", timerCfg=timer), NOW)
    assert list(by_name(text)) == ["tasks.Monthly", "jittask.sync", *DIALOGS]
    assert "HOME" not in text


def test_a_prefect_yaml_of_somebody_else_s_is_not_written_over(app: App) -> None:
    theirs = app.path.parent / "prefect.yaml"
    theirs.write_text("name: theirs\n", encoding="utf-8")
    assert prefect_yaml.write(app, NOW) == app.path / "prefect.yaml"
    (app.path / "prefect.yaml").write_text("name: theirs\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="somebody else"):
        prefect_yaml.write(app, NOW)
    assert theirs.read_text() == "name: theirs\n"
    assert (app.path / "prefect.yaml").read_text() == "name: theirs\n"


def test_our_file_in_the_folder_above_stays_there(app: App) -> None:
    above = app.path.parent / "prefect.yaml"
    above.write_text(prefect_yaml.text(app, NOW), encoding="utf-8")
    assert prefect_yaml.write(app, NOW) == above
    assert (
        by_name(above.read_text())["tasks.Daily"]["entrypoint"]
        == "shop/jittask_flows.py:NormalType"
    )


# --- deploy ----------------------------------------------------------------------------------------------------------

ALL = [*sorted(DIALOGS), "jittask.sync", "tasks.Daily", "tasks.Monthly", "tasks.Remind"]


def test_a_deploy_touches_only_what_changed(app: App) -> None:
    prefect = FakePrefect()
    first = deploy(app, prefect, NOW)
    assert (sorted(first.changed), first.unchanged) == (ALL, [])
    again = deploy(App(app.path), prefect, NOW + timedelta(hours=3))
    assert (again.changed, sorted(again.unchanged)) == ([], ALL)
    third = deploy(change(app, "Daily", title="Every day"), prefect, NOW)
    assert (third.changed, len(third.unchanged)) == (["tasks.Daily"], len(ALL) - 1)


@pytest.mark.parametrize(
    "keys",
    [
        {"enable": 0},
        {"tags": ["other"]},
        {"description": "other"},
        {
            "timerCfg": {
                "startTime": "2026-01-01 10:00:00",
                "repeat": {"repeatType": "day"},
            }
        },
        {
            "timerCfg": {
                "startTime": "2026-01-01 09:00:00",
                "repeat": {"repeatType": "day", "period": 2},
            }
        },
        {"type": "tasks.Audited"},
    ],
)
def test_each_change_is_seen(app: App, keys: dict[str, Any]) -> None:
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    assert deploy(change(app, "Daily", **keys), prefect, NOW).changed == ["tasks.Daily"]


def test_a_removed_template_is_reported_and_removed_when_asked(app: App) -> None:
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    (app.path / "tasks/Monthly").rename(app.path.parent / "away")
    app = App(app.path)
    done = deploy(app, prefect, NOW)
    assert (done.leftover, done.left_of) == (["tasks.Monthly"], set())
    assert done.leftover_text() == (
        "without a template: tasks.Monthly; `jittask deploy --prune` removes them"
    )
    assert "tasks.Monthly" in prefect.all_deployments
    pruned = deploying.deploy(app, prefect, NOW, prune=True)
    assert (pruned.removed, pruned.leftover) == (["tasks.Monthly"], [])
    assert "tasks.Monthly" not in prefect.all_deployments


def test_a_pool_of_another_team_is_not_to_be_deleted_first() -> None:
    """A server may hold other data: the step that harms nobody comes before the step that removes a pool."""
    prefect = FakePrefect()
    prefect.ensure_pool("heavy", "process")
    with pytest.raises(ArgumentError) as refused:
        ensure_work_pool(prefect, "heavy")
    said = str(refused.value)
    assert "the work pool 'heavy' is of type process; allowed: jittask" in said
    assert 0 < said.index("workPool in app.json") < said.index("work-pool delete")


def test_a_deployment_of_another_folder_may_be_another_app_s(
    tmp_path: Path, app: App
) -> None:
    """Two apps of one name in one database: `--prune` would remove the other's tasks."""
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    file = app.engine().url.database
    twin = build_app(tmp_path / "twin", {}, name=app.name, database=f"sqlite:///{file}")
    done = deploying.deploy(twin, prefect, NOW)
    assert done.leftover == ["tasks.Daily", "tasks.Monthly", "tasks.Remind"]
    assert done.left_of == {str(app.path)}
    assert done.leftover_text() == (
        f"without a template: tasks.Daily, tasks.Monthly, tasks.Remind, deployed from {app.path} as {app.name}; where that is another app, "
        "give one of the two another name (`name` of app.json); else `jittask deploy --prune` removes them"
    )


def test_a_slip_in_e_json_does_not_cost_a_deployment(app: App) -> None:
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    done = deploying.deploy(
        change(app, "Daily", enable="yes"), prefect, NOW, prune=True
    )
    assert (done.removed, done.leftover) == ([], [])
    assert "tasks.Daily" in prefect.all_deployments


def test_another_app_s_deployments_are_left_alone(app: App, tmp_path: Path) -> None:
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    before = deepcopy(prefect.all_deployments)
    task = {"tasks/Daily": {"e.json": DAILY, "inner.py": "def customFunc(): ...\n"}}
    other = build_app(tmp_path / "other", task, name="other")
    done = deploying.deploy(other, prefect, NOW, prune=True)
    assert done.changed == ["tasks.Daily", "jittask.sync", *DIALOGS]
    assert not done.removed
    after = prefect.all_deployments
    assert {name: after[name] for name in before} == before
    assert {d["flow"] for key, d in after.items() if key not in before} == {
        "other.tasks.NormalType",
        "other.jittask.sync",
        *(f"other.{name}" for name in DIALOGS),
    }
    # And no name of the other's is taken for this app's.
    assert not deploying.deploy(app, prefect, NOW).changed


def test_a_server_with_flows_without_an_app_s_name_is_refused(app: App) -> None:
    prefect = FakePrefect()
    prefect.make_deployment("jittask.sync", {"name": "jittask.sync", "tags": ["app:x"]})
    with pytest.raises(ConfigError, match="delete these 1 deployments, and deploy"):
        deploy(app, prefect, NOW)
    assert sorted(prefect.all_deployments) == ["jittask.sync"]
    assert not prefect.variables


def test_a_work_pool_is_the_app_s_at_first_and_the_team_s_afterwards(
    tmp_path: Path,
) -> None:
    app = build_app(tmp_path, ELEMENTS, name="shop", workPool="big")
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    made = prefect.all_deployments
    assert {d["work_pool_name"] for d in made.values()} == {"big"}
    assert {n: d["work_queue_name"] for n, d in made.items()} == {
        **dict.fromkeys(("tasks.Daily", "tasks.Monthly", "tasks.Remind"), "shop"),
        **dict.fromkeys(("jittask.sync", *DIALOGS), "shop.first"),
    }
    made["tasks.Daily"] |= {"work_pool_name": "small", "work_queue_name": "slow"}
    deploy(app, prefect, NOW)
    renew(app, prefect, NOW)
    daily = made["tasks.Daily"]
    assert (daily["work_pool_name"], daily["work_queue_name"]) == ("small", "slow")


@pytest.mark.parametrize("by", ["deploy", "sync"])
def test_a_deleted_work_pool_is_no_choice_of_the_team(app: App, by: str) -> None:
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    renew(app, prefect, NOW)
    for made in prefect.all_deployments.values():
        made["work_pool_name"] = None  # as Prefect has it once the pool is gone
    (deploy if by == "deploy" else renew)(app, prefect, NOW)
    assert {d["work_pool_name"] for d in prefect.all_deployments.values()} == {"jittask"}  # fmt: skip


def test_a_work_pool_that_a_task_names_is_restored_by_the_sync(app: App) -> None:
    prefect = FakePrefect()
    app = change(app, "Daily", workPool="reports")
    deploy(app, prefect, NOW)
    renew(app, prefect, NOW)
    daily = prefect.all_deployments["tasks.Daily"]
    assert daily["work_pool_name"] == "reports" and "reports" in prefect.pools
    daily |= {"work_pool_name": "small", "work_queue_name": "slow"}
    daily["updated"] = NOW.isoformat()  # as the server notes a change
    changes = [str(change) for change in renew(app, prefect, NOW)]
    assert changes == ["tasks.Daily restored: work_pool_name"]
    assert (daily["work_pool_name"], daily["work_queue_name"]) == ("reports", "shop")


def test_a_variable_of_the_team_s_stays_beside_the_app_s(app: App) -> None:
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    daily = prefect.all_deployments["tasks.Daily"]
    daily["job_variables"] = {"cpu": 2, "env": {"LEVEL": "1"}}
    assert deploy(app, prefect, NOW).changed == ["tasks.Daily"]
    assert daily["job_variables"] == {
        "cpu": 2,
        "env": {"LEVEL": "1", "JITTASK_APP": str(app.path), "JITTASK_NAME": "shop"},
    }


def test_a_tag_cannot_pretend_to_be_another_app(app: App) -> None:
    assert [p.key for p in change(app, "Daily", tags=["app:other"]).check()] == [
        "tags.0"
    ]


def test_a_server_that_is_down_is_said_before_anything_is_written(app: App) -> None:
    prefect = FakePrefect()
    prefect.down = True
    with pytest.raises(PrefectApiError, match="memory://prefect/api"):
        deploying.deploy(app, prefect, NOW)
    assert not (app.path / "prefect.yaml").exists()


def test_no_anchor_of_yaml_and_no_alias(app: App) -> None:
    """People read and compare this file: each deployment stands for itself."""
    assert not re.search(r"[:-] [&*]\w", prefect_yaml.text(app, NOW))


def test_a_lost_tag_beside_a_deployment_that_is_gone(app: App) -> None:
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    prefect.all_deployments["tasks.Daily"]["tags"] = ["theirs"]
    del prefect.all_deployments["tasks.Monthly"]
    done = deploying.deploy(app, prefect, NOW)
    assert done.changed == ["tasks.Daily", "tasks.Monthly"]
    assert (
        "app:shop" in prefect.all_deployments["tasks.Daily"]["tags"]
        and "tasks.Monthly" in prefect.all_deployments
    )
    assert deploying.deploy(app, prefect, NOW).changed == []


def test_a_schedule_of_somebodys_own_is_put_out_of_action_once(app: App) -> None:
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    cron = {
        "id": "0123456789abcdef",
        "slug": None,
        "active": True,
        "schedule": {"cron": "7 * * * *", "timezone": "UTC"},
    }
    prefect.all_deployments["tasks.Daily"]["schedules"].append(cron)
    assert deploying.deploy(app, prefect, NOW).changed == ["tasks.Daily"]
    found = {
        slot["slug"]: slot["active"]
        for slot in prefect.all_deployments["tasks.Daily"]["schedules"]
    }
    assert found["x-89abcdef"] is False and set(found) == {
        "s1",
        "s2",
        "s3",
        "s4",
        "x-89abcdef",
    }

    prefect.all_deployments["tasks.Daily"]["schedules"][0]["active"] = False
    prefect.calls.clear()
    assert deploying.deploy(app, prefect, NOW).changed == ["tasks.Daily"]
    assert (
        "change_deployment" in prefect.calls and "change_schedule" not in prefect.calls
    )
