"""Models: classes that SQLAlchemy maps to a table, whatever the form of the mapping."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sqlalchemy import Table
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import set_committed_value

from jittask_prefect.errors import invalid

MAPPED = (
    "a class that SQLAlchemy maps: SQLModel with table=True, a declarative or dataclass model, "
    "or a class mapped with map_imperatively()"
)

INSTEAD_OF_CONCRETE = (
    "single-table or joined inheritance, or a mapping without inheritance"
)


def mapper_of(cls: object) -> Mapper[Any] | None:
    """The mapper of a class; None for a class without a mapping of its own."""
    found = sa_inspect(cls, raiseerr=False) if isinstance(cls, type) else None
    return found if isinstance(found, Mapper) else None


def is_model(cls: object) -> bool:
    """Whether a class can be a model: mapped, and without concrete inheritance."""
    return mapper_of(cls) is not None and not is_concrete(cls)


def is_concrete(cls: object) -> bool:
    """Whether a class is mapped with concrete inheritance: equal keys stand in several tables."""
    mapper = mapper_of(cls)
    family = mapper.base_mapper.self_and_descendants if mapper is not None else ()
    return any(each.concrete for each in family)


def model_in(module: ModuleType, short: str) -> type[Any]:
    """The model that a file defines or imports: the class of that name, else the only mapped class.

    Args:
        module: The file's module.
        short: The element's name without its folder.

    Raises:
        ConfigError: The file has no such class, or the class cannot be a model.
    """
    classes = {n: c for n, c in vars(module).items() if isinstance(c, type)}
    mapped = {n: c for n, c in classes.items() if mapper_of(c) is not None}
    defined = [n for n, c in classes.items() if c.__module__ == module.__name__]
    own = [c for c in mapped.values() if c.__module__ == module.__name__]
    imported = list(dict.fromkeys(mapped.values()))

    found = classes.get(short)
    if found is None:
        found = next((some[0] for some in (own, imported) if len(some) == 1), None)
    if found is None:
        listed = ", ".join(mapped or defined) or "no class"
        allowed = f"class {short}, {MAPPED}"
        raise invalid("model.py", listed, allowed)

    _refuse(found)
    return found


def _refuse(cls: type[Any]) -> None:
    """Refuse a class that cannot be a model.

    Raises:
        ConfigError: The reason.
    """
    mapper, named = mapper_of(cls), f"class {cls.__name__}"
    if mapper is None and vars(cls).get("__abstract__"):
        found = f"{named}, an abstract base, which has no table"
        raise invalid("model.py", found, "a class with a table, derived from the base")
    if mapper is None:
        found = f"{named}, which SQLAlchemy does not map"
        raise invalid("model.py", found, MAPPED)
    if is_concrete(cls):
        found = f"{named}, mapped with concrete inheritance: equal keys stand in several tables"
        raise invalid("model.py", found, INSTEAD_OF_CONCRETE)


def tables_of(cls: type[Any]) -> list[Table]:
    """The tables that hold a model's rows, a joined base's first; none for a view or a subquery."""
    mapper = mapper_of(cls)
    if mapper is None or not isinstance(mapper.local_table, Table):
        return []
    tables = (table for table in mapper.tables if isinstance(table, Table))
    return [table for table in tables if not is_view(table)]


def is_view(table: Table) -> bool:
    """Whether a table is known to be a view: SQLAlchemy's CreateView, or `info={"is_view": True}`."""
    return bool(getattr(table, "is_view", False) or table.info.get("is_view"))


def new_row(cls: type[Any], values: dict[str, Any]) -> Any:
    """An instance with some values, as if loaded: no `__init__`, default or validator of the class takes part."""
    mapper = mapper_of(cls)
    assert mapper is not None
    row = mapper.class_manager.new_instance()
    for name, value in values.items():
        set_committed_value(row, name, value)
    return row
