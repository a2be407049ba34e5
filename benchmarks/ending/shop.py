"""The app of the campaign: functions that go on for a while in various ways, and leave a sign of life all the time."""

from __future__ import annotations

from typing import Any

WAYS = ("busy", "sleep", "async", "free", "held", "regex", "stubborn", "starts")
"""What a function does: a loop of Python; sleep; await; C code that has given the interpreter's lock away, that holds
it (twice: one call, and one of `re`); it ignores SIGTERM, SIGINT and exceptions; it waits for a process of its own."""
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Mark(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    kind: str = ""
    at: NaiveDatetime | None = None
    way: str = "sleep"
    length: float = 1.0
    done: int = 0
"""
# `beats` has a line for each sign of life: task, what, moment of the machine's monotonic clock, process.
TYPE = """
import asyncio, ctypes, os, re, subprocess, threading, time
from jittask_prefect import {base}

FREE, HELD = ctypes.CDLL(None), ctypes.PyDLL(None)
FREE.signal.restype, FREE.signal.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
SLOW = re.compile("(a+)+$")

def say(file, *words):
    out = os.open(app.path.parent / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, (" ".join(map(str, words)) + "\\n").encode())
    os.close(out)

def beat(task, what="beat"):
    say("beats", task.taskId, what, time.monotonic_ns(), os.getpid())

class Beating:
    def __init__(self, task):
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.go_on, args=(task,), name="jittask-beat", daemon=True)

    def go_on(self, task):
        while not self.over.wait(0.05):
            beat(task)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *exc_info):
        self.over.set()
        self.thread.join()

def spend(task, way, length):
    until = time.monotonic() + length
    if way == "busy":
        while time.monotonic() < until:
            pass
    elif way == "free":
        FREE.usleep(int(length * 1e6))
    elif way == "held":
        HELD.usleep(int(length * 1e6))
    elif way == "regex":
        while time.monotonic() < until:
            SLOW.match("a" * 25 + "b")
    elif way == "stubborn":
        before = [FREE.signal(number, 1) for number in (2, 15)]
        while time.monotonic() < until:
            try:
                time.sleep(0.05)
            except BaseException:
                pass
        for number, handler in zip((2, 15), before):
            FREE.signal(number, handler)
    elif way == "starts":
        process = subprocess.Popen(["sleep", str(length)])
        beat(task, f"started:{{process.pid}}")
        process.wait()
    else:
        if way == "locks":
            with app.session() as session:
                session.flush()
        time.sleep(length)

async def spend_awaiting(task, length, over):
    until = time.monotonic() + length
    while time.monotonic() < until:
        await asyncio.sleep(0.05)
        beat(task)
    over(task)

class {name}({base}):
    def handle(self, task):
        given = task.argDict if task.row is None else vars(task.row)
        if task.row is not None:
            task.row.done += 1
        beat(task, "begin")
        if given["way"] == "async":
            return spend_awaiting(task, given["length"], self.over)
        with Beating(task):
            spend(task, given["way"], given["length"])
        return self.over(task)

    def over(self, task):
        if task.row is None:
            beat(task, "effect")
        beat(task, "left")

    def afterReturn(self, task):
        say("returned", task.taskId, task.status, time.monotonic_ns(), os.getpid())
"""
FLOWS = """
import os, time
from pathlib import Path
from jittask_prefect import App
from jittask_prefect.running.flows import flows_of

HERE = Path(__file__).parent
MADE = flows_of(App(HERE))

def cancelled(flow, flow_run, state):
    out = os.open(HERE.parent / "cancelled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, f"{flow_run.id} {time.monotonic_ns()}\\n".encode())
    os.close(out)

for made in MADE.values():
    made.on_cancellation_hooks.append(cancelled)
globals().update(MADE)
"""
ROW, BATCH, MADE, EVERY, AGAIN = (
    "tasks.EndsRow",
    "tasks.EndsBatch",
    "tasks.EndsMade",
    "tasks.EndsEvery",
    "tasks.EndsAgain",
)


def _rows(kind: str, **keys: Any) -> dict[str, Any]:
    timer = {"startField": "at", "repeat": {"repeatType": "day"}}
    about = {
        "type": "tasks.EndsRowsType", "title": kind, "modelPath": "models.Mark", "timerCfg": timer,
        "filter": f"Q(kind='{kind}')", **keys,
    }  # fmt: skip
    return {"e.json": about, "inner.py": "def customFunc(row):\n    pass\n"}


def _scheduled(title: str, repeat: str, start: str) -> dict[str, Any]:
    about = {
        "type": "tasks.EndsType", "title": title, "argDict": {"way": "sleep", "length": 4.0},
        "timerCfg": {"startTime": start, "repeat": {"repeatType": repeat}},
    }  # fmt: skip
    return {"e.json": about, "inner.py": "def customFunc(way, length):\n    pass\n"}


def elements() -> dict[str, Any]:
    """The app's elements: rows with a flow run each, rows in batches, made tasks, and a schedule of every minute."""
    types = {
        f"tasks/{name}": {
            "e.json": {"type": "tasks.Meta", "title": name},
            "type.py": TYPE.format(name=name, base=base),
        }
        for name, base in (
            ("EndsType", "NormalType"),
            ("EndsRowsType", "DateFieldType"),
        )
    }
    return {
        "models/Mark": {
            "e.json": {"type": "models.NormalType", "title": "Mark"},
            "model.py": MODEL,
        },
        **types,
        "tasks/EndsRow": _rows("row", dispatch="row"),
        "tasks/EndsBatch": _rows("batch", dispatch="batch"),
        "tasks/EndsAgain": _rows("again", dispatch="row", retries=3),
        "tasks/EndsMade": _scheduled("made", "year", "2001-01-01 00:00:00"),
        "tasks/EndsEvery": _scheduled("every", "minute", "2001-01-01 00:00:00"),
    }
