"""The child process of the warm worker: executes flow runs, each after the last, in one event loop.

`children.py` starts it as `python -m jittask_prefect.warm.child PIPE LIFE PARENT [FILE DIRECTORY]`, in a session of its
own. Jobs come by the pipe, and answers go up the pipe; so do log lines for the API, which arrive even where this
process dies. The process ends, with all that it started, when the pipe or the parent is gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import logging
import os
import signal
import socket
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import AsyncClientContext, SyncClientContext
from prefect.exceptions import Abort, Pause
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.logging.handlers import set_api_log_sink
from prefect.logging.loggers import flow_run_logger
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)
from prefect.utilities.importtools import load_script_as_module

from jittask_prefect.elements import holiday_files
from jittask_prefect.elements.app import files_of_apps
from jittask_prefect.warm import leaks
from jittask_prefect.warm.pipe import ENDED_ATTRIBUTE, Pipe
from jittask_prefect.warm.process_state import changes_since, current_state

RUNS = 500  # flow runs of a process: leaks end with the process
GROWTH = 200_000_000  # bytes that a process may grow by after its first run
LOG_BYTES = 20_000_000  # of one run's log that are kept
LINE_BYTES = 200  # that a log line counts for, beside its text
POOL_THREADS = "jittask-pool"
# Threads that stay with reason: ours, and Prefect's services, which the first run starts for all.
LASTING_THREADS = (
    "jittask-",
    "AnyIO worker",
    "GlobalEventLoop",
    "RunSyncEventLoop",
    "EventsWorker",
)
_LIBRARIES = tuple(
    sysconfig.get_paths()[name]
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
AnyFlow = Flow[..., Any]


class LoadedFile:
    """The flow file that this process has loaded; a process loads one file, once.

    Args:
        file: The flow file.

    Raises:
        Exception: Whatever the app's code raises.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        sys.path.insert(0, os.getcwd())  # as in a process that was started there
        module = load_script_as_module(file)
        self._flows = {k: v for k, v in vars(module).items() if isinstance(v, Flow)}
        self._times = modification_times(file)

    def flow(self, name: str) -> AnyFlow:
        """A flow of the file.

        Raises:
            LookupError: The file has no flow of that name.
            TypeError: The flow is no async function.
        """
        if name not in self._flows:
            names = ", ".join(sorted(self._flows)) or "none"
            raise LookupError(f"{self.file} has no flow {name!r}; it has: {names}")
        if not self._flows[name].isasync:
            raise TypeError(
                f"the flow {name!r} of {self.file} is a plain function; a jittask pool runs async flows"
            )
        return self._flows[name]

    def outdated(self, file: str) -> str | None:
        """Why this process cannot execute jobs of a flow file; None where nothing prevents them."""
        if file != self.file:
            return f"it has loaded {self.file}"
        now = modification_times(file)
        imported_since = _imported_files() - self._times.keys()
        for name in (now.keys() | self._times.keys()) - imported_since:
            if now.get(name) != self._times.get(name):
                return f"{name} has changed"
        self._times = now
        return None


class Child:
    """The process's work: jobs from the pipe, in their order.

    Args:
        pipe: To the worker.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._loaded: LoadedFile | None = None
        self._runs = self._size = self._logged = 0

    async def serve(self, file: str | None, directory: str | None) -> None:
        """Answer jobs until the pipe ends, which ends the process.

        Args:
            file: The flow file to load beforehand. A failure is no mistake: the first run reports it.
            directory: The working directory of its runs.
        """
        loop = asyncio.get_running_loop()
        loop.set_default_executor(
            ThreadPoolExecutor(4, thread_name_prefix=POOL_THREADS)
        )
        jobs: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        reader = threading.Thread(
            target=self._read, args=(loop, jobs), name="jittask-pipe", daemon=True
        )
        reader.start()
        set_api_log_sink(self._send_log)
        # The worker notices when a child dies; a heartbeat costs a thread and an event for each run.
        own = "heartbeat_frequency" in get_current_settings().flows.model_fields_set
        no_heartbeat = {} if own else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
        with temporary_settings(no_heartbeat), SyncClientContext.get_or_create():
            async with AsyncClientContext.get_or_create():
                if file is not None:
                    with suppress(Exception), restored():
                        os.chdir(directory or ".")
                        self._loaded = LoadedFile(file)
                self._pipe.send({"ready": os.getpid()})
                while True:
                    job = await jobs.get()
                    # A task has a context of its own: nothing of a run is seen by the next.
                    answer = await asyncio.create_task(self._answer(job))
                    self._pipe.send({"answer": answer})

    def _send_log(self, line: dict[str, Any]) -> None:
        """Send a line for the API. Beyond `LOG_BYTES` of a run only warnings are kept, and as many bytes of them."""
        before = self._logged
        self._logged += LINE_BYTES + len(str(line.get("message")))
        warning = line.get("level", 0) >= logging.WARNING
        if self._logged <= LOG_BYTES or (warning and self._logged <= 2 * LOG_BYTES):
            self._pipe.send({"log": line})
        elif before <= LOG_BYTES:
            notice = f"more than {LOG_BYTES // 1_000_000} MB: the rest is not kept"
            self._pipe.send({"log": {**line, "message": notice}})

    def _read(
        self, loop: asyncio.AbstractEventLoop, jobs: asyncio.Queue[dict[str, Any]]
    ) -> None:
        try:
            for message in self._pipe.messages():
                if "ping" in message:
                    self._pipe.send({"pong": True})
                else:
                    loop.call_soon_threadsafe(jobs.put_nowait, message)
        finally:
            # The worker is gone, or a function broke the pipe or the loop: nobody could answer.
            end_for_certain()

    async def _answer(self, job: dict[str, Any]) -> dict[str, Any]:
        flow_run = FlowRun.model_validate(job["run"])
        with restored():
            try:
                os.chdir(job["directory"])
                if self._loaded is None:
                    self._loaded = LoadedFile(job["file"])
                elif reason := self._loaded.outdated(job["file"]):
                    return {"stale": reason}
                flow = self._loaded.flow(job["function"])
            except Exception as error:  # noqa: BLE001  an app's file may raise anything
                reason = f"{type(error).__name__}: {error}"
                return {"failed": f"the flow could not be loaded: {reason}"}
            if "ask" in job:
                ended = getattr(flow, ENDED_ATTRIBUTE, None)
                run_id = str(flow_run.id)
                return {
                    "ended": await asyncio.to_thread(ended, run_id) if ended else None
                }
            if "state" in job:
                await call_hooks(flow, flow_run, State.model_validate(job["state"]))
                return {"leave": None}
            threads, state = set(threading.enumerate()), current_state()
            self._logged = 0
            failed = await _execute(flow, flow_run)
        self._runs += 1
        leave = self._reason_to_leave(threads) or changes_since(state)
        return {"failed": failed, "leave": leave}

    def _reason_to_leave(self, threads: set[threading.Thread]) -> str | None:
        """Why this process should execute no other run.

        Args:
            threads: The threads before the run.
        """
        if self._runs >= RUNS:
            return f"it has done {RUNS} runs"
        # Daemon threads count too: a thread inherits that from its execution's thread.
        names = [thread.name for thread in set(threading.enumerate()) - threads]
        if left := sorted(n for n in names if not n.startswith(LASTING_THREADS)):
            return f"a run left the thread {left[0]!r}"
        if _has_children():
            return "a run left processes"
        if leaks.open_connections():
            return "a run left database connections open"
        size = psutil.Process().memory_info().rss
        self._size = self._size or size
        if size - self._size > GROWTH:
            return f"it has grown by {(size - self._size) // 1_000_000} MB"
        return None


async def _execute(flow: AnyFlow, flow_run: FlowRun) -> str | None:
    """Execute a flow run; the error, where one was outside of the flow, as text."""
    # For a deployment's run Prefect opens a websocket that tells whether somebody suspends the run: half of a
    # short run's time, and a task is never suspended. The engine reads the run again, with its deployment.
    unwatched = flow_run.model_copy(update={"deployment_id": None})
    try:
        # A coroutine, since the flow is async.
        running: Any = run_flow(flow, flow_run=unwatched, return_type="state")
        await running
    except (Abort, Pause) as reason:
        flow_run_logger(flow_run).info("not run: %s", reason)
    except Exception as error:  # noqa: BLE001  the client's and the engine's, above all
        message = "the run ended with an error of its own"
        flow_run_logger(flow_run).error(message, exc_info=True)
        return f"{type(error).__name__}: {error}"
    return None


async def call_hooks(flow: AnyFlow, flow_run: FlowRun, state: State[Any]) -> None:
    """Call a flow's hooks for a run that was cancelled, or whose process died."""
    logger, cancelled = flow_run_logger(flow_run), state.is_cancelled()
    hooks = flow.on_cancellation_hooks if cancelled else flow.on_crashed_hooks
    for hook in hooks or []:
        try:
            result: Any = hook(flow, flow_run, state)
            if asyncio.iscoroutine(result):
                await result
        except Exception:
            logger.error("a hook of the flow failed", exc_info=True)


def modification_times(file: str) -> dict[str, int]:
    """When the files of a flow file's app, and all imported modules but libraries, changed last; in ns."""
    home = Path(file).parent
    app = (file, home / "app.json", *home.glob("*/*/e.json"), *home.glob("*/*/*.py"))
    times = {}
    for name in {*map(str, (*app, *files_of_apps())), *_imported_files()}:
        with suppress(OSError):
            times[name] = os.stat(name).st_mtime_ns
    return times


def _imported_files() -> set[str]:
    """The files of imported modules, and the files of holidays that were read."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    own = {file for file in files if file and not file.startswith(_LIBRARIES)}
    return own | holiday_files.READ


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@contextmanager
def restored() -> Iterator[None]:
    """Restore after a run: working directory, environment, signal handlers, output."""
    directory, environment = os.getcwd(), dict(os.environ)
    output = sys.stdout, sys.stderr
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        os.chdir(directory)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.stdout, sys.stderr = output
        for stream in output:
            stream.flush()


def end_for_certain() -> NoReturn:
    """End this process and all its children, forked ones too; nothing can catch the signal."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def end_with_parent(parent: int, life: int) -> None:
    """End with the parent, also while C code holds the interpreter's lock and no thread can read the pipe.

    Only Linux can do so; elsewhere such a process ends once its C code returns. The end of a pipe to which nothing is
    written signals the process group, so that children end too (fcntl(2), F_SETSIG). The signal of
    prctl(2), PR_SET_PDEATHSIG, is for this process alone, and would come first.

    Args:
        parent: The parent's pid.
        life: The reading end of a pipe whose writing end only the parent has.
    """
    if sys.platform == "linux":
        try:
            fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
            fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
            flags = fcntl.fcntl(life, fcntl.F_GETFL)
            fcntl.fcntl(life, fcntl.F_SETFL, flags | os.O_ASYNC)
        except OSError:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        end_for_certain()


def main(arguments: list[str]) -> NoReturn:
    """Run the process; arguments as at the top of this module."""
    end, life, parent = map(int, arguments[:3])
    end_with_parent(parent, life)
    pipe = Pipe(socket.socket(fileno=end))
    # A copy of this process is not the worker's child.
    os.register_at_fork(after_in_child=pipe.close)
    file, directory = arguments[3:5] if len(arguments) > 3 else (None, None)
    try:
        asyncio.run(_serve(Child(pipe), file, directory))
    finally:
        # The loop is broken; threads and exit handlers of a function's would hold the process.
        os._exit(1)


async def _serve(child: Child, file: str | None, directory: str | None) -> None:
    try:
        await child.serve(file, directory)
    except BaseException:  # noqa: BLE001  whatever it is, the process ends
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # not by the loop's own end, which waits for a function's threads


if __name__ == "__main__":
    main(sys.argv[1:])
