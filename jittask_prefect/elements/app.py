"""App: a folder of elements, found, loaded one by one, and checked as a whole."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, create_engine, event
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlmodel import Session, SQLModel

from ..errors import ConfigError, JittaskError, Problem, UnknownElement
from ..schedule.calendar import Calendar
from ..schedule.timer import Timer
from .config import NAME, NAME_TEXT, ModelCfg, ServiceCfg, TypeCfg, machine_zone, read_app, read_json, read_task
from .q_bind import Kind, column
from .types import DateFieldType, Meta, NormalService, NormalType

ENV_APP = "JITTASK_APP"
ENV_DATABASE = "JITTASK_DATABASE_URL"
DEFAULT = ""  # the name under which app.json's `database` is kept

_TASK_TYPES: dict[str, type[Meta]] = {"tasks.NormalType": NormalType, "tasks.DateFieldType": DateFieldType}
_MODELS: dict[type[Any], tuple[App, str]] = {}
_LOCK = threading.RLock()
_ROW_SESSION: ContextVar[RowSession | None] = ContextVar("jittask_row_session", default=None)
_LOG: ContextVar[Any] = ContextVar("jittask_log", default=None)


class Log:
    """The `log` of element code: the flow run's logger inside one, Python's own elsewhere."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_LOG.get() or logging.getLogger("jittask"), name)


class RowSession(Session):
    """The session of a row's execution: element code that commits only flushes; the execution commits."""

    def commit(self) -> None:
        """Flush; the real commit comes with the task's completion."""
        self.flush()

    def finish(self) -> None:
        """The real commit."""
        super().commit()


class App:
    """An app folder.

    Args:
        path: The folder that holds app.json, or app.json itself.

    Raises:
        ConfigError: app.json is missing or wrong. Mistakes in elements are found by `check`, or when one is used.
    """

    builtins: ClassVar[dict[str, Callable[[App], Any]]] = {}
    made: ClassVar[int] = 0

    def __init__(self, path: str | Path) -> None:
        folder = Path(path).resolve()
        self.path = folder.parent if folder.name == "app.json" else folder
        if not (self.path / "app.json").exists() and (self.path / "flows" / "app.json").exists():
            self.path = self.path / "flows"
        try:
            self.cfg, self._calendar_cfgs = read_app(read_json(self.path / "app.json", "app.json"))
        except ConfigError as error:
            raise error.within("app.json") from None
        App.made += 1
        self.name = self.cfg.name
        self.title = self.cfg.title or self.cfg.name
        self.timezone = self.cfg.timezone or machine_zone()
        self.zone = ZoneInfo(self.timezone)
        self._elements: dict[str, Any] = {}
        self._modules: dict[tuple[str, str], ModuleType] = {}
        self._engines: dict[str, Engine] = {}
        self._calendars: dict[str, Calendar] = {}
        self._row_templates: tuple[int, list[DateFieldType]] | None = None
        self._prefix = "jittask_app_" + hashlib.sha256(str(self.path).encode()).hexdigest()[:8]

    def __repr__(self) -> str:
        return f"<App {self.name} at {self.path}>"

    # Elements

    def names(self, folder: str) -> list[str]:
        """The full names of the elements in one folder (`tasks`, `models`, `services`), sorted."""
        base = self.path / folder
        if not base.is_dir():
            return []
        found = (p.name for p in base.iterdir() if (p / "e.json").is_file())
        return sorted(f"{folder}.{name}" for name in found if NAME.fullmatch(name))

    def getElement(self, name: str) -> Any:
        """An element by its full name.

        Args:
            name: `<folder>.<Name>`, e.g. `tasks.DailyReport`.

        Returns:
            The class of a model or a Type, the instance of a service, the template object of a task.

        Raises:
            UnknownElement: There is none of that name.
            ConfigError: The element is broken.
        """
        with _LOCK:
            if name not in self._elements:
                self._elements[name] = self._load(name)
            return self._elements[name]

    def templates(self) -> list[Meta]:
        """The task templates that work, by full name; broken ones are left to `check`."""
        found = []
        for name in self.names("tasks"):
            try:
                element = self.getElement(name)
            except JittaskError as error:
                logging.getLogger("jittask").debug("%s is left out: %s", name, error)
                continue
            if isinstance(element, Meta):
                found.append(element)
        return found

    def row_templates(self, model: str) -> list[DateFieldType]:
        """The date-field templates of a model; kept until a folder is added to, or taken from, `tasks`."""
        try:
            stamp = (self.path / "tasks").stat().st_mtime_ns
        except FileNotFoundError:
            return []
        with _LOCK:
            if self._row_templates is None or self._row_templates[0] != stamp:
                self._row_templates = (stamp, [t for t in self.templates() if isinstance(t, DateFieldType)])
            return [t for t in self._row_templates[1] if t.model_name == model]

    def template(self, name: str) -> Meta:
        """The task template of that full name.

        Raises:
            UnknownElement: There is no such template.
        """
        element = self.getElement(name) if name.startswith("tasks.") else None
        if not isinstance(element, Meta):
            known = ", ".join(t.fullName for t in self.templates()) or "none"
            raise UnknownElement(f"{name!r} is no task template of {self.name}; its templates are {known}")
        return element

    def types(self) -> dict[str, type[Meta]]:
        """The task Types: the built-in ones (or what shadows them) and the app's own that work."""
        found: dict[str, type[Meta]] = {}
        for name in sorted({*_TASK_TYPES, *self.names("tasks")}):
            try:
                element = self.getElement(name)
            except JittaskError as error:
                logging.getLogger("jittask").debug("%s is left out: %s", name, error)
                continue
            if isinstance(element, type) and issubclass(element, Meta):
                found[name] = element
        return found

    def _load(self, name: str) -> Any:
        folder, _, short = name.partition(".") if isinstance(name, str) else ("", "", "")
        if not (NAME.fullmatch(folder) and NAME.fullmatch(short)):
            raise UnknownElement(f"{name!r} is no element name; allowed: <folder>.<Name>, each {NAME_TEXT}")
        if not (self.path / folder / short / "e.json").is_file():
            if name in _TASK_TYPES:
                return _TASK_TYPES[name]
            if name in ("services.NormalType", "services.Meta"):
                return NormalService
            if name == "tasks.Meta":
                return Meta
            if name == "models.NormalType":
                return SQLModel
            if name in self.builtins:
                return self.builtins[name](self)
            raise UnknownElement(f"{name!r} is no element of {self.name}; {self._alike(folder)}")
        where = f"{folder}/{short}/e.json"
        try:
            raw = read_json(self.path / where, where)
            kind = raw.get("type") if isinstance(raw, Mapping) else None
            if not isinstance(kind, str):
                raise ConfigError(Problem("", "type", repr(kind), "a Type's full name, like tasks.NormalType"))
            if kind.endswith(".Meta"):
                return self._load_type(name, raw, kind)
            if folder == "models":
                return self._load_model(name, raw)
            if folder == "services":
                return self._load_service(name, raw, kind)
            return self._load_task(name, raw, kind)
        except ConfigError as error:
            raise error.within(where) from None

    def _alike(self, folder: str) -> str:
        return f"{folder} has " + (", ".join(n.partition(".")[2] for n in self.names(folder)) or "no elements")

    def _load_type(self, name: str, raw: Any, kind: str) -> type[Any]:
        TypeCfg.read(raw)
        base: type[Any] = {"tasks.Meta": Meta, "services.Meta": NormalService}.get(kind, object)
        if base is object:
            raise ConfigError(Problem("", "type", kind, "tasks.Meta or services.Meta"))
        return self._class(name, "type", base)

    def _load_model(self, name: str, raw: Any) -> type[SQLModel]:
        cfg = ModelCfg.read(raw)
        if cfg.type != "models.NormalType":
            raise ConfigError(Problem("", "type", cfg.type, "models.NormalType"))
        if cfg.database is not None and cfg.database not in self.cfg.databases:
            known = ", ".join(sorted(self.cfg.databases)) or "none"
            raise ConfigError(Problem("", "database", cfg.database, f"a name of app.json's databases: {known}"))
        found = self._class(name, "model", SQLModel)
        if sa_inspect(found, raiseerr=False) is None:
            raise ConfigError(Problem("", "model.py", f"class {found.__name__}", "a class with table=True"))
        _MODELS[found] = (self, name)
        return found

    def _load_service(self, name: str, raw: Any, kind: str) -> Any:
        ServiceCfg.read(raw)
        base = self._type(kind, NormalService, "services.NormalType")
        instance = self._class(name, "service", base)()
        instance.app = self
        return instance

    def _load_task(self, name: str, raw: Any, kind: str) -> Meta:
        type_ = self._type(kind, Meta, "tasks.NormalType, tasks.DateFieldType")
        cfg, timer_cfg = read_task(raw, rows=type_.rows)
        timer = Timer(
            timer_cfg, self.calendar(timer_cfg.calendar or self.cfg.calendar), timer_cfg.timezone or self.timezone
        )
        made: Meta = type_(self, name, raw, cfg, timer)
        return made

    def _type(self, kind: str, base: type[Any], usual: str) -> type[Any]:
        try:
            found = self.getElement(kind)
        except UnknownElement:
            found = None
        except ConfigError as error:
            raise ConfigError(Problem("", "type", f"{kind}, which is broken: {error}", usual)) from None
        if not (isinstance(found, type) and issubclass(found, base)) or found is Meta:
            raise ConfigError(Problem("", "type", kind, f"{usual}, or a Type of the app's own"))
        return found

    def _class(self, name: str, stem: str, base: type[Any]) -> type[Any]:
        """The class that an element's module defines or imports: the one of the element's name, else the only one."""
        short = name.partition(".")[2]
        module = self.module(name, stem)
        classes = {
            n: c
            for n, c in vars(module).items()
            if isinstance(c, type) and issubclass(c, base) and c not in (base, SQLModel, *_TASK_TYPES.values())
        }
        own = [c for c in classes.values() if c.__module__ == module.__name__]
        found = classes.get(short) or (own[0] if len(own) == 1 else None)
        if found is None:
            has = ", ".join(classes) or "no such class"
            allowed = f"class {short}, a subclass of {base.__name__}"
            raise ConfigError(Problem("", f"{stem}.py", has, allowed))
        return found

    def module(self, name: str, stem: str) -> ModuleType:
        """The Python file of an element, loaded once; the names `app` and `log` are there without an import.

        Raises:
            ConfigError: The file is missing, or does not import.
        """
        with _LOCK:
            if (name, stem) not in self._modules:
                self._modules[name, stem] = self._exec(name, stem)
            return self._modules[name, stem]

    def _exec(self, name: str, stem: str) -> ModuleType:
        file = self.path / name.replace(".", "/") / f"{stem}.py"
        if not file.is_file():
            raise ConfigError(Problem("", f"{stem}.py", "no such file", "a Python file beside e.json"))
        known = f"{self._prefix}.{name}.{stem}"
        for attempt in (1, 2):
            spec = importlib.util.spec_from_file_location(known, file)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            vars(module).update(app=self, log=Log())
            sys.modules[known] = module
            try:
                spec.loader.exec_module(module)
                return module
            except InvalidRequestError as error:
                sys.modules.pop(known, None)
                if attempt == 2 or not _evict_tables(self, str(error)):
                    raise ConfigError(
                        Problem("", f"{stem}.py", f"{type(error).__name__}: {error}", "a module that imports")
                    ) from error
            except (Exception, SystemExit) as error:
                sys.modules.pop(known, None)
                raise ConfigError(
                    Problem("", f"{stem}.py", f"{type(error).__name__}: {error}", "a module that imports")
                ) from error
        raise AssertionError("unreachable")

    def service_function(self, name: str) -> Callable[..., Any]:
        """A service function.

        Args:
            name: `services.X.method`.

        Raises:
            UnknownElement: There is no such service or method.
        """
        parts = name.split(".")
        if len(parts) != 3 or not all(NAME.fullmatch(part) for part in parts):
            raise UnknownElement(f"{name!r} is no service function; allowed: services.X.method")
        service = self.getElement(".".join(parts[:2]))
        found = None if parts[2].startswith("_") else getattr(service, parts[2], None)
        if not callable(found):
            known = ", ".join(
                n for n in dir(type(service)) if not n.startswith("_") and callable(getattr(service, n, None))
            )
            raise UnknownElement(f"{parts[0]}.{parts[1]} has no function {parts[2]!r}; it has {known or 'none'}")
        return found  # type: ignore[no-any-return]

    # Calendars

    def calendar(self, name: str | None) -> Calendar | None:
        """A calendar by its name in app.json, or by a country code.

        Raises:
            ConfigError: There is neither.
        """
        if name is None:
            return None
        with _LOCK:
            if name not in self._calendars:
                if name in self._calendar_cfgs:
                    self._calendars[name] = Calendar(self._calendar_cfgs[name])
                else:
                    try:
                        self._calendars[name] = Calendar.of(name)  # type: ignore[assignment]
                    except ConfigError:
                        known = ", ".join(sorted(self._calendar_cfgs)) or "none"
                        raise ConfigError(
                            Problem(
                                "",
                                "timerCfg.calendar",
                                repr(name),
                                f"a calendar of app.json ({known}) or a country code",
                            )
                        ) from None
            return self._calendars[name]

    # Databases

    def database_url(self, database: str = DEFAULT) -> str:
        """The SQLAlchemy URL of a database of the app; the default one where no name is given."""
        text = (
            os.environ.get(ENV_DATABASE) or self.cfg.database if database == DEFAULT else self.cfg.databases[database]
        )
        try:
            url = make_url(text)
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            raise ConfigError(Problem("app.json", "database", repr(text), f"a database URL ({error})")) from None
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
            url = url.set(database=str((self.path / str(url.database)).resolve()))
        return url.render_as_string(hide_password=False)

    def databases(self) -> list[str]:
        """The names of the app's databases, the default one first."""
        return [DEFAULT, *sorted(self.cfg.databases)]

    def engine(self, database: str = DEFAULT) -> Engine:
        """The engine of a database of the app, made once."""
        with _LOCK:
            if database not in self._engines:
                url = self.database_url(database)
                lite = url.startswith("sqlite")
                engine = create_engine(url, connect_args={"timeout": 30} if lite else {}, pool_pre_ping=not lite)
                if lite:
                    event.listen(engine, "connect", _wal)
                self._engines[database] = engine
            return self._engines[database]

    @contextmanager
    def session(self, database: str = DEFAULT) -> Iterator[Session]:
        """A database session; inside a row task, the row's own (then `commit` waits for the task's completion)."""
        current = _ROW_SESSION.get()
        if current is not None and current.get_bind() is self.engine(database):
            yield current
            return
        with Session(self.engine(database)) as session:
            yield session

    def models(self) -> dict[str, type[SQLModel]]:
        """The models that load, by full name."""
        found = {}
        for name in self.names("models"):
            try:
                element = self.getElement(name)
            except JittaskError as error:
                logging.getLogger("jittask").debug("%s is left out: %s", name, error)
                continue
            found[name] = element
        return found

    def database_of(self, model: str) -> str:
        """The name of the database that holds a model's table."""
        where = f"{model.replace('.', '/')}/e.json"
        return ModelCfg.read(read_json(self.path / where, where)).database or DEFAULT

    def close(self) -> None:
        """Give back what the app holds: connections and the classes of its models."""
        with _LOCK:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
            for model, (owner, _) in list(_MODELS.items()):
                if owner is self:
                    _forget(model)

    # Check

    def check(self) -> list[Problem]:
        """Every mistake of every file, without touching a database or a server."""
        problems: list[Problem] = []
        for calendar in dict.fromkeys([self.cfg.calendar, *self._calendar_cfgs]):
            try:
                self.calendar(calendar)
            except ConfigError as error:
                problems.extend(Problem("app.json", "calendar", p.found, p.allowed) for p in error.problems)
        for folder in sorted(p.name for p in self.path.iterdir() if p.is_dir() and NAME.fullmatch(p.name)):
            for element in sorted((self.path / folder).iterdir()):
                if not (element / "e.json").is_file():
                    continue
                where = f"{folder}/{element.name}/e.json"
                if not NAME.fullmatch(element.name):
                    problems.append(Problem(where, "folder name", element.name, NAME_TEXT))
                    continue
                try:
                    self._check_element(self.getElement(f"{folder}.{element.name}"))
                except ConfigError as error:
                    problems.extend(error.within(where).problems)
        return problems

    def warnings(self, now: datetime, templates: list[Meta] | None = None) -> list[str]:
        """What works but should be known: a zone that nobody named, holidays that are guessed.

        Args:
            now: The present instant.
            templates: Only what concerns these.
        """
        found = []
        if self.cfg.timezone is None and templates is None:
            found.append(f"app.json: no timezone; the machine's is used: {self.timezone}")
        for template in self.templates() if templates is None else templates:
            calendar = template.timer.calendar
            until = calendar.reliable_until if calendar and template.timer.cfg.skip_holiday else None
            if until is not None and calendar is not None and until < (now + timedelta(days=400)).date():
                known = f"holidays of {calendar.label} are published until {until}"
                found.append(f"{template.fullName}: {known}; what lies beyond is a forecast")
        return found

    def _check_element(self, element: Any) -> None:
        if not isinstance(element, Meta):
            return
        problems: list[Problem] = []
        try:
            element.check_function()
        except ConfigError as error:
            problems.extend(error.problems)
        if isinstance(element, DateFieldType):
            try:
                check_rows(element)
            except ConfigError as error:
                problems.extend(error.problems)
        if problems:
            raise ConfigError(problems)


def check_rows(template: DateFieldType) -> None:
    """Whether a date-field template's model, fields and filter exist and fit.

    Raises:
        ConfigError: With every problem.
    """
    try:
        model = template.model
    except UnknownElement as error:
        raise ConfigError(Problem("", "modelPath", template.model_name, str(error))) from None
    except ConfigError as error:
        raise ConfigError(
            Problem("", "modelPath", f"{template.model_name}, which is broken: {error}", "a model that loads")
        ) from None
    problems = []
    kinds = {name: column(model, name).kind for name in sa_inspect(model).column_attrs.keys()}  # noqa: SIM118  no dict
    dates = [name for name, kind in kinds.items() if kind in (Kind.DATE, Kind.DATETIME)]
    cfg = template.timer.cfg
    for key, field in (("startField", cfg.start_field), ("endField", cfg.end_field)):
        if field is not None and field not in dates:
            found = f"{field}, which is no date" if field in kinds else str(field)
            allowed = ", ".join(dates) or "a model with a date or datetime column"
            problems.append(
                Problem("", f"timerCfg.{key}", found, f"a date or datetime column of {template.model_name}: {allowed}")
            )
    try:
        template.filter.check(model)
    except ConfigError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)


def owner_of(model: type[Any]) -> tuple[App, str] | None:
    """The app and the full name of a model class; None for a class that is no model of a loaded app."""
    for cls in model.__mro__:
        if cls in _MODELS:
            return _MODELS[cls]
    return None


def find_app() -> Path:
    """The folder of the app that `JITTASK_APP`, or the nearest app.json, names.

    Raises:
        ConfigError: There is none.
    """
    named = os.environ.get(ENV_APP)
    if named:
        return Path(named).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        for candidate in (folder, folder / "flows"):
            if (candidate / "app.json").is_file():
                return candidate
    raise ConfigError(
        Problem(
            "app.json",
            "",
            f"none in {here} or above",
            f"an app folder; {ENV_APP} points at one, `jittask init DIR` makes one",
        )
    )


_APPS: dict[Path, App] = {}


def current_app() -> App:
    """The app that `find_app` names, loaded once for each folder.

    Raises:
        ConfigError: There is none, or its app.json is wrong.
    """
    path = find_app()
    with _LOCK:
        if path not in _APPS:
            _APPS[path] = App(path)
        return _APPS[path]


def use_app(app: App) -> None:
    """Make an app that is already loaded the one that `current_app` gives for its folder."""
    _APPS[app.path] = app


def _wal(connection: Any, _record: Any) -> None:
    """SQLite: readers do not block the writer, and the writer waits instead of failing."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=30000")


def _evict_tables(app: App, message: str) -> bool:
    """Forget models of other apps whose table stands in the way of this app's; whether any was."""
    stale = [m for m, (owner, _) in _MODELS.items() if owner is not app and f"'{m.__tablename__}'" in message]
    for model in stale:
        _forget(model)
    return bool(stale)


def _forget(model: type[Any]) -> None:
    _MODELS.pop(model, None)
    table = getattr(model, "__table__", None)
    if table is not None:
        table.metadata.remove(table)
    registry = getattr(model, "_sa_registry", None)
    if registry is not None:
        registry._class_registry.pop(model.__name__, None)
