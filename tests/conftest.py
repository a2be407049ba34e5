"""What all tests share: settings of Prefect that keep away from the developer's own, and five processes for the suite.

Prefect reads its settings when it is imported, so the environment is set here, before any test module is.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Generator, Iterable
from compileall import compile_dir
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from patience import PATIENCE
from prefect_database import migrated
from xdist.scheduler import LoadScopeScheduling

import jittask_prefect
from jittask_prefect.cli.options import heed_interrupts
from jittask_prefect.ledger import lease_time
from jittask_prefect.server.commands import environment

lease_time.use_clock_of_caller()  # time is an argument
# A busy machine is no fault of a law: a process may stand still for seconds while an example is made, or tried.
settings.register_profile("jittask", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
settings.load_profile("jittask")

INTEGRATION = "tests/integration/"
# Files that share a Prefect server, each group in a process of its own: those with a worker of their own, those that
# need a server only, and two halves of those that share an app and its worker. They wait most of the time.
GROUPS = {
    "workers": ("bad_input", "crash", "missed", "unbegun", "worker"),
    "server": ("deploy", "embedded", "kill", "rolling", "sync", "ui"),
    "buttons": ("buttons", "buttons_at_work", "digest"),
    "worker": (
        "concurrency",
        "dialogs",
        "end",
        "execution",
        "forged",
        "many",
        "spread",
    ),
}
BENCHMARKS = "test_benchmarks.py"
# Benchmarks and modules that take longest come first, so that the processes end together: those that wait for servers
# and those that only compute in turn.
LONGEST = ("browser", "decorators", "world", "batches", "two_apps", "condition", "up", "mappings", "clinic", "transitions",
           "faults", "ends", "fork_servers", "exactly_once", "bad_rows", "warm_worker", "keys", "auth")  # fmt: skip
FIRST = [*GROUPS, *LONGEST]
AT_THE_LATEST = 0.6
"""The part of the other tests before which the last of those with a server begins."""
MEMORY, ROOM = Path("/dev/shm"), 4 * 1024**3


def _use_memory() -> None:
    """Keep what tests write in memory where there is room: waiting for the disk took half the time of small tests."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


_use_memory()
BASE = Path(tempfile.mkdtemp(prefix="jittask-tests-")).resolve()
(BASE / "client" / "prefect").mkdir(parents=True)
# A server, key or database of the developer's must not be written to.
for name in (
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_LOGGING_LEVEL",
):
    os.environ.pop(name, None)
for name in (
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "JITTASK_APP",
):
    os.environ.pop(name, None)
for name in set(os.environ) - set(SETTINGS := environment(None, BASE / "client")):
    del os.environ[name]
os.environ.update(SETTINGS)
# Its log keeps the stderr of the moment of this import: that of a single test would be closed when the next one logs.
import prefect.main  # noqa: E402, F401


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A slow machine gets more time; and a suite in a script's background has SIGINT ignored, which tests send.

    The package is compiled once: where PYTHONDONTWRITEBYTECODE is set, each process that a test starts would do so.
    """
    heed_interrupts()
    if not hasattr(config, "workerinput"):
        compile_dir(Path(jittask_prefect.__file__).parent, quiet=2)
    config.option.timeout = (
        config.option.timeout or float(config.getini("timeout")) * PATIENCE
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for the server is marked `server`; one that may have a server may be run a second time.

    Prefect's server on SQLite now and then stands still for its own busy_timeout of a minute, which no setting
    shortens; a rerun is counted in pytest's last line.
    """
    shares = dict.fromkeys(_share(item.nodeid) for item in items)
    places = {share: place for place, share in enumerate(_in_order(shares))}
    items.sort(key=lambda item: places[_share(item.nodeid)])
    for item in items:
        if "prefect_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.server)
        if item.nodeid.startswith(INTEGRATION) or BENCHMARKS in item.nodeid:
            item.add_marker(pytest.mark.flaky(reruns=1))


def _share(nodeid: str) -> str:
    """The part of the suite that a test runs with, in one process: a group, or its module; a benchmark by itself."""
    module = nodeid.partition("::")[0]
    if module.endswith(BENCHMARKS):
        return nodeid
    if module.startswith(INTEGRATION):
        for group, names in GROUPS.items():
            if module.removeprefix(f"{INTEGRATION}test_").removesuffix(".py") in names:
                return INTEGRATION + group
    return module


def _in_order(shares: Iterable[str]) -> list[str]:
    """Groups, then what takes long, then the others: those with a server between those that only compute.

    Each server takes its share of the processor: five at a time would be too slow for what is waited for.
    """
    found = {share: _name(share) for share in shares}
    others = [share for share, name in found.items() if name not in FIRST]
    servers = [share for share in others if share.startswith(INTEGRATION)]
    ranks = _ranks(servers, AT_THE_LATEST) | _ranks(
        [share for share in others if share not in servers], 1
    )
    first = [share for share in found if share not in ranks]
    return [
        *sorted(first, key=lambda share: FIRST.index(found[share])),
        *sorted(others, key=lambda share: ranks[share]),
    ]


def _ranks(shares: list[str], end: float) -> dict[str, float]:
    """The places of shares, evenly from 0 to an end."""
    return {share: end * n / len(shares) for n, share in enumerate(shares)}


def _name(share: str) -> str:
    """The name of a group, a benchmark, or a module."""
    module, _, benchmark = share.removesuffix("]").partition("[")
    if (group := share.removeprefix(INTEGRATION)) in GROUPS:
        return group
    return benchmark or Path(module).stem.removeprefix("test_")


class _Shares(LoadScopeScheduling):
    """Five processes share the suite. Four begin with the groups, each with a server of its own, and wait most of the
    time: two cores are enough. The fifth takes part after part, and so do these when they have done theirs.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _share(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Shares(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """What a test logs on purpose may hold half a pair of surrogates, which no process can tell another."""
    report = yield
    report.sections = [
        (name, said.encode("utf-8", "backslashreplace").decode())
        for name, said in report.sections
    ]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and items are made, and none goes: looking for garbage meanwhile took a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """The tests themselves and all imported modules stay: the garbage collector need not look at them again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def pytest_unconfigure() -> None:
    """Remove the Prefect home of this session."""
    shutil.rmtree(BASE, ignore_errors=True)


@pytest.fixture(scope="session")
def prefect_database(pytestconfig: pytest.Config) -> Path:
    """The database of a Prefect server that has no rows yet."""
    return migrated(pytestconfig.cache.mkdir("prefect"))
