"""What a task may leave behind in its process is seen after it, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    "the garbage collector": "gc.disable()",
    "the switch interval": "sys.setswitchinterval(0.5)",
    "sys.argv": "sys.argv.append('--more')",
}
WARNINGS = "the warnings' filters"  # a library that is imported for the first time may set these
# One process for all: each change is looked at as of the one before.
SCRIPT = """
import builtins, gc, json, locale, logging, os, resource, signal, socket, sys, time, types, warnings
from jittask_prefect.warm.process_state import changes_since, current_state
locale.setlocale(locale.LC_ALL, 'C.UTF-8')
before_open = open
changes = json.loads(sys.argv[1])
said = [['nothing', changes_since(current_state())]]
for number, (name, code) in enumerate(changes.items()):
    before = current_state()
    if sys.argv[2] == "imported":
        sys.modules[f"imported_{number}"] = types.ModuleType("imported")
    exec(code)
    said.append([name, changes_since(before)])
    if name == "builtins":
        builtins.open = before_open
    sys.modules["json"] = json
os.write(1, json.dumps(said).encode())
"""
# What installed libraries, and some of a task's, do when they are imported; after each all is put back.
IMPORTS = """
import json, logging, os, sys, warnings
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from jittask_prefect.warm.process_state import changes_since, current_state
hooks, finders = sys.excepthook, list(sys.meta_path)
said = {}
for name in ["concurrent.futures.process", "xml.etree.ElementTree", "wave", "library", "unhooks", "own", "own_finder"]:
    assert name not in sys.modules
    before = current_state()
    __import__(name)
    said[name] = changes_since(before)
    sys.excepthook, sys.meta_path[:] = hooks, finders
os.write(1, json.dumps(said).encode())
"""
FINDER = "class Finder:\n    def find_spec(self, *a):\n        return None\n"
HOOK = "import sys\n\ndef told(*a):\n    pass\n\nsys.excepthook = told\n"
ADDED = FINDER + "import sys\nsys.meta_path.append(Finder())\n"


def run(script: str, *arguments: str) -> dict[str, str | None]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_each_change_is_named_and_nothing_else_is() -> None:
    said = run(SCRIPT, json.dumps(CHANGES), "")
    assert said.pop("nothing") is None
    assert said == {name: f"a run changed {name}" for name in CHANGES}


def test_each_change_is_named_also_where_the_run_imported_a_module() -> None:
    said = run(SCRIPT, json.dumps(CHANGES), "imported")
    assert (said.pop("nothing"), said.pop(WARNINGS)) == (None, None)
    assert said == {
        name: f"a run changed {name}" for name in CHANGES if name != WARNINGS
    }


def test_what_the_import_of_a_library_sets_up_is_no_change_and_what_a_task_does_is(
    tmp_path: Path,
) -> None:
    installed, own = tmp_path / "lib" / "site-packages", tmp_path / "app"
    files = {
        installed / "library.py": HOOK
        + ADDED
        + "import warnings\nwarnings.simplefilter('ignore')\n",
        installed / "unhooks.py": "import sys\nsys.meta_path.pop()\n",
        own / "own.py": HOOK,
        own / "own_finder.py": ADDED,
    }
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert run(IMPORTS, str(installed), str(own)) == {
        "concurrent.futures.process": None,
        "xml.etree.ElementTree": None,
        "wave": None,
        "library": None,
        "unhooks": "a run changed how modules are found",
        "own": "a run changed the hooks for errors",
        "own_finder": "a run changed how modules are found",
    }
