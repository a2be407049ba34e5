"""Whose a model class is: the classes that the apps of this process have loaded."""

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
_FAILED = "_configure_failed"  # of a mapper: why it could not be configured; there is no public name for it
_OWN: WeakSet[type[Any]] = (
    WeakSet()
)  # those that an element's file defines; others are the team's own


def register(model: type[Any], app: App, name: str, *, own: bool) -> None:
    """Remember that a class is a model of an app.

    Args:
        model: The class.
        app: The app.
        name: The model's full name.
        own: A file of the app's elements defines it; else it is imported from the team's own package.
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
    """The models of loaded apps that have a table for theirs, or as one of theirs (joined inheritance)."""
    return [
        (m, app, name)
        for m, (app, name) in _MODELS.items()
        if table in sa_inspect(m).tables
    ]


def forget_all(app: App) -> None:
    """Give back the classes of an app's models; those that it only imports stay as they are."""
    for model, (owner, _) in list(_MODELS.items()):
        if owner is app:
            _forget(model)


def drop_unmappable(app: App) -> dict[str, Exception]:
    """Configure SQLAlchemy's mappers, and take away the app's own models that fail: they would fail the others.

    Returns:
        By the full name of the model, why it cannot be configured.
    """
    found: dict[str, Exception] = {}
    while True:
        try:
            configure_mappers()
            return found
        except Exception:  # noqa: BLE001  a lambda in a relationship may raise anything
            own = [
                (m, name)
                for m, (owner, name) in _MODELS.items()
                if owner is app and m in _OWN
            ]
            failed = {
                m: (name, why)
                for m, name in own
                if (why := getattr(class_mapper(m, False), _FAILED, None))
            }
            if not failed:
                return found  # a class of the team's: whoever uses it is told by SQLAlchemy
            for model, (name, why) in failed.items():
                found[name] = why
                manager, registry = (
                    class_mapper(model, False).class_manager,
                    model._sa_registry,
                )
                _forget(model)
                registry._dispose_manager_and_mapper(manager)
                registry._managers.pop(manager, None)


def evict_tables(app: App, module: str, message: str) -> bool:
    """Forget models of other apps whose table stands in the way of this app's; whether any was."""
    others = [m for m, (owner, _) in _MODELS.items() if owner is not app and m in _OWN]
    stale = [m for m in others if f"'{m.__tablename__}'" in message]
    for model in stale:
        _forget(model)
    if stale:  # the module's own classes are half made
        for cls in [c for c in _subclasses(SQLModel) if c.__module__ == module]:
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
    """Take a class out of what relationships find by name."""
    registry = getattr(model, "_sa_registry", None)
    if registry is not None:
        _remove_class(model.__name__, model, registry._class_registry)
