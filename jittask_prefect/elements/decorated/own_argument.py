"""A mapped attribute as `timezone` or `calendar` of a decorated task: the column of each row's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper

from jittask_prefect.elements.decorated.month_days import Refuse
from jittask_prefect.elements.decorated.piece_keys import attribute_of
from jittask_prefect.filters.paths import to_one
from jittask_prefect.validation import quoted

KEYS = {"timezone": "timezoneField", "calendar": "calendarField"}
"""The keys of a timerCfg, by the argument that takes an attribute in the place of a text."""
MOST_HOPS = 3


def names_of_columns(given: Mapping[str, Any]) -> list[str]:
    """The arguments, among `timezone` and `calendar`, that name a column of the rows."""
    return [name for name in KEYS if attribute_of(given.get(name)) is not None]


def refuse_columns(given: Mapping[str, Any], refuse: Refuse) -> None:
    """Refuse the columns of a task without rows."""
    for name in names_of_columns(given):
        refuse(name, quoted(given[name]), "a text; only a task of rows takes a column")


def own_keys(
    given: Mapping[str, Any], model: type | None, refuse: Refuse
) -> dict[str, str]:
    """The keys `timezoneField` and `calendarField` of a timerCfg, each with the path of its column.

    Args:
        given: The decorator's arguments.
        model: The class of the rows; None where it is not known: then there are no keys.
        refuse: Takes the argument, the value found and the values allowed.
    """
    if model is None:
        return {}
    paths = {
        KEYS[name]: _path(name, given[name], model, refuse)
        for name in names_of_columns(given)
    }
    return {key: path for key, path in paths.items() if path is not None}


def _path(argument: str, given: object, model: type, refuse: Refuse) -> str | None:
    """The path of a mapped attribute from the class of the rows on; None, and refused, without a single path."""
    owner, name = attribute_of(given) or (object, "")
    if issubclass(model, owner):
        return name

    found = f"{owner.__name__}.{name}"
    allowed = f"an attribute of {model.__name__}, or of a class that a single relationship of it leads to"
    try:
        paths = _shortest(sa_inspect(model), owner)
    except InvalidRequestError as error:
        refuse(argument, f"{found}, and a mapping fails: {error}", allowed)
        return None
    if len(paths) == 1:
        return "__".join([*paths[0], name])

    known = ", ".join("__".join([*path, name]) for path in paths)
    reason = (
        f"which several relationships lead to: {known}"
        if paths
        else "which no relationship leads to"
    )
    refuse(argument, f"{found}, {reason}", allowed)
    return None


def _shortest(mapper: Mapper[object], owner: type) -> list[list[str]]:
    """The shortest paths of to-one relationships from a mapping to a class."""
    reached: list[tuple[list[str], Mapper[object]]] = [([], mapper)]
    for _ in range(MOST_HOPS):
        reached = [
            ([*path, name], target)
            for path, source in reached
            for name, target in _to_one(source)
        ]
        found = [path for path, target in reached if issubclass(target.class_, owner)]
        if found:
            return found
    return []


def _to_one(mapper: Mapper[object]) -> Iterator[tuple[str, Mapper[object]]]:
    for hop in mapper.relationships:
        if to_one(hop):
            yield hop.key, hop.mapper
