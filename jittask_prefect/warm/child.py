"""What a child of the warm worker does: one flow run after the other, in one process and one event loop.

Started by `children.py` as `python -m jittask_prefect.warm.child FD END PARENT [FILE DIRECTORY]`, in a session of
its own. It reads jobs from the pipe and answers them; log lines for the API go up the pipe too, so that they arrive
even where this process dies. It ends itself, with all that it started, when the pipe or the parent is gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import logging
import os
import resource
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
from typing import Any

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

from jittask_prefect.warm import leaks, pipe_messages, traces

RUNS = 500  # flow runs of one process: whatever leaks ends with it
GROWTH = 200_000_000  # bytes that it may grow by after its first run
LOGGED, LINE = (
    20_000_000,
    200,
)  # bytes of one run's log that are kept, and what a line counts beside its text
POOL_THREADS = "jittask-pool"
# Threads that stay with reason: ours, and Prefect's services, which one run starts for all.
STAYING = (
    "jittask-",
    "AnyIO worker",
    "GlobalEventLoop",
    "RunSyncEventLoop",
    "EventsWorker",
)
_INSTALLED = tuple(
    sysconfig.get_paths()[name]
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


class Child:
    """The process's state: its pipe, and the flow file that it has loaded.

    Args:
        pipe: To the parent.
    """

    def __init__(self, pipe: pipe_messages.Pipe) -> None:
        self.pipe = pipe
        self.file: str | None = None
        self.flows: dict[str, Flow[..., Any]] = {}
        self.watched: dict[str, int] = {}
        self.runs = self.size = self.logged = 0

    async def serve(self, file: str | None, directory: str | None) -> None:
        """Answer jobs until the pipe ends, which ends the process.

        Args:
            file: The flow file to load beforehand; it is no mistake where that fails, the first run will say so.
            directory: Where its runs work.
        """
        loop = asyncio.get_running_loop()
        loop.set_default_executor(
            ThreadPoolExecutor(4, thread_name_prefix=POOL_THREADS)
        )
        jobs: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        threading.Thread(
            target=self._read, args=(loop, jobs), name="jittask-pipe", daemon=True
        ).start()
        set_api_log_sink(self._log)
        heartbeat = PREFECT_FLOWS_HEARTBEAT_FREQUENCY
        own = "heartbeat_frequency" in get_current_settings().flows.model_fields_set
        # The worker sees itself when a child dies; a heartbeat costs a thread and an event for each run.
        with (
            temporary_settings({} if own else {heartbeat: None}),
            SyncClientContext.get_or_create(),
        ):
            async with AsyncClientContext.get_or_create():
                if file is not None:
                    with suppress(Exception), restored():
                        os.chdir(directory or ".")
                        self._load(file)
                self.pipe.send({"ready": os.getpid()})
                while True:
                    job = await jobs.get()
                    # A task has a context of its own: nothing of one run is seen by the next.
                    answer = await asyncio.create_task(self._do(job))
                    self.pipe.send({"answer": answer})

    def _log(self, line: dict[str, Any]) -> None:
        """Send a line for the API: of a run that says too much, once it has, only warnings, and those up to as much."""
        before, self.logged = (
            self.logged,
            self.logged + LINE + len(str(line.get("message"))),
        )
        if self.logged <= LOGGED or (
            line.get("level", 0) >= logging.WARNING and self.logged <= 2 * LOGGED
        ):
            self.pipe.send({"log": line})
        elif before <= LOGGED:
            self.pipe.send(
                {
                    "log": {
                        **line,
                        "message": f"more than {LOGGED // 1_000_000} MB: the rest is not kept",
                    }
                }
            )

    def _read(
        self, loop: asyncio.AbstractEventLoop, jobs: asyncio.Queue[dict[str, Any]]
    ) -> None:
        try:
            for job in self.pipe.messages():
                if "ping" in job:
                    self.pipe.send({"pong": True})
                else:
                    loop.call_soon_threadsafe(jobs.put_nowait, job)
        finally:  # the parent is gone, or what the function did to the pipe or the loop leaves nobody to answer
            leave_for_certain()

    async def _do(self, job: dict[str, Any]) -> dict[str, Any]:
        flow_run = FlowRun.model_validate(job["run"])
        with restored():
            try:
                os.chdir(job["directory"])
                if changed := self._changed(job["file"]):
                    return {"stale": changed}
                flow = self._flow(job["file"], job["function"])
            except Exception as error:  # noqa: BLE001  an app's file may raise anything
                return {
                    "failed": f"the flow could not be loaded: {type(error).__name__}: {error}"
                }
            if "ask" in job:
                ended = getattr(flow, pipe_messages.ENDED, None)
                return {
                    "ended": await asyncio.to_thread(ended, str(flow_run.id))
                    if ended
                    else None
                }
            if "state" in job:
                await call_hooks(flow, flow_run, State.model_validate(job["state"]))
                return {"leave": None}
            known, self.logged = set(threading.enumerate()), 0
            before = traces.traces()
            failed = await _run(flow, flow_run)
        self.runs += 1
        return {"failed": failed, "leave": self._leave(known) or traces.changed(before)}

    def _flow(self, file: str, function: str) -> Flow[..., Any]:
        if self.file is None:
            self._load(file)
        if function not in self.flows:
            raise LookupError(
                f"{file} has no flow {function!r}; it has: {', '.join(sorted(self.flows)) or 'none'}"
            )
        found = self.flows[function]
        if not found.isasync:
            raise TypeError(
                f"the flow {function!r} of {file} is a plain function; a jittask pool runs async flows"
            )
        return found

    def _load(self, file: str) -> None:
        """Run the flow file, once in this process."""
        sys.path.insert(0, os.getcwd())  # as in a process that was started there
        module = load_script_as_module(file)
        self.flows = {
            name: made for name, made in vars(module).items() if isinstance(made, Flow)
        }
        self.file = file
        self.watched = stamps(file)

    def _changed(self, file: str) -> str | None:
        """What is other than when it was loaded; a process loads its app once."""
        if self.file is None:
            return None
        if file != self.file:
            return f"it has loaded {self.file}"
        now = stamps(file)
        new = _imported() - self.watched.keys()  # imported since, not changed
        for name in (now.keys() | self.watched.keys()) - new:
            if now.get(name) != self.watched.get(name):
                return f"{name} has changed"
        self.watched = now
        return None

    def _leave(self, known: set[threading.Thread]) -> str | None:
        """Why this process should not run another one."""
        if self.runs >= RUNS:
            return f"it has done {RUNS} runs"
        # Whether one is a daemon says nothing: it inherits that from its execution's thread.
        left = sorted(
            t.name
            for t in set(threading.enumerate()) - known
            if not t.name.startswith(STAYING)
        )
        if left:
            return f"a run left the thread {left[0]!r}"
        if _has_children():
            return "a run left processes"
        if leaks.open_connections():
            return "a run left database connections open"
        size = memory()
        self.size = self.size or size
        return (
            f"it has grown by {(size - self.size) // 1_000_000} MB"
            if size - self.size > GROWTH
            else None
        )


async def _run(flow: Flow[..., Any], flow_run: FlowRun) -> str | None:
    """Run it; what went wrong outside of it."""
    # Of a deployment's run Prefect watches, by a websocket of its own, whether somebody suspends it: half of what a
    # short run takes, and a task is never suspended. The run is read again when it begins, with its deployment.
    unwatched = flow_run.model_copy(update={"deployment_id": None})
    try:
        begun: Any = run_flow(
            flow, flow_run=unwatched, return_type="state"
        )  # a coroutine: the flow is async
        await begun
    except (Abort, Pause) as told:
        flow_run_logger(flow_run).info("not run: %s", told)
    except Exception as error:  # noqa: BLE001  the client's and the engine's, above all
        flow_run_logger(flow_run).error(
            "the run ended with an error of its own", exc_info=True
        )
        return f"{type(error).__name__}: {error}"
    return None


async def call_hooks(
    flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]
) -> None:
    """Call what a flow asks for when a run of it was cancelled, or its process died."""
    logger = flow_run_logger(flow_run)
    for hook in (
        flow.on_cancellation_hooks if state.is_cancelled() else flow.on_crashed_hooks
    ) or []:
        try:
            called: Any = hook(flow, flow_run, state)
            if asyncio.iscoroutine(called):
                await called
        except Exception:
            logger.error("a hook of the flow failed", exc_info=True)


def stamps(file: str) -> dict[str, int]:
    """When the files of a flow file's app, and the modules that are not installed, were changed last; in ns."""
    home = Path(file).parent
    found = {
        file,
        str(home / "app.json"),
        *map(str, home.glob("*/*/e.json")),
        *map(str, home.glob("*/*/*.py")),
    }
    stamped = {}
    for name in found | _imported():
        with suppress(OSError):
            stamped[name] = os.stat(name).st_mtime_ns
    return stamped


def _imported() -> set[str]:
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file for file in files if file and not file.startswith(_INSTALLED)}


def memory() -> int:
    """What this process holds in memory, in bytes: now on Linux, at most so far elsewhere."""
    try:
        return (
            int(Path("/proc/self/statm").read_text().split()[1])
            * resource.getpagesize()
        )
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@contextmanager
def restored() -> Iterator[None]:
    """Put back what a run may leave otherwise: working directory, environment, signal handlers, output."""
    folder, environment, output = (
        os.getcwd(),
        dict(os.environ),
        (sys.stdout, sys.stderr),
    )
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        os.chdir(folder)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.stdout, sys.stderr = output
        for stream in output:
            stream.flush()


def leave_for_certain() -> None:
    """End this process and what it started, also what was forked; nothing can catch it."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def die_with(parent: int, end: int) -> None:
    """End with the parent, also while C code holds the interpreter's lock and no thread can look at the pipe.

    Only Linux can do this; elsewhere such a process ends once its C code returns. The end of a pipe to which nothing is
    written is a signal to the process group, so that what was started here ends too (fcntl(2), F_SETSIG). That of
    prctl(2), PR_SET_PDEATHSIG, is for this process alone, and would come first.

    Args:
        parent: The parent's pid.
        end: The pipe's reading end.
    """
    if sys.platform == "linux":
        try:
            fcntl.fcntl(end, fcntl.F_SETOWN, -os.getpgrp())
            fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(
                end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC
            )
        except OSError:
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        leave_for_certain()


def main(arguments: list[str]) -> None:
    """The process."""
    die_with(int(arguments[2]), int(arguments[1]))
    pipe = pipe_messages.Pipe(socket.socket(fileno=int(arguments[0])))
    os.register_at_fork(
        after_in_child=pipe.close
    )  # a copy of this process is not the parent's child
    file, directory = arguments[3:5] if len(arguments) > 3 else (None, None)
    try:
        asyncio.run(_serve(Child(pipe), file, directory))
    finally:
        os._exit(
            1
        )  # the loop is broken; threads and exit handlers of a function's would hold the process


async def _serve(child: Child, file: str | None, directory: str | None) -> None:
    try:
        await child.serve(file, directory)
    except BaseException:  # noqa: BLE001  whatever it is, the process ends
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # not by the loop's own end, which waits for a function's threads


if __name__ == "__main__":
    main(sys.argv[1:])
