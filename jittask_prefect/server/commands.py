"""The command lines and the environment of Prefect's own processes."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jittask_prefect.server.service import mark_of

HOST = "127.0.0.1"


def environment(url: str | None, home: Path) -> dict[str, str]:
    """The environment of all processes of an app.

    Args:
        url: The API's address; None for the server itself, which must not have an address.
        home: The app's `.jittask` folder.

    Returns:
        `os.environ` with Prefect kept to this home: no hidden server, no user profile, no telemetry, no proxy between
        processes of this machine. Logging settings stay as they are.
    """
    removed = {
        "PREFECT_API_URL",
        # The profile, and the newer name of "ephemeral mode", would win over the values below.
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
        "PREFECT_SERVER_EPHEMERAL_ENABLED",
        # Set where this is called in a flow run.
        mark_of("server"),
        mark_of("worker"),
    }
    env = {name: value for name, value in os.environ.items() if name not in removed}
    if url is not None:
        env["PREFECT_API_URL"] = url
    env["PREFECT_HOME"] = str(home.resolve() / "prefect")
    env["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
    env["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    env["DO_NOT_TRACK"] = "1"
    env.setdefault("PREFECT_WORKER_QUERY_SECONDS", "1")
    env.setdefault("PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT", "false")
    # Each time a server looks at every run that was cancelled within a day: each 20 s where nothing is set.
    env.setdefault("PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS", "600")
    env["PYTHONUNBUFFERED"] = "1"
    direct = env.get("no_proxy") or env.get("NO_PROXY") or ""
    env["no_proxy"] = env["NO_PROXY"] = ",".join(
        filter(None, (direct, HOST, "localhost"))
    )
    return env


def prefect_version() -> str:
    """The installed version of Prefect, without importing Prefect."""
    return importlib.metadata.version("prefect")


def prefect_command(*arguments: str) -> list[str]:
    """The command line of Prefect in this Python."""
    # -P: the working directory is the user's, and a file there may have the name of a module.
    return [sys.executable, "-P", "-m", "prefect", "--no-prompt", *arguments]


def worker_command(
    pool: str,
    worker_type: str,
    *,
    name: str | None = None,
    limit: int | None = None,
    queues: Sequence[str] = (),
) -> list[str]:
    """The command that starts a worker.

    Args:
        pool: The work pool's name.
        worker_type: The worker's type, which is the pool's.
        name: The worker's name; Prefect makes one where absent.
        limit: How many runs at a time at most; the type's own default where absent.
        queues: The work queues that the worker takes; all queues of the pool where empty.
    """
    command = prefect_command("worker", "start", "--pool", pool, "--type", worker_type)
    command += ["--name", name] if name else []
    for queue in queues:
        command += ["--work-queue", queue]
    return command + (["--limit", str(limit)] if limit else [])
