"""Names in Prefect: each app's own, whatever another app is called."""

from __future__ import annotations

from itertools import combinations

from jittask_prefect.prefect_api.links import key
from jittask_prefect.prefect_api.names import (
    app_slug,
    first_queue,
    of_app,
    prefect_name,
    task_queue,
)

NAMES = ["shop", "Shop", "shop-a", "shop_a", "shop-", "shop--a", "shop-tasks", "_", "-"]


def test_flows_tags_and_queues_carry_the_name() -> None:
    assert of_app("shop", "tasks.NormalType") == "shop.tasks.NormalType"
    assert (task_queue("shop"), first_queue("shop")) == ("shop", "shop.first")


def test_no_two_apps_share_a_slug() -> None:
    slugs = {name: app_slug(name) for name in NAMES}
    assert all(slugs[a] != slugs[b] for a, b in combinations(NAMES, 2))
    assert all(
        set(s) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for s in slugs.values()
    )
    assert slugs["shop-a"] == "shop-a" and slugs["shop_a"].startswith("shop-a-")


def test_the_keys_of_two_apps_artifacts_differ() -> None:
    templates = ["tasks.x", "tasks.tasks_x", "tasks.a_tasks_x"]
    keys = [key(app, template) for app in NAMES for template in templates]
    assert len(set(keys)) == len(keys)
    assert key("shop", "tasks.DailyReport") == "stats-shop--tasks-dailyreport"


def test_a_tag_may_be_longer_than_a_name() -> None:
    assert len(prefect_name("x" * 500)) == 120
    assert len(prefect_name("x" * 500, 400)) == 400
