"""What a task may leave behind in its process is seen after it, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys

CHANGES = {
    "the umask": "os.umask(0o011)",
    "the time zone": "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
    "the locale": "locale.setlocale(locale.LC_CTYPE, 'C')",
    "the sockets' default time-out": "socket.setdefaulttimeout(1.5)",
    "the resource limits": "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))",
    "builtins": "builtins.open = None",
    "sys.path": "sys.path.insert(0, '/srv/elsewhere')",
    "a module of Python's": "sys.modules['json'] = os",
    "the signal mask": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})",
    "a timer of signals": "signal.setitimer(signal.ITIMER_REAL, 60)",
    "a trace or profile function": "sys.setprofile(lambda *a: None)",
    "the priority": "os.nice(1)",
    "the recursion limit": "sys.setrecursionlimit(5000)",
    "the hooks for errors": "sys.excepthook = print",
    "how modules are found": "sys.meta_path.append(sys.meta_path[0])",
    "the warnings' filters": "warnings.simplefilter('ignore')",
    "the logging's level": "logging.disable()",
}
# One process for all: each change is looked at as of the one before.
SCRIPT = """
import builtins, json, locale, logging, os, resource, signal, socket, sys, time, warnings
from jittask_prefect.running.traces import changed, traces
locale.setlocale(locale.LC_ALL, 'C.UTF-8')
before_open = open
said = [['nothing', changed(traces())]]
for name, code in json.loads(sys.argv[1]).items():
    before = traces()
    exec(code)
    said.append([name, changed(before)])
    if name == "builtins":
        builtins.open = before_open
    sys.modules["json"] = json
before = traces()
import wave
sys.setrecursionlimit(7000)
said.append(["imported", changed(before)])
os.write(1, json.dumps(said).encode())
"""


def test_each_change_is_named_and_nothing_else_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(CHANGES)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    said = dict(map(tuple, json.loads(done.stdout)))
    assert (said.pop("nothing"), said.pop("imported")) == (None, None)
    assert said == {name: f"a run changed {name}" for name in CHANGES}
