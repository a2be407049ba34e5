"""The flow file that a process has loaded, and the files of its app, by which the process knows that it is outdated."""

from __future__ import annotations

import os
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect.flows import Flow
from prefect.utilities.importtools import load_script_as_module

from jittask_prefect.elements import holiday_files
from jittask_prefect.elements.app import files_of_apps
from jittask_prefect.warm.pipe import FORK_ATTRIBUTE

_LIBRARIES = tuple(
    sysconfig.get_paths()[name]
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
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

    def prepare(self) -> None:
        """Have the flows prepare the objects that their runs share."""
        for flow in self._flows.values():
            getattr(flow, FORK_ATTRIBUTE, lambda: None)()

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
