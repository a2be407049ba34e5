"""What an app opens where its files are imported, and whether a fork would share or lose it: in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jittask_prefect.warm import fork_servers

pytestmark = pytest.mark.skipif(
    not fork_servers.BY_FORK, reason="children by fork need Linux"
)
# Each line in a copy of one process, which has loaded nothing but the module.
SCRIPT = """
import ctypes, json, os, socket, subprocess, sys, threading, time
from jittask_prefect.warm.fitness import open_files, reason_against_fork

C = ctypes.CDLL(None)

def start_c_thread():
    "As a library in C does: Python knows nothing of the thread."
    thread = ctypes.c_ulong()
    C.pthread_create(ctypes.byref(thread), None, C.pause, None)
    return thread

def end_c_thread(thread):
    C.pthread_cancel(thread)
    C.pthread_join(thread, None)

for line in json.loads(sys.argv[1]):
    if copy := os.fork():
        os.waitpid(copy, 0)
        continue
    before = open_files()
    exec(line)
    print(json.dumps([line, reason_against_fork(before)]), flush=True)
    os._exit(0)
"""
UNFIT = {
    "threading.Thread(target=time.sleep, args=(600,), name='poller', daemon=True).start()": "it starts the thread 'poller'",
    "KEPT = socket.create_server(('127.0.0.1', 0))": "it opens a network connection or another socket",
    "KEPT = subprocess.Popen(['sleep', '5'], stdout=subprocess.DEVNULL)": "it starts a process",
    "import sqlite3; KEPT = sqlite3.connect('kept.db'); KEPT.execute('CREATE TABLE IF NOT EXISTS t (x)')": "it opens the SQLite database",
    "from sqlalchemy import create_engine; KEPT = create_engine('sqlite://').connect()": "it opens a database connection",
    "KEPT = os.pipe()": "it opens pipe:",
    "start_c_thread()": "it starts threads in a library's C code",
}
FIT = (
    "KEPT = open('log.txt', 'a')",
    "threading.Thread(target=print).start(); time.sleep(0.1)",
    "subprocess.run(['true'])",
    # OpenBLAS ends its threads before a fork, by pthread_atfork.
    "T = [start_c_thread()]; os.register_at_fork(before=lambda: T and end_c_thread(T.pop()))",
)


@pytest.fixture(scope="module")
def reasons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    folder: Path = tmp_path_factory.mktemp("fitness")
    command = [sys.executable, "-c", SCRIPT, json.dumps([*UNFIT, *FIT])]
    said = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(line) for line in said.stdout.split(b"\n") if b"[" in line)


@pytest.mark.parametrize("at_import", UNFIT)
def test_what_is_against_a_fork(reasons: dict[str, str | None], at_import: str) -> None:
    assert (reasons[at_import] or "").startswith(UNFIT[at_import])


@pytest.mark.parametrize("at_import", FIT)
def test_what_is_no_hindrance(reasons: dict[str, str | None], at_import: str) -> None:
    assert reasons[at_import] is None
