"""Faults: Lost = Dup = Stale = Ghost = 0 while parts of a cluster are killed, frozen, cut off and upgraded; and recovery times.

500 faults of a cluster on this machine, with databases and a Redis of its own; or of a system that a file describes:

    python benchmarks/faults.py --system staging.toml --write-app /srv/faults/app    # and start workers of this app
    python benchmarks/faults.py --system staging.toml --app /srv/faults/app

`docs/cluster.md` says how to describe a system.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from measure import line, workplace

# isort: split

from faulting.campaign import Campaign
from faulting.description import DescriptionError, System, read
from faulting.load import Load
from faulting.postgres import found
from faulting.shop import TABLE, elements
from faulting.verdict import COUNTERS, Verdict, judge
from faulting.watch import Recoveries, Watch, figures, wait_for_backlog
from sqlalchemy import text

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments
from jittask_prefect.errors import JittaskError
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.schedule import clock
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import build_app

FAULTS, NAME = 500, "faults"
NEEDED = ("initdb", "pg_ctl", "redis-server", "curl", "pgrep", "setsid")
WARM_SECONDS, SETTLE_SECONDS = 600.0, 300.0


@contextmanager
def local(home: Path) -> Iterator[tuple[System, App]]:
    """The cluster on this machine, with workers of the campaign's app."""
    # These need the test suite's packages, which a campaign on a described system does not.
    from cluster import settings
    from faulting.local import LocalCluster

    home.chmod(0o755)  # PostgreSQL runs as another user
    cluster = LocalCluster(home)
    try:
        cluster.start_servers()
        os.environ["PREFECT_API_AUTH_STRING"] = settings()[
            "PREFECT_SERVER_API_AUTH_STRING"
        ]
        app = written(home / "app", cluster.database)
        deploy(app, cluster.api)
        cluster.start_workers(home / "app")
        yield cluster.describe(), app
    finally:
        cluster.close()


def written(folder: Path, database: str) -> App:
    """The app of the campaign, in a folder."""
    return build_app(folder, elements(), ready=False, name=NAME, database=database)


def deploy(app: App, url: str) -> None:
    """Make the app's tables and deployments."""
    os.environ["PREFECT_API_URL"] = url
    refresh_settings()
    upgrade(app, models=True)
    with app.engine().begin() as connection:
        connection.execute(text(TABLE))
    api = PrefectApi(url)
    api.ensure_pool(deployments.POOL, deployments.POOL_TYPE)
    deploying.deploy(app, api, clock.now())


def described(system: System, chosen: argparse.Namespace) -> bool:
    """A campaign on a system that a file describes, or what is asked for beside; whether all counters are 0."""
    if chosen.list:
        tell_names(system)
    elif chosen.write_app:
        written(chosen.write_app, system.database)
        (chosen.write_app / "app.json").chmod(0o600)  # the URL may have a password
        say(
            f"{chosen.write_app}: copy the folder to the same path on each worker's machine"
        )
    elif chosen.app:
        os.environ["JITTASK_DATABASE_URL"] = system.database
        app = App(chosen.app.absolute())
        deploy(app, system.api)
        return run(system, app, chosen)
    else:
        raise SystemExit("--app FOLDER is needed; --write-app FOLDER makes the folder")
    return True


def tell_names(system: System) -> None:
    print("\n".join(sorted({fault.name for fault in system.faults})))


def say(text_: str) -> None:
    print(text_, file=sys.stderr, flush=True)


def run(system: System, app: App, chosen: argparse.Namespace) -> bool:
    """The campaign on a system that runs; whether all counters are 0."""
    begun = time.monotonic()
    svc = TaskSvc(app, PrefectApi(system.api))
    load = Load(app, svc, chosen.seed, chosen.every, system.sync)
    watch = Watch(system.database, load.journal, chosen.late)
    campaign = Campaign(system, watch, chosen.seed, chosen.only, chosen.times)
    campaign.require_ready()
    load.start()
    try:
        say(
            f"rows are saved; the first fault comes once none is late, within {WARM_SECONDS:g} s"
        )
        if not wait_for_backlog(watch, datetime.now(UTC), WARM_SECONDS):
            raise SystemExit(
                f"rows are late before the first fault: {watch.open(datetime.now(UTC))[:3]}; do workers run?"
            )
        number = chosen.number or max(1, round(FAULTS * chosen.scale))
        campaign.run(number, chosen.minutes)
    finally:
        load.stop()
    verdict = settled(system, load)
    watch.stop()
    for text_ in [*campaign.problems, *load.problems, *verdict.found[:40]]:
        say(text_)
    for name, times in sorted(campaign.refused.items()):
        say(f"{name}: {times} times not begun")
    tell(campaign, verdict, load, chosen.seed, round(time.monotonic() - begun))
    return not verdict.counts.total()


def settled(system: System, load: Load) -> Verdict:
    """The counters, once they are 0, or do not change within minutes any more."""
    assert load.journal.ended is not None
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        verdict = judge(system.database, load.journal, load.journal.ended)
        if not verdict.counts.total() or time.monotonic() > deadline:
            return verdict
        time.sleep(2)


def tell(
    campaign: Campaign, verdict: Verdict, load: Load, seed: int, seconds: int
) -> None:
    """The lines, and the table."""
    about = {"faults": campaign.total, "kinds": len(campaign.number), "seed": seed}
    about |= {
        "seconds": seconds,
        "effects": verdict.effects,
        "rows": len(load.journal.rows),
    }
    about |= {
        "timers": len(load.journal.timers),
        "failed_saves": load.journal.failed_saves,
    }
    about |= {"ended_with_their_worker": verdict.died}
    for counter in COUNTERS:
        found = verdict.counts[counter]
        line(f"{counter}, faults of a cluster", found, "differences", "0", **about)
    line("not recovered", len(campaign.problems), "faults", "0")
    say(table(campaign.recoveries))


def table(recoveries: Recoveries) -> str:
    """A Markdown table: kinds of fault, their number, and seconds of recovery."""
    head = (
        "Fault",
        "Times",
        "next row, p50",
        "p95",
        "max",
        "all rows, p50",
        "p95",
        "max",
    )
    rows = [head, ("---",) + ("---:",) * 7]
    for kind, number in sorted(recoveries.number.items()):
        first, last = recoveries.next_row[kind], recoveries.backlog[kind]
        rows.append((kind, str(number), *figures(first), *figures(last)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help=f"share of {FAULTS} faults")
    add("--number", type=int, help="of faults, instead")
    add("--minutes", type=float, default=600, help="the longest time for faults")
    add("--seed", type=int, default=1)
    add("--every", type=float, default=2.0, help="seconds between two saves")
    add("--late", type=float, default=3.0, help="seconds from which a row is late")
    add("--only", action="append", default=[], help="a part of the names of faults")
    add(
        "--times", type=Path, help="add seconds of recovery; the table has all in there"
    )
    add("--system", type=Path, help="a file that describes a system")
    add("--app", type=Path, help="the app's folder, beside --system")
    add(
        "--write-app",
        type=Path,
        help="write the app into this folder, beside --system, and end",
    )
    add("--list", action="store_true", help="print the faults' names, and end")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    logging.getLogger("jittask").setLevel(logging.CRITICAL)  # saves fail all the time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left behind
    if chosen.system:
        try:
            sys.exit(0 if described(read(chosen.system), chosen) else 1)
        except (DescriptionError, JittaskError) as error:
            raise SystemExit(str(error)) from None
    if chosen.app or chosen.write_app:
        raise SystemExit("--app and --write-app stand beside --system FILE")
    if absent := [name for name in NEEDED if not found(name)]:
        line(
            "faults of a cluster", 0, "faults", f"left out: no {', '.join(absent)} here"
        )
        return
    with workplace() as home, local(home) as (system, app):
        if chosen.list:
            tell_names(system)
            return
        good = run(system, app, chosen)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
