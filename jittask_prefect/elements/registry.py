"""The model classes that the apps of this process have loaded, and the apps that own each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy.orm import class_mapper, clsregistry

from jittask_prefect.elements.models import mapper_of, tables_of

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

_OWNERS: dict[type[Any], list[tuple[App, str]]] = {}
# SQLAlchemy has no public way to do so; 2.1 gave the function an underscore.
_remove_class: Any = (
    getattr(clsregistry, "_remove_class", None) or clsregistry.remove_class  # type: ignore[attr-defined]
)
# Of a mapper: the error of its configuration; there is no public name for it.
_FAILED = "_configure_failed"
# The classes that an element's file defines; others are the team's own.
_OWN: WeakSet[type[Any]] = WeakSet()


def register(model: type[Any], app: App, name: str, *, own: bool) -> str | None:
    """Remember that a class is a model of an app. An app that was loaded anew takes the place of that of its name.

    Args:
        model: The class.
        app: The app.
        name: The model's full name.
        own: A file of the app's elements defines the class; else it is imported from the team's own package.

    Returns:
        The full name under which the app has the class already; else None.
    """
    owners = _OWNERS.get(model, [])
    known = next((each for owner, each in owners if owner is app), None)
    if known is None:
        others = [owner for owner in owners if owner[0].name != app.name]
        _OWNERS[model] = [*others, (app, name)]
    if own:
        _OWN.add(model)

    return known if known != name else None


def owners_of(model: type[Any]) -> list[tuple[App, str]]:
    """The apps that have a class, or a class that it extends, as a model, each with the model's full name."""
    return [owner for cls in model.__mro__ for owner in _OWNERS.get(cls, ())]


def name_in(app: App, model: type[Any]) -> str | None:
    """The full name of a class, or else of the nearest class that it extends, in an app; None without one."""
    owners = owners_of(model)
    return next((name for owner, name in owners if owner.name == app.name), None)


def owners_of_table(table: Any) -> list[tuple[type[Any], App, str]]:
    """The models of loaded apps whose rows a table holds a part of (several with inheritance)."""
    return [
        (model, app, name)
        for model, owners in _OWNERS.items()
        for app, name in owners
        if table in tables_of(model)
    ]


def forget_all(app: App) -> None:
    """Give back the classes of an app's models; imported classes stay as they are."""
    for model in list(_OWNERS):
        _forget(model, app)


def drop_unmappable(app: App) -> dict[str, Exception]:
    """Configure the mappers of the app's own models, and take away models that fail: they would fail the others.

    Mappers of the team's classes are configured by SQLAlchemy, at their first use: an error stays with a mapper for ever.

    Returns:
        By the full name of a model, the error of its configuration.
    """
    found: dict[str, Exception] = {}
    while True:
        own = {model: name for model, name in _models_of(app) if model in _OWN}
        try:
            for model in own:
                class_mapper(model, False).registry.configure(cascade=True)
            return found
        except Exception:  # noqa: BLE001  a lambda in a relationship may raise anything
            failed = False
            for model, name in own.items():
                mapper = class_mapper(model, False)
                if error := getattr(mapper, _FAILED, None):
                    failed, found[name] = True, error
                    manager, registry = mapper.class_manager, mapper.registry
                    _forget(model, app)
                    registry._dispose_manager_and_mapper(manager)
                    registry._managers.pop(manager, None)

            if not failed:
                return found  # a class of the team's: SQLAlchemy tells its users


def evict_tables(app: App, module: str, message: str) -> bool:
    """Make room for a table of this app's module that models of other apps have taken; whether any had.

    Classes of SQLModel share one metadata, and each table's name stands there once. The other apps keep their classes:
    rows of these are followed as before. Only an app that is loaded anew takes the place of that of its name.
    """
    stale = {
        model: owner
        for model, owners in list(_OWNERS.items())
        for owner, _ in owners
        if model in _OWN and owner is not app and _has_named_table(message, model)
    }
    # The module's own classes are half made.
    relatives = {cls for model in stale for cls in _relatives(model)}
    half_made = [cls for cls in relatives if cls.__module__ == module]
    for model, owner in stale.items():
        if owner.name == app.name:
            _forget(model, owner)
        else:
            _make_room(model)

    for cls in half_made:
        _give_back(cls)

    return bool(stale)


def _has_named_table(message: str, model: type[Any]) -> bool:
    """Whether the model's file has made a table that a message names, and the table is still in its metadata."""
    return any(
        f"'{table.key}'" in message and table.metadata.tables.get(table.key) is table
        for cls in _of_file(model)
        for table in tables_of(cls)
    )


def _models_of(app: App) -> list[tuple[type[Any], str]]:
    return [
        (model, name)
        for model, owners in list(_OWNERS.items())
        for owner, name in owners
        if owner is app
    ]


def _relatives(model: type[Any]) -> Iterator[type[Any]]:
    """The classes of a model's declarative base."""
    base = [cls for cls in model.__mro__ if hasattr(cls, "_sa_registry")]
    return _subclasses(base[-1]) if base else iter(())


def _of_file(model: type[Any]) -> list[type[Any]]:
    """A model's class, and the other mapped classes of its file: they are no elements, and have tables too."""
    beside = [cls for cls in _relatives(model) if cls.__module__ == model.__module__]
    return list(dict.fromkeys([model, *beside]))


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _forget(model: type[Any], app: App) -> None:
    owners = _OWNERS.get(model, [])
    left = [owner for owner in owners if owner[0] is not app]
    if left == owners:
        return
    if left:
        _OWNERS[model] = left
        return

    del _OWNERS[model]
    if model in _OWN:
        _make_room(model)


def _make_room(model: type[Any]) -> None:
    """Let other classes have the names of a model, of the other classes of its file, and of their tables."""
    for cls in _of_file(model):
        _give_back(cls)


def _give_back(cls: type[Any]) -> None:
    """Let other classes have the names of a class and of its table."""
    _remove_table(cls)
    _unregister(cls)


def _remove_table(model: type[Any]) -> None:
    """Take the table that a declarative class has made out of its metadata."""
    mapper = mapper_of(model)
    if mapper is None or mapper.single or not hasattr(model, "__tablename__"):
        return
    for table in tables_of(model):
        # Another app's class may have taken the name since.
        present = table.metadata.tables.get(table.key)
        if table is mapper.local_table and table is present:
            table.metadata.remove(table)


def _unregister(model: type[Any]) -> None:
    """Take a class out of the names that relationships find."""
    mapper = mapper_of(model)
    registry = mapper.registry if mapper else getattr(model, "_sa_registry", None)
    if registry is None:
        return
    present = registry._class_registry.get(model.__name__)
    # Another app's class may have taken the name since.
    if not isinstance(present, type) or present is model:
        _remove_class(model.__name__, model, registry._class_registry)
