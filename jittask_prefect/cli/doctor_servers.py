"""`jittask doctor`: the API servers behind an address, their settings, their background services, and Redis."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from jittask_prefect.cli.doctor_database import LOCAL_HOSTS, skew
from jittask_prefect.cli.finding import Finding
from jittask_prefect.prefect_api import server_facts
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.prefect_api.server_facts import ServerFacts
from jittask_prefect.schedule import clock

SHARED = {
    "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": (
        "server.events.messaging_broker",
        "prefect_redis.messaging",
        "events stay in the memory of the server that got them",
    ),
    "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": (
        "server.events.messaging_cache",
        "prefect_redis.messaging",
        "an event that is sent twice is stored twice",
    ),
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": (
        "server.events.causal_ordering",
        "prefect_redis.ordering",
        "events of a run change places",
    ),
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "server.concurrency.lease_storage",
        "prefect_redis.lease_storage",
        "each server knows its own leases only",
    ),
    "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": (
        "server.worker_channel.cleanup_queue_storage",
        "prefect_redis.cleanup_queue",
        "no worker ends what a run left that was in Cancelling for too long",
    ),
    "PREFECT_SERVER_DOCKET_URL": (
        "server.docket.url",
        "redis://HOST:6379/1",
        "the work of the services is lost with its server",
    ),
}
"""By variable: the setting, the value for several servers, and the effect of a server's own memory."""
SERVICES = {
    "LATE_RUNS": "no run is marked as late",
    "SCHEDULER": "schedules make no runs beyond those of the sync",
    "EVENT_PERSISTER": "no event is stored, so no notice is sent",
    "FOREMAN": "workers that have ended count as living",
}
MIGRATES = "server.database.migrate_on_start"
# Services mark a run after 15 s, and store an event after 5 s.
MARKED, LATELY = timedelta(minutes=1), timedelta(minutes=10)
EVENTS_STORED, EVENTS_KNOWN = timedelta(seconds=20), timedelta(minutes=3)
REDIS_URLS = (
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL",
    "PREFECT_SERVER_DOCKET_URL",
)


def servers(
    name: str, api: Api, last_sync: datetime | None, now: datetime
) -> Iterator[Finding]:
    """The state of the API servers behind an address.

    Args:
        name: The app.
        api: Prefect.
        last_sync: When the last sync ran, where that is known.
        now: The present instant.
    """
    facts = server_facts.ask(api.url, clock.now)
    if facts is None:
        return  # Prefect Cloud
    yield from releases(facts, importlib.metadata.version("prefect"))
    yield from shared_settings(api.url, facts)
    yield from migrations(facts)
    yield from switched_off(facts)
    if facts.offset is not None:
        yield from skew(f"the server at {api.url}, or of its balancer,", facts.offset)
    yield from redis_of_environment()
    yield from late_marks(name, api, now)
    yield from events(name, api, facts, last_sync, now)


def releases(facts: ServerFacts, here: str) -> Iterator[Finding]:
    """Compare the servers' releases of Prefect with this environment's.

    Args:
        facts: The servers' answers.
        here: The release in this environment.
    """
    found = sorted(facts.versions)
    allowed = _allowed()
    for version in found:
        if not allowed.specifier.contains(version, prereleases=True):
            text = f"the server runs Prefect {version}; allowed: {allowed.specifier}: upgrade the server"
            yield Finding("server", "wrong", text)
    if found != [here]:
        text = f"the server runs Prefect {' and '.join(found)}, and this environment has {here}: install one release for all"
        yield Finding("server", "warning", text)


def _allowed() -> Requirement:
    required = map(Requirement, importlib.metadata.requires("jittask-prefect") or [])
    return next(each for each in required if each.name == "prefect")


def shared_settings(url: str, facts: ServerFacts) -> Iterator[Finding]:
    """Report settings in which the servers differ, and memory that several servers do not share.

    Args:
        url: The servers' address.
        facts: The servers' answers.
    """
    own: list[str] = []
    for name, (path, value, effect) in SHARED.items():
        found = facts.values(path)
        if len(found) > 1:
            differ = f"the servers at {url} differ in {name}: {' and '.join(map(str, found))}"
            yield Finding("server", "wrong", f"{differ}: give all of them the same settings")  # fmt: skip
        elif in_memory(found[0]):
            own.append(f"{name}={value} ({effect})")
    several = len(facts.settings)
    if several > 1 and own:
        text = f"{several} servers at {url} without Redis; set for each server: {', '.join(own)}"
        yield Finding("server", "wrong", text)
    elif own and len(own) < len(SHARED):
        text = f"Redis is set in part only, which one server bears and two do not; set too: {', '.join(own)}"
        yield Finding("server", "warning", text)
    elif several > 1:
        yield Finding("server", "ok", f"{several} servers at {url}, which share Redis")


def in_memory(value: object) -> bool:
    """Whether a setting names the memory of the server."""
    return isinstance(value, str) and "memory" in value


def migrations(facts: ServerFacts) -> Iterator[Finding]:
    """Warn of several servers that each migrate the database."""
    several = len(facts.settings) > 1 or not in_memory(
        facts.values("server.events.messaging_broker")[0]
    )
    if several and True in facts.values(MIGRATES):
        text = "each server migrates Prefect's database when it starts, and of two at a time one fails"
        remedy = "set PREFECT_SERVER_DATABASE_MIGRATE_ON_START=false, and run `prefect server database upgrade -y` once for each release"
        yield Finding("server", "warning", f"{text}: {remedy}")


def switched_off(facts: ServerFacts) -> Iterator[Finding]:
    """Warn of services that the server's settings switch off."""
    for service, effect in SERVICES.items():
        if False in facts.values(f"server.services.{service.lower()}.enabled"):
            name = f"PREFECT_SERVER_SERVICES_{service}_ENABLED"
            text = f"{name} is false, and {effect}: set it to true"
            yield Finding("server", "warning", text)


def redis_of_environment() -> Iterator[Finding]:
    """Whether the Redis of this environment's settings answers: of a server's own machine."""
    for name in REDIS_URLS:
        url = os.environ.get(name, "")
        if not url.startswith("redis"):
            continue
        fault = server_facts.redis_fault(url)
        if fault is not None:
            text = f"the Redis of {name} gives no answer ({fault}): start it, or mend the URL"
            yield Finding("server", "wrong", text)


def late_marks(name: str, api: Api, now: datetime) -> Iterator[Finding]:
    """Warn of runs that are late and not marked: the sign of background services that do not run."""
    due = {"after_": (now - LATELY).isoformat(), "before_": (now - MARKED).isoformat()}
    unmarked = api.count_runs(
        flow_runs={
            "tags": {"all_": [app_tag(name)]},
            "state": {"name": {"any_": ["Scheduled"]}},
            "expected_start_time": due,
        }
    )
    if unmarked:
        text = f"{unmarked} runs are late and not marked so: the background services do not run"
        start = "`prefect server services start` starts them where the API servers have --no-services"
        yield Finding("server", "warning", f"{text}; {start}")


def events(
    name: str, api: Api, facts: ServerFacts, last_sync: datetime | None, now: datetime
) -> Iterator[Finding]:
    """Whether events of flow runs are stored: by the background services, through Redis where it is set.

    Nothing is said where no flow run of the app is known to have ended lately.

    Args:
        name: The app.
        api: Prefect.
        facts: The servers' answers.
        last_sync: When the last sync ran; it is a flow run that may be gone.
        now: The present instant.
    """
    since, until = now - EVENTS_KNOWN, now - EVENTS_STORED
    if server_facts.has_events(api.url, since, now):
        text = "events arrive, so the background services run"
        yield Finding("server", "ok", text)
        return
    synced = last_sync is not None and since <= last_sync <= until
    if synced or _ended(name, api, since, until):
        text = f"no event has arrived since {since:%H:%M:%S} UTC, and a run has ended meanwhile: notices are not sent"
        start = "do the background services run (`prefect server services start`)"
        yield Finding("server", "warning", f"{text}; {start}{_and_redis(facts)}?")


def _ended(name: str, api: Api, since: datetime, until: datetime) -> bool:
    span = {"after_": since.isoformat(), "before_": until.isoformat()}
    asked = {"tags": {"all_": [app_tag(name)]}, "end_time": span}
    return bool(api.count_runs(flow_runs=asked))


def _and_redis(facts: ServerFacts) -> str:
    """The findings about Redis, where the servers use Redis."""
    url = str(facts.values("server.docket.url")[0])
    if not url.startswith("redis"):
        return ""
    place = url.partition("://")[2].rpartition("@")[2]
    if urlsplit(url).hostname in LOCAL_HOSTS:
        return f", and do they reach Redis ({place})"
    fault = server_facts.redis_fault(url)
    answer = "it answers this machine" if fault is None else f"this machine gets no answer: {fault}"  # fmt: skip
    return f", and do they reach Redis ({place}; {answer})"
