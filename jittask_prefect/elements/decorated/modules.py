"""The modules of an app: imported as any Python code imports them, each within ten seconds, and tried again later.

The project's folder stands at the end of `sys.path`: what is installed, and what the process was started with, keeps
its names. Modules are never imported under a lock of this package: a thread that imports one of them, and asks for an
element, would wait for ever.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from time import monotonic
from types import FrameType, ModuleType

from jittask_prefect.elements.decorated.early_mappers import (
    LAMBDA,
    TooEarly,
    guarded,
)
from jittask_prefect.elements.decorated.import_errors import text_of, wrong_call
from jittask_prefect.elements.decorated.marked_source import SourceNames, names_in
from jittask_prefect.elements.project import PYPROJECT, Place
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.filters.where import SPELLINGS

SECONDS = 10.0
"""An import may take so long; afterwards it goes on in its thread, and the module counts as broken until its end."""
RETRY = 30.0
"""Seconds until a module that failed is imported again."""
_IMPORTING = "<frozen importlib._bootstrap>"
# Code that works in the main thread only, in the words of Python's own errors.
_MAIN_ONLY = ("main thread", "current event loop")
log = logging.getLogger("jittask")


@dataclass
class _Import:
    """An import in a thread of its own, so that nobody waits for its end for ever."""

    name: str
    error: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        name = f"jittask-import-{self.name}"
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.error = _import(self.name)


@dataclass(frozen=True)
class BrokenModule:
    """A module that cannot be imported now.

    Attributes:
        error: Why.
        source: The tasks that its source marks.
    """

    error: ConfigError
    source: SourceNames


class Modules:
    """The modules of an app.

    Args:
        place: The app's place.
        names: The names of the modules.
        also: The names of modules that are imported only because classes of them are named.
    """

    def __init__(
        self, place: Place, names: Iterable[str], also: Iterable[str] = ()
    ) -> None:
        self.place = place
        self.names = tuple(dict.fromkeys(names))
        self._all = tuple(dict.fromkeys([*self.names, *also]))
        self.broken: dict[str, BrokenModule] = {}
        self.version = 0
        """Grows with each change: a module was imported, or is broken in another way."""
        self.loaded = not self._all
        """Whether each module was tried."""
        self._sound: set[str] = set()
        self._imports: dict[str, _Import] = {}
        self._retry_at = 0.0
        self._turn = threading.Lock()
        _make_importable(import_folders(place, self._all))

    def load(self, *, retry: bool = True) -> None:
        """Import the modules that are not imported yet; what fails is kept in `broken`.

        Args:
            retry: Try broken modules again, where their time has come.
        """
        if self.loaded and not (self.broken and self._due(retry)):
            return

        # Code of a module that is just being imported goes on with what is there.
        if not self._turn.acquire(timeout=0 if importing_here() else SECONDS):
            return

        try:
            self._load()
        finally:
            self._turn.release()

    def _due(self, retry: bool) -> bool:
        """Whether broken modules are worth another look."""
        if any(not each.thread.is_alive() for each in self._imports.values()):
            return True
        return retry and monotonic() >= self._retry_at

    def _load(self) -> None:
        before = self.broken
        self.broken = {}
        for name in self._all:
            if name not in self._sound:
                self._take(name, before.get(name))

        if before or self.broken:
            self._retry_at = monotonic() + RETRY

        # A module in the middle of its import has marked a part of its functions only.
        self.loaded = not any(map(_half_made, self._sound))
        self.version += 1

    def _take(self, name: str, before: BrokenModule | None) -> None:
        error = self._tried(name)
        if error is None:
            self._sound.add(name)
            return

        broken = BrokenModule(self._told(name, error), self._source_names(name))
        self.broken[name] = broken
        if before is None or str(before.error) != str(broken.error):
            log.warning("%s", broken.error)

    def _tried(self, name: str) -> BaseException | None:
        """Import a module; the error where that fails, or does not end in time."""
        if importing_here() or (name in sys.modules and not _half_made(name)):
            # Python itself sees a circle within this thread.
            return _import(name)

        running = self._imports.get(name)
        patience = SECONDS if running is None else 0.0
        running = self._imports.setdefault(name, running or _Import(name))
        running.thread.join(patience)
        if running.thread.is_alive():
            return TimeoutError(f"its import has not ended within {SECONDS:g} s")

        del self._imports[name]
        wants_main = any(text in str(running.error) for text in _MAIN_ONLY)
        if wants_main and threading.current_thread() is threading.main_thread():
            return _import(name)
        return running.error

    def _told(self, name: str, error: BaseException) -> ConfigError:
        """The error of an import as a problem, with the last line of the project's files that took part."""
        missing = getattr(error, "name", None)
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(
            f"{missing}."
        ):
            folders = ", ".join(map(str, import_folders(self.place, (name,))))
            key, found = self.place.key("modules"), f"{name}, which is not there"
            allowed = f"modules that Python finds: installed, or in {folders or self.place.path}"
            return ConfigError(Problem(self.place.file, key, found, allowed))

        file, line = self._where(name, error)
        if (call := wrong_call(error)) is not None:
            argument, found, allowed = call
            place = f"{file}, line {line}" if line else file
            return ConfigError(Problem(place, argument, found, allowed))

        allowed = "a module that imports"
        if isinstance(error, TimeoutError):
            allowed += "; work of that length belongs into a function"
        elif "Boolean value of this clause" in str(error):
            allowed = f"{SPELLINGS} in conditions"
        elif isinstance(error, TooEarly):
            allowed += f"; {LAMBDA}"
        elif "partially initialized" in str(error):
            allowed += "; of two modules that import each other, one imports the other in a function"

        key = f"line {line}" if line else ""
        found = f"{name}, which fails: {text_of(error)}"
        return ConfigError(Problem(file, key, found, allowed))

    def _where(self, name: str, error: BaseException) -> tuple[str, int | None]:
        """The file and the line that an import failed in."""
        source = source_of(name)
        file, line = str(source) if source else name, None
        if isinstance(error, SyntaxError) and error.filename:
            file, line = error.filename, error.lineno
        else:
            for frame in traceback.extract_tb(error.__traceback__):
                if self._ours(frame.filename, source):
                    file, line = frame.filename, frame.lineno

        return self.short(file), line

    def _ours(self, file: str, source: Path | None) -> bool:
        path = Path(file)
        inside = path.is_relative_to(self.place.path) and "site-packages" not in file
        return inside or path == source

    def short(self, file: str) -> str:
        """A file as messages name it: relative to the project where it stands there."""
        for folder in (self.place.path, *import_folders(self.place, self._all)):
            if Path(file).is_relative_to(folder):
                return Path(file).relative_to(folder).as_posix()

        return file

    def _source_names(self, name: str) -> SourceNames:
        try:
            source = source_of(name)
            if source is None:
                return SourceNames()
            return names_in(source.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return SourceNames()

    def covers(self, module: str) -> bool:
        """Whether a module belongs to the app: it is one of the modules, or stands below one."""
        return any(f"{module}.".startswith(f"{name}.") for name in self.names)

    def imported(self) -> Iterator[ModuleType]:
        """The modules that are imported, in the order of their names in the configuration."""
        for name in self.names:
            module = sys.modules.get(name)
            if name in self._sound and module is not None:
                yield module

    def files(self) -> Iterator[Path]:
        """The source files of the modules, broken ones too."""
        for name in self._all:
            if (file := source_of(name)) is not None:
                yield file

    def doubled(self) -> Iterator[tuple[str, str, Path]]:
        """Modules that stand in the project and are imported from elsewhere: name, file, the project's file."""
        for module in self.imported():
            file = getattr(module, "__file__", None)
            place = _in_folders(module.__name__, import_folders(self.place, self.names))
            if file and place and Path(file).resolve() != place.resolve():
                yield module.__name__, file, place


def importing_here() -> bool:
    """Whether this thread is in the middle of an import."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back

    return False


def _import(name: str) -> BaseException | None:
    try:
        with guarded():
            importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  SystemExit, a skip of pytest's too
        return error

    return None


def _half_made(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


# Folders and files


def import_folders(place: Place, modules: Iterable[str]) -> list[Path]:
    """The folders that an app's modules are imported from, where they are not installed.

    A project's own folder, and its `src`. Around an app folder: the nearest project's, else the folders at and above
    app.json where a module stands.
    """
    if place.in_project:
        return [place.path, *(p for p in [place.path / "src"] if p.is_dir())]

    above = (place.path, *place.path.parents)
    project = next((p for p in above if (p / PYPROJECT).is_file()), None)
    roots = [project] if project else [place.path.parent, place.path]
    tops = {name.partition(".")[0] for name in modules}
    return [
        folder
        for root in roots
        for folder in (root, root / "src")
        if any(_stands(folder, top) for top in tops)
    ]


def _stands(folder: Path, top: str) -> bool:
    return (folder / top / "__init__.py").is_file() or (folder / f"{top}.py").is_file()


def _make_importable(folders: Iterable[Path]) -> None:
    """Put folders at the end of `sys.path`: they take nobody's names."""
    there = {Path(entry or ".").resolve() for entry in sys.path}
    new = [folder for folder in folders if folder.resolve() not in there]
    sys.path += map(str, new)
    if new:
        importlib.invalidate_caches()


def source_of(name: str) -> Path | None:
    """The source file of a module, found without importing anything; None where there is none."""
    known = getattr(sys.modules.get(name), "__file__", None)
    if known:
        return Path(known)

    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for n in range(len(rest)):
            if spec is None or spec.submodule_search_locations is None:
                return None
            below = ".".join([top, *rest[: n + 1]])
            spec = PathFinder.find_spec(below, spec.submodule_search_locations)
    except (ImportError, ValueError, AttributeError):
        return None

    return _file_of(spec)


def _in_folders(name: str, folders: list[Path]) -> Path | None:
    """The file of a module in some folders."""
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top, [str(folder) for folder in folders])
    for n in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        below = ".".join([top, *rest[: n + 1]])
        spec = PathFinder.find_spec(below, spec.submodule_search_locations)

    return _file_of(spec)


def _file_of(spec: ModuleSpec | None) -> Path | None:
    if spec is None or not spec.has_location or not spec.origin:
        return None
    return Path(spec.origin)
