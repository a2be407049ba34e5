"""From an element's folder to its class, instance or template; each element is loaded once, at its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from jittask_prefect.elements.built_in import (
    BUILT_IN,
    NotMapped,
    refuse_unmapped,
)
from jittask_prefect.elements.calendars import Calendars
from jittask_prefect.elements.config import AppCfg, ModelCfg, machine_zone, read_task
from jittask_prefect.elements.config_texts import NAME, NAME_TEXT
from jittask_prefect.elements.databases import Databases
from jittask_prefect.elements.decorated import declared
from jittask_prefect.elements.decorated.declared import Declared
from jittask_prefect.elements.decorated.decorators import Mark
from jittask_prefect.elements.decorated.mark_names import source
from jittask_prefect.elements.decorated.module_elements import (
    ModuleElements,
    class_modules,
    told_of_arguments,
)
from jittask_prefect.elements.decorated.modules import Modules
from jittask_prefect.elements.element_classes import (
    function_of_service,
    own_type,
    service_of,
    type_of,
)
from jittask_prefect.elements.element_folders import ElementFolders
from jittask_prefect.elements.element_modules import ElementModules, error_text
from jittask_prefect.elements.import_lock import CircleError
from jittask_prefect.elements.json_files import is_file, read_json
from jittask_prefect.elements.models import model_in
from jittask_prefect.elements.original.jit_queries import give_queries
from jittask_prefect.elements.original.original_keys import names_service_function
from jittask_prefect.elements.project import Place
from jittask_prefect.elements.registry import drop_unmappable, register
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import (
    ConfigError,
    JittaskError,
    Problem,
    UnknownElement,
    invalid,
)
from jittask_prefect.schedule.calendar import CalendarCfg
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.validation import quoted, shown

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

_NAMES = f"allowed: <folder>.<Name>, each {NAME_TEXT}"


class _OfThread(threading.local):
    """The present work of a thread: the elements that it loads, and whether it loads all models."""

    def __init__(self) -> None:
        self.loading: list[str] = []
        self.loads_models = False


class Loader(ElementFolders, ElementModules, Databases, Calendars):
    """Finds and loads the elements of an app.

    Args:
        place: The app's place.
        cfg: app.json, or the table of pyproject.toml.
        calendars: The calendars that it describes.
        modules: The beginning of the names of the elements' Python modules.
    """

    builtins: ClassVar[dict[str, Callable[[], type]]] = {}

    def __init__(
        self,
        place: Place,
        cfg: AppCfg,
        calendars: Mapping[str, CalendarCfg],
        modules: str,
    ) -> None:
        ElementFolders.__init__(self, place)
        ElementModules.__init__(self, place.elements, modules)
        Databases.__init__(self, place, cfg)
        Calendars.__init__(self, place, cfg.calendar, calendars)
        self.modules = Modules(place, cfg.modules, class_modules(cfg))
        self.of_modules = ModuleElements(self.modules, cfg)
        self._declared: dict[str, Declared] = {}
        self.name = cfg.name
        self.timezone = cfg.timezone or machine_zone()
        self._elements: dict[str, Any] = {}
        self._thread = _OfThread()
        self._models_loaded = False
        self._unmappable: dict[str, ConfigError] = {}

    def names(self, folder: str) -> list[str]:
        """The full names of the elements of `tasks`, `models` or `services`, sorted, those of modules among them."""
        self.modules.load(retry=False)
        in_folders = super().names(folder)
        return sorted({*in_folders, *self.of_modules.found().names(folder)})

    def gone(self, name: str) -> bool:
        """Whether an element is known to be gone.

        What may stand in a module that cannot be imported now, or in a folder that cannot be read, is not.
        """
        self.modules.load(retry=False)
        found = self.of_modules.found()
        return found.complete and name not in found.tasks and super().gone(name)

    def is_shadowing(self, name: str) -> bool:
        """Whether an element that shadows a built-in element is being loaded: its own name means the built-in then."""
        return name in self._thread.loading and self._built_in(name) is not None

    def model_class(self, name: str) -> type[Any] | None:
        """The class of a model, for import statements; None while the model itself is being loaded."""
        with suppress(NotMapped):
            return None if name in self._thread.loading else self.getElement(name)
        return None

    def getElement(self, name: str) -> Any:
        """An element by its full name.

        Args:
            name: `<folder>.<Name>`, e.g. `tasks.DailyReport`.

        Returns:
            The class of a model or a Type, the instance of a service, the template object of a task.

        Raises:
            UnknownElement: No element has the name.
            ConfigError: The element is broken.
        """
        if not isinstance(name, str):
            raise UnknownElement(f"{quoted(name)} is no element name; {_NAMES}")

        self.modules.load(retry=False)
        if name in self._elements:
            return self._elements[name]
        if not (self._models_loaded or self._thread.loads_models):
            self.load_models()

        with self.alone(name):
            if name not in self._elements and name not in self._unmappable:
                if name in self._thread.loading:
                    return self._shadowed(name)

                self._thread.loading.append(name)
                try:
                    self._elements[name] = self._load(name)
                finally:
                    self._thread.loading.pop()

                if self._models_loaded and name.startswith("models."):
                    self._configure()

            if name in self._unmappable:
                raise self._unmappable[name]

            return self._elements[name]

    def load_models(self) -> None:
        """Load all models: relationships name them, and a mapper that misses another class fails for ever.

        Models whose relationships lead nowhere are taken away. No lock but that of each model is held meanwhile.
        """
        self._thread.loads_models = True
        complete = True
        try:
            for name in self.names("models"):
                try:
                    self.getElement(name)
                except JittaskError as error:
                    complete = complete and not isinstance(error.__cause__, CircleError)
        finally:
            self._thread.loads_models = False

        if complete:
            self._configure()
            self._models_loaded = True

    def _configure(self) -> None:
        """Take away models whose relationships lead nowhere."""
        for name, error in drop_unmappable(cast("App", self)).items():
            self._elements.pop(name, None)
            self._unmappable[name] = self.broken(name, "model", error)

    def forget(self, name: str) -> None:
        """Load a task template anew at its next use: its files have changed."""
        self._elements.pop(name, None)
        self.forget_modules(name)

    @contextmanager
    def candidate(
        self, name: str, raw: Mapping[str, Any], inner: Path | None = None
    ) -> Iterator[Meta]:
        """A task template as another e.json would make it, before anything is written.

        Args:
            name: The template's full name.
            raw: The e.json.
            inner: A file in the place of its inner.py; absent, its own inner.py.

        Raises:
            ConfigError: The e.json, the Type or the file does not work.
        """
        with self.alone(name):
            self.forget(name)
            try:
                if inner is not None:
                    self.execute(name, "inner", inner)

                yield self._load_task(name, raw, str(raw.get("type")))
            finally:
                self.forget(name)

    def _shadowed(self, name: str) -> Any:
        """The built-in element that an element shadows: its own name gives that while it loads.

        Raises:
            ConfigError: No built-in element has the name.
        """
        if (built_in := self._built_in(name)) is not None:
            return built_in
        found = f"{name}, which needs itself to load"
        raise invalid("", found, "no circle of elements")

    def _built_in(self, name: str) -> Any:
        if name in self.builtins:
            return self.builtins[name]()(self)
        return BUILT_IN.get(name)

    def _load(self, name: str) -> Any:
        folder, _, short = name.partition(".")
        if not (NAME.fullmatch(folder) and NAME.fullmatch(short)):
            raise UnknownElement(f"{quoted(name)} is no element name; {_NAMES}")

        in_modules = self.of_modules.found().get(name)
        if in_modules is not None and (folder == "tasks" or not self.is_element(name)):
            return self._load_from_modules(name, in_modules)

        where = f"{folder}/{short}/e.json"
        single = self.is_single_file(name)
        if not (single or is_file(self.folder / where)):
            if (built_in := self._built_in(name)) is not None:
                return built_in

            others = [other.partition(".")[2] for other in self.names(folder)]
            raise UnknownElement(
                f"{quoted(name)} is no element of {self.name}; "
                f"{folder} has {', '.join(others) or 'no elements'}"
            )

        if single:
            return service_of(self, name, {"type": "services.NormalType"})

        try:
            raw = read_json(self.folder / where, where)
            keys = raw if isinstance(raw, Mapping) else {}
            kind = keys.get("type")
            if not isinstance(kind, str):
                found = shown(kind) if "type" in keys else "nothing"
                allowed = "a Type's full name, like tasks.NormalType"
                raise invalid("type", found, allowed)

            if kind.endswith(".Meta"):
                return own_type(self, name, raw, kind)
            if folder == "models":
                return self._load_model(name, raw)
            if folder == "services":
                return service_of(self, name, raw)

            return self._load_task(name, raw, kind)
        except ConfigError as error:
            raise error.within(where) from None

    def _load_from_modules(
        self, name: str, found: type[Any] | Mark | ConfigError
    ) -> Any:
        """The element that a module of the app holds."""
        if isinstance(found, ConfigError):
            raise found
        if isinstance(found, type):
            return self._model_from_module(name, found)

        if self.is_element(name):
            where = source(found, self.path)
            folder = (self.folder / name.replace(".", "/")).relative_to(self.path)
            marked = getattr(found.function, "__name__", "a mark")
            function = f"{marked}, which is {name} as {folder} is"
            allowed = 'a name of its own, like name="Another"'
            raise ConfigError(Problem(where, "", function, allowed))

        return self._load_declared(name, found)

    def _model_from_module(self, name: str, model: type[Any]) -> type[Any]:
        short = name.partition(".")[2]
        at = self.cfg.models.get(short)
        try:
            self._check_database(at.database if at else None)
        except ConfigError as error:
            key = self.place.key(f"models.{short}")
            raise error.within(self.place.file, key) from None

        return self._registered(name, model)

    def _load_declared(self, name: str, mark: Mark) -> Meta:
        """The template of a decorated function."""
        names = self.of_modules.found().model_names
        found = declared.declared(mark, names, self.path)
        self._declared[name] = found
        try:
            return self._load_task(name, found.config, str(found.config["type"]))
        except ConfigError as error:
            raise told_of_arguments(error, found) from None

    def declared(self, name: str) -> Declared | None:
        """An element's values by the decorator of its function; None for an element with a folder."""
        return self._declared.get(name)

    def _load_model(self, name: str, raw: Any) -> type[Any]:
        cfg = ModelCfg.read(raw)
        if cfg.type != "models.NormalType":
            raise invalid("type", cfg.type, "models.NormalType")

        self._check_database(cfg.database)
        module = self.module(name, "model")
        refuse_unmapped(module)
        return self._registered(name, model_in(module, name.partition(".")[2]))

    def _check_database(self, database: str | None) -> None:
        if database is not None and database not in self.cfg.databases:
            known = ", ".join(sorted(self.cfg.databases)) or "none"
            allowed = f"a name of {self.place.file}'s databases: {known}"
            raise invalid("database", database, allowed)

    def _registered(self, name: str, model: type[Any]) -> type[Any]:
        """A class that is a model of this app from now on."""
        own = self.is_own(model)
        earlier = register(model, cast("App", self), name, own=own)
        if earlier is not None:
            found = f"class {model.__name__}, which is {earlier} already"
            raise invalid("model.py", found, "one model element for each class")

        if own:
            give_queries(cast("App", self), name, model)

        return model

    def _load_task(self, name: str, raw: Any, kind: str) -> Meta:
        if name in BUILT_IN:
            allowed = f"tasks.Meta: only a Type may have the name {name}"
            raise invalid("type", kind, allowed)

        raw = self.with_function(name, raw)
        type_ = type_of(self, kind, Meta, "tasks.NormalType, tasks.DateFieldType")
        cfg, timer_cfg = read_task(raw, rows=type_.rows)
        timer = Timer(timer_cfg, self.calendar_for(timer_cfg), self.timezone)
        try:
            made: Meta = type_(cast("App", self), name, raw, cfg, timer)
        except ConfigError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            found = f"{kind}, which fails: {error_text(error)}"
            raise invalid("type", found, "a Type that works") from error

        return made

    def with_function(self, name: str, raw: Any) -> Any:
        """The e.json of a task of an older JitTask: without inner.py its `taskFunc` is the function."""
        inner = self.folder / name.replace(".", "/") / "inner.py"
        if is_file(inner) or not names_service_function(raw):
            return raw
        return {**raw, "funcType": "Global"}

    def loaded_types(self, folder: str) -> list[str]:
        """The full names of a folder's own Types that have been loaded."""
        names = self.names(folder)
        return [name for name in names if isinstance(self._elements.get(name), type)]

    def service_function(self, name: str) -> Callable[..., Any]:
        """A service function.

        Args:
            name: `services.X.method`.

        Raises:
            UnknownElement: The app has no such service or method.
        """
        return function_of_service(self, name)
