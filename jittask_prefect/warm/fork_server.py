"""The fork server of an app: loads the flow file once, and makes each child of the warm worker by a fork (Linux).

`fork_server_process.py` starts it as `python -m jittask_prefect.warm.fork_server CONTROL LIFE FILE DIRECTORY`, in a session
of its own. This process has a single thread and opens nothing: a fork copies only the thread that forks, and copies of a
connection would disturb each other. An app that starts threads or opens connections where its files are imported gets no
fork server.

Messages are packets of JSON. To the worker:

    {"ready": pid, "version"}   once: the flow file is loaded; with its release of this package
    {"unfit": reason}        or: the app must not be forked; this process ends
    {"failed": reason}       or: the flow file does not load; this process ends
    {"forked": pid}          from the child itself, which leads a session by then
    {"stale": reason}        no child was made, since the app's files have changed; this process is to be replaced
    {"ended": pid, "code"}   the child's exit code; from now on its pid may be another process's

To this process:

    {"fork": true}   make a child; with two descriptors, the child's end of its pipe and of its life
    {"reap": pid}    wait for a child that has ended, and whose process group the worker has killed
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from prefect.context import AsyncClientContext, SyncClientContext
from prefect.settings import PREFECT_API_URL

from jittask_prefect.warm.child import Prepared, restored, without_heartbeat, work
from jittask_prefect.warm.fitness import open_files, reason_against_fork
from jittask_prefect.warm.fork_server_process import PACKET
from jittask_prefect.warm.life import end_for_certain, end_with_parent
from jittask_prefect.warm.loaded_file import LoadedFile
from jittask_prefect.warm.pipe import VERSION
from jittask_prefect.warm.preparation import prepare_apps

TEXT = 2000  # characters of a reason


class ForkServer:
    """The process's work: requests of the worker, in their order.

    Args:
        control: The socket to the worker, which keeps the bounds of packets.
        life: The descriptor whose end ends this process.
    """

    def __init__(self, control: socket.socket, life: int) -> None:
        self._control, self._life = control, life

    def serve(self, file: str, directory: str) -> NoReturn:
        """Load a flow file, and fork children until the worker is gone or needs no more.

        Args:
            file: The flow file.
            directory: The working directory of its runs.
        """
        with without_heartbeat():
            prepared = self._prepare(file, directory)
            self._send({"ready": os.getpid(), "version": VERSION})
            while True:
                self._answer(prepared, file)

    def _prepare(self, file: str, directory: str) -> Prepared:
        before = open_files()
        gc.disable()  # a collection would write to memory that is shared from the fork on
        try:
            with restored():
                os.chdir(directory)
                loaded = LoadedFile(file)
                prepare_apps()
                loaded.prepare()
        except (Exception, SystemExit) as error:  # noqa: BLE001  an app's file may raise anything
            self._leave({"failed": f"{type(error).__name__}: {error}"[:TEXT]})
        if reason := reason_against_fork(before):
            self._leave({"unfit": reason})
        prepared = Prepared(loaded, _clients())
        gc.collect()
        gc.freeze()
        return prepared

    def _answer(self, prepared: Prepared, file: str) -> None:
        text, descriptors, _, _ = socket.recv_fds(self._control, PACKET, 2)
        if not text:
            end_for_certain()
        request = json.loads(text)
        if "reap" in request:
            self._reap(request["reap"])
        elif stale := prepared.loaded.outdated(file):
            self._send({"stale": stale})
        else:
            sys.stdout.flush()
            sys.stderr.flush()
            if not os.fork():
                self._become_child(prepared, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def _become_child(self, prepared: Prepared, end: int, life: int) -> NoReturn:
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._send({"forked": os.getpid()})  # first of all: the worker waits
            end_with_parent(life)
            self._control.close()
            os.close(self._life)
            gc.enable()
            _seed()
            work(end, prepared=prepared)
        except BaseException:  # noqa: BLE001  whatever it is, this process is no server
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _reap(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        self._send({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _send(self, message: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode())

    def _leave(self, message: dict[str, Any]) -> NoReturn:
        self._send(message)
        sys.stdout.flush()
        sys.stderr.flush()
        end_for_certain()


def _clients() -> tuple[SyncClientContext, AsyncClientContext] | None:
    """Prefect's clients; None where Prefect would start a server for them."""
    if not PREFECT_API_URL.value():
        return None
    return SyncClientContext(), AsyncClientContext()


def _seed() -> None:
    """Give this process random numbers of its own; Python reseeds only the module `random`."""
    if numpy := sys.modules.get("numpy.random"):
        numpy.seed(random.SystemRandom().getrandbits(32))


def main(arguments: list[str]) -> NoReturn:
    """Run the process; arguments as at the top of this module."""
    end, life = map(int, arguments[:2])
    # A signal to all processes of a worker: who else could tell how the children end? The worker's end is this one's.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    by_pipe = end_with_parent(life)
    os.set_inheritable(end, False)
    control = socket.socket(fileno=end)
    server = ForkServer(control, life)
    if not by_pipe:
        server._leave({"unfit": "this system does not signal the end of a pipe"})
    server.serve(*arguments[2:4])


if __name__ == "__main__":
    main(sys.argv[1:])
