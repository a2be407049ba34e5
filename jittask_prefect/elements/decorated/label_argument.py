"""The argument `row_label` of a decorated task: the name of a row for people."""

from __future__ import annotations

import inspect

from jittask_prefect.elements.decorated.month_days import Refuse
from jittask_prefect.elements.decorated.piece_keys import attribute_of
from jittask_prefect.elements.row_label import check_label
from jittask_prefect.errors import ConfigError
from jittask_prefect.validation import quoted

ARGUMENT = "row_label"


def label_name(given: object, model: type, refuse: Refuse) -> str | None:
    """The name of the field or method that an argument means; None, and refused, where the model has no such.

    Args:
        given: A mapped attribute, a method of the class, or a name as text.
        model: The class of the rows.
        refuse: Takes the argument, the value found and the values allowed.
    """
    name = given
    if attribute := attribute_of(given):
        name = attribute[1]
    elif inspect.isfunction(given):
        name = given.__name__
    if not isinstance(name, str):
        allowed = f'{model.__name__}.name, a method of the class, or "name"'
        refuse(ARGUMENT, quoted(given), allowed)
        return None
    try:
        check_label(model, name, ARGUMENT)
    except ConfigError as error:
        for problem in error.problems:
            refuse(ARGUMENT, problem.found, problem.allowed)
        return None
    if given is not name and not _same(given, getattr(model, name, None)):
        found = f"{quoted(given)}, which is not of {model.__name__}"
        refuse(ARGUMENT, found, f"{model.__name__}.{name}, or another of the class")
        return None
    return name


def _same(given: object, own: object) -> bool:
    """Whether an argument is the class's own attribute; an inherited one is another object with the same column."""
    mapped = attribute_of(given)
    return given is own or (mapped is not None and mapped == attribute_of(own))
