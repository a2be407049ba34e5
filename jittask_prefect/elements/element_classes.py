"""The classes that elements are made of: a Type, a service and its functions."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sqlmodel import SQLModel

from jittask_prefect.elements import ownership
from jittask_prefect.elements.built_in import TASK_TYPES
from jittask_prefect.elements.config import ServiceCfg, TypeCfg
from jittask_prefect.elements.config_texts import NAME
from jittask_prefect.elements.types import Meta, NormalService
from jittask_prefect.errors import ConfigError, UnknownElement, invalid
from jittask_prefect.validation import quoted

if TYPE_CHECKING:
    from jittask_prefect.elements.loader import Loader


def class_in(module: ModuleType, short: str, base: type[Any]) -> type[Any]:
    """The class of an element's name that its module defines or imports; else the only class that it defines.

    Args:
        module: The module.
        short: The element's name, without its folder.
        base: The class must derive from it.

    Raises:
        ConfigError: There is no such class.
    """
    bases = (base, SQLModel, *TASK_TYPES.values())
    classes = {
        name: cls
        for name, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, base) and cls not in bases
    }
    own = [cls for cls in classes.values() if cls.__module__ == module.__name__]
    if short in classes:
        return classes[short]
    if len(own) == 1:
        return own[0]

    file = str(module.__file__).rpartition("/")[2]
    allowed = f"class {short}, a subclass of {base.__name__}"
    raise invalid(file, ", ".join(classes) or "no such class", allowed)


def type_of(app: Loader, kind: str, base: type[Any], usual: str) -> type[Any]:
    """The Type that an e.json names.

    Args:
        app: The app.
        kind: The Type's full name.
        base: The class that the Type must derive from.
        usual: The names of the Types that every app has.

    Raises:
        ConfigError: There is no such Type, or it is broken.
    """
    try:
        found = app.getElement(kind)
    except UnknownElement:
        found = None
    except ConfigError as error:
        broken = f"{kind}, which is broken: {error}"
        raise invalid("type", broken, usual) from None

    if isinstance(found, type) and issubclass(found, base) and found is not Meta:
        return found

    own = app.loaded_types(usual.partition(".")[0])
    allowed = f"{', '.join([usual, *own])}, or a Type of the app's own"
    raise invalid("type", kind, allowed)


def own_type(app: Loader, name: str, raw: Any, kind: str) -> type[Any]:
    """A Type of the app's own.

    Args:
        app: The app.
        name: The Type's full name.
        raw: Its e.json.
        kind: The Meta that the e.json names.

    Raises:
        ConfigError: The e.json, the file or the class does not work.
    """
    TypeCfg.read(raw)
    bases: dict[str, type[Any]] = {"tasks.Meta": Meta, "services.Meta": NormalService}
    if kind not in bases:
        raise invalid("type", kind, "tasks.Meta or services.Meta")
    return class_in(app.module(name, "type"), name.partition(".")[2], bases[kind])


def service_of(app: Loader, name: str, raw: Any) -> Any:
    """The instance of a service.

    Args:
        app: The app.
        name: The service's full name.
        raw: Its e.json.

    Raises:
        ConfigError: The e.json, the file or the class does not work.
    """
    kind = ServiceCfg.read(raw).type
    base = type_of(app, kind, NormalService, "services.NormalType")
    stem = "" if app.is_single_file(name) else "service"
    service: Any = _service_class(app.module(name, stem), name.partition(".")[2])
    if not issubclass(service, base):
        # The service extends the package's own base, its Type in the app comes in between.
        attributes = {"__module__": service.__module__, "__doc__": service.__doc__}
        service = type(service.__name__, (service, base), attributes)

    built_in = app.builtins[name]() if name in app.builtins else None
    takes_app = isinstance(built_in, type) and issubclass(service, built_in)
    try:
        instance: Any = service(app) if takes_app else service()
        instance.app = app
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise app.broken(name, stem, error) from error

    return instance


def _service_class(module: ModuleType, short: str) -> type[Any]:
    """The class of a service; in JitTask's folders it need not derive from NormalService."""
    try:
        return class_in(module, short, NormalService)
    except ConfigError as error:
        classes = [each for each in vars(module).values() if isinstance(each, type)]
        own = [each for each in classes if each.__module__ == module.__name__]
        named = [each for each in own if each.__name__ == short] or own
        if len(named) != 1:
            raise error from None

        return named[0]


def function_of_service(app: Loader, name: str) -> Callable[..., Any]:
    """A service function.

    Args:
        app: The app.
        name: `services.X.method`.

    Raises:
        UnknownElement: The app has no such service or method.
    """
    parts = name.split(".")
    if len(parts) != 3 or not all(NAME.fullmatch(part) for part in parts):
        raise UnknownElement(
            f"{quoted(name)} is no service function; allowed: services.X.method"
        )

    service = app.getElement(".".join(parts[:2]))
    found: Any = ownership.method(service, parts[2], app.path)
    if found is None:
        known = ", ".join(ownership.methods(service, app.path)) or "none"
        raise UnknownElement(
            f"{parts[0]}.{parts[1]} has no function {quoted(parts[2])} that the app defines; it has {known}"
        )

    return found  # type: ignore[no-any-return]
