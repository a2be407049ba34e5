"""The child process of the warm worker: executes flow runs, each after the last, in one event loop.

`process_start.py` starts the process as `python -m jittask_prefect.warm.child PIPE LIFE [FILE DIRECTORY]`, in a session of
its own; or a fork server makes the process (`fork_server.py`), with the flow file loaded. Jobs come by the pipe, and answers
go up the pipe; so do log lines for the API, which arrive even where this process dies. The process ends, with all that the
process started, when the pipe or the worker is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn

import psutil
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import AsyncClientContext, SyncClientContext
from prefect.exceptions import Abort, Pause
from prefect.flow_engine import run_flow
from prefect.logging.handlers import set_api_log_sink
from prefect.logging.loggers import flow_run_logger
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from jittask_prefect.schedule import clock
from jittask_prefect.warm import leaks, tally
from jittask_prefect.warm.drain import DRAIN, Drain
from jittask_prefect.warm.help import HELP, Help
from jittask_prefect.warm.life import end_for_certain, end_with_parent
from jittask_prefect.warm.loaded_file import AnyFlow, LoadedFile
from jittask_prefect.warm.pipe import (
    ENDED_ATTRIBUTE,
    HELP_ATTRIBUTE,
    PREPARE_ATTRIBUTE,
    VERSION,
    Pipe,
)
from jittask_prefect.warm.process_state import changes_since, current_state

RUNS = 500  # flow runs of a process: leaks end with the process
GROWTH = 200_000_000  # bytes that a process may grow by after its first run
LOG_BYTES = 20_000_000  # of one run's log that are kept
LINE_BYTES = 200  # that a log line counts for, beside its text
# Before its due time a run asks to begin. Prefect's server allows that from half a second before; it tells an earlier run
# to wait for whole seconds.
ASKS_EARLY = timedelta(seconds=0.4)
POOL_THREADS = "jittask-pool"
# Threads that stay with reason: ours, and Prefect's services, which the first run starts for all.
LASTING_THREADS = (
    "jittask-",
    "AnyIO worker",
    "GlobalEventLoop",
    "RunSyncEventLoop",
    "EventsWorker",
)


@dataclass(frozen=True)
class Prepared:
    """The parts of a child that a fork server makes once for all its children; none has opened anything.

    Attributes:
        loaded: The flow file.
        clients: Prefect's clients, one that waits and one that does not, with their SSL contexts.
    """

    loaded: LoadedFile
    clients: tuple[SyncClientContext, AsyncClientContext] | None


class Child:
    """The process's work: jobs from the pipe, in their order.

    Args:
        pipe: To the worker.
        prepared: The parts that a fork server has made before this process.
    """

    def __init__(self, pipe: Pipe, prepared: Prepared | None = None) -> None:
        self._pipe = pipe
        self._loaded = prepared.loaded if prepared else None
        self._clients = prepared.clients if prepared else None
        self._runs = self._size = self._logged = 0
        # Of the job that came last.
        self._help = Help(pipe.send)
        self._begin, self._enough = threading.Event(), threading.Event()
        self._drain = Drain()

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
        if tally.metrics_port() is not None:
            tally.count_for(self._pipe.send)
        waiting, waitless = self._clients or (
            SyncClientContext.get_or_create(),
            AsyncClientContext.get_or_create(),
        )
        with without_heartbeat(), waiting:
            async with waitless:
                if file is not None:
                    with suppress(Exception), restored():
                        os.chdir(directory or ".")
                        self._loaded = LoadedFile(file)
                self._pipe.send({"ready": os.getpid(), "version": VERSION})
                while True:
                    job = await jobs.get()
                    # A task has a context of its own: a run sees nothing of the run before.
                    answer = await asyncio.create_task(self._answer(job))
                    if (figures := tally.of_process()) is not None:
                        figures.flush()
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
                elif "helpers" in message:
                    self._help.heard(message)
                elif "begin" in message:
                    self._begin.set()
                elif "enough" in message:
                    self._enough.set()
                    self._begin.set()
                elif "drain" in message:
                    self._drain.begin()
                else:
                    self._help = Help(self._pipe.send, message.get("pace"))
                    self._begin, self._enough = threading.Event(), threading.Event()
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
            DRAIN.set(self._drain)
            if "help" in job:
                begun = partial(self._pipe.send, {"begun": True})
                begin = self._begin.wait if "early" in job else None
                about = (job["help"], begin, self._enough.is_set, begun)
                failed = await _help_out(flow, flow_run, *about)
            else:
                HELP.set(self._help)
                async with _prepared(flow, flow_run):
                    await asyncio.sleep(seconds_to_ask(flow_run, clock.now()))
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


def seconds_to_ask(flow_run: FlowRun, now: datetime) -> float:
    """How many seconds to wait before Prefect is asked whether a run may begin; 0 for a run that is due.

    The server rounds the time to wait to whole seconds. A run that asks 1.6 s before its due time begins 0.4 s after.

    Args:
        flow_run: The run.
        now: The present instant.
    """
    due = flow_run.next_scheduled_start_time
    return max(0.0, (due - ASKS_EARLY - now).total_seconds()) if due else 0.0


async def _execute(flow: AnyFlow, flow_run: FlowRun) -> str | None:
    """Execute a flow run; an error outside of the flow, as text."""
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


@asynccontextmanager
async def _prepared(flow: AnyFlow, flow_run: FlowRun) -> AsyncIterator[None]:
    """Make ready beside the block, which waits, for a run that is not due yet."""
    due = flow_run.next_scheduled_start_time
    prepare = getattr(flow, PREPARE_ATTRIBUTE, None)
    if prepare is None or due is None or due <= clock.now():
        yield
        return
    preparing = asyncio.create_task(asyncio.to_thread(prepare, flow_run))
    yield
    await preparing


async def _help_out(
    flow: AnyFlow,
    flow_run: FlowRun,
    number: int,
    begin: Callable[[], object] | None,
    enough: Callable[[], bool],
    begun: Callable[[], None],
) -> str | None:
    """Take rows of a flow run that another process leads; the error, where there was one, as text."""
    help_out = getattr(flow, HELP_ATTRIBUTE)
    try:
        about: tuple[Any, ...] = (flow, flow_run, number, begin, enough, begun)
        await asyncio.to_thread(help_out, *about)
    except Exception as error:  # noqa: BLE001  the leader goes on, and takes these rows
        flow_run_logger(flow_run).error("a helper gave up", exc_info=True)
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


@contextmanager
def without_heartbeat() -> Iterator[None]:
    """Prefect's settings without a heartbeat, unless the settings set a heartbeat.

    The worker notices when a child dies; a heartbeat costs a thread and an event for each run.
    """
    if "heartbeat_frequency" in get_current_settings().flows.model_fields_set:
        yield
        return
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


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


def main(arguments: list[str]) -> NoReturn:
    """Run the process; arguments as at the top of this module."""
    end, life = map(int, arguments[:2])
    end_with_parent(life)
    file, directory = arguments[2:4] if len(arguments) > 2 else (None, None)
    work(end, file, directory)


def work(
    end: int,
    file: str | None = None,
    directory: str | None = None,
    prepared: Prepared | None = None,
) -> NoReturn:
    """Do the work of a child until the worker is gone.

    Args:
        end: The descriptor of this process's end of the pipe.
        file: The flow file to load beforehand.
        directory: The working directory of its runs.
        prepared: The parts that a fork server has made.
    """
    try:
        os.set_inheritable(end, False)
        pipe = Pipe(socket.socket(fileno=end))
        # A copy of this process is not the worker's child.
        os.register_at_fork(after_in_child=pipe.close)
        asyncio.run(_serve(Child(pipe, prepared), file, directory))
    finally:
        # The loop is broken; threads and exit handlers of a function's would hold the process.
        os._exit(1)


async def _serve(child: Child, file: str | None, directory: str | None) -> None:
    try:
        await child.serve(file, directory)
    except asyncio.CancelledError:
        os._exit(1)  # by SIGTERM: Prefect's engine has reported the run at work
    except BaseException:  # noqa: BLE001  whatever it is, the process ends
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # not by the loop's own end, which waits for a function's threads


if __name__ == "__main__":
    main(sys.argv[1:])
