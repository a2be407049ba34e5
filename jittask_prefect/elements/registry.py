"""The model classes that the apps of this process have loaded, and which app owns each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import class_mapper, clsregistry, configure_mappers
from sqlmodel import SQLModel

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

_MODELS: dict[type[Any], tuple[App, str]] = {}
# SQLAlchemy has no public way to do so; 2.1 gave the function an underscore.
_remove_class: Any = (
    getattr(clsregistry, "_remove_class", None) or clsregistry.remove_class  # type: ignore[attr-defined]
)
# Of a mapper: the error of its configuration; there is no public name for it.
_FAILED = "_configure_failed"
# The classes that an element's file defines; others are the team's own.
_OWN: WeakSet[type[Any]] = WeakSet()


def register(model: type[Any], app: App, name: str, *, own: bool) -> None:
    """Remember that a class is a model of an app.

    Args:
        model: The class.
        app: The app.
        name: The model's full name.
        own: A file of the app's elements defines the class; else it is imported from the team's own package.
    """
    _MODELS[model] = (app, name)
    if own:
        _OWN.add(model)


def owner_of(model: type[Any]) -> tuple[App, str] | None:
    """The app and the full name of a model class; None for a class that is no model of a loaded app."""
    for cls in model.__mro__:
        if cls in _MODELS:
            return _MODELS[cls]

    return None


def owners_of_table(table: Any) -> list[tuple[type[Any], App, str]]:
    """The models of loaded apps whose tables include a table (several with joined inheritance)."""
    return [
        (m, app, name)
        for m, (app, name) in _MODELS.items()
        if table in sa_inspect(m).tables
    ]


def forget_all(app: App) -> None:
    """Give back the classes of an app's models; imported classes stay as they are."""
    for model, (owner, _) in list(_MODELS.items()):
        if owner is app:
            _forget(model)


def drop_unmappable(app: App) -> dict[str, Exception]:
    """Configure SQLAlchemy's mappers, and take away the app's own models that fail: they would fail the others.

    Returns:
        By the full name of a model, the error of its configuration.
    """
    found: dict[str, Exception] = {}
    while True:
        try:
            configure_mappers()
            return found
        except Exception:  # noqa: BLE001  a lambda in a relationship may raise anything
            failed = False
            for model, (owner, name) in list(_MODELS.items()):
                if owner is not app or model not in _OWN:
                    continue

                mapper = class_mapper(model, False)
                if error := getattr(mapper, _FAILED, None):
                    failed, found[name] = True, error
                    manager, registry = mapper.class_manager, model._sa_registry
                    _forget(model)
                    registry._dispose_manager_and_mapper(manager)
                    registry._managers.pop(manager, None)

            if not failed:
                return found  # a class of the team's: SQLAlchemy tells its users


def evict_tables(app: App, module: str, message: str) -> bool:
    """Forget models of other apps whose table this app's module needs; whether any was forgotten."""
    others = [m for m, (owner, _) in _MODELS.items() if owner is not app and m in _OWN]
    stale = [m for m in others if f"'{m.__tablename__}'" in message]
    for model in stale:
        _forget(model)

    if stale:  # the module's own classes are half made
        for cls in list(_subclasses(SQLModel)):
            if cls.__module__ == module:
                _unregister(cls)

    return bool(stale)


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _forget(model: type[Any]) -> None:
    _MODELS.pop(model, None)
    if model not in _OWN:
        return
    table = getattr(model, "__table__", None)
    if table is not None:
        table.metadata.remove(table)
    _unregister(model)


def _unregister(model: type[Any]) -> None:
    """Take a class out of the names that relationships find."""
    registry = getattr(model, "_sa_registry", None)
    if registry is not None:
        _remove_class(model.__name__, model, registry._class_registry)
