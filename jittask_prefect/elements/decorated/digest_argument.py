"""The argument `digest` of a decorated task: which rows its function gets together."""

from __future__ import annotations

from collections.abc import Mapping

from jittask_prefect.elements.decorated.month_days import Keys, Refuse
from jittask_prefect.elements.decorated.piece_keys import attribute_of
from jittask_prefect.validation import quoted


def digest_key(given: object, model: type, refuse: Refuse) -> Keys:
    """The key `digest` that says the same; empty where the argument says nothing, or is refused.

    Args:
        given: A mapped attribute, a path as text, True or an empty object for all rows.
        model: The class of the rows.
        refuse: Takes the argument, the value found and the values allowed.
    """
    if given is None or given is False:
        return {}
    if given is True or isinstance(given, Mapping):
        return {"digest": {} if given is True else dict(given)}
    if isinstance(given, str):
        return {"digest": {"by": given}}
    attribute = attribute_of(given)
    if attribute is None:
        allowed = f'{model.__name__}.owner_id, "customer__owner_id", or True for all'
        refuse("digest", quoted(given), allowed)
        return {}
    owner, name = attribute
    if not issubclass(model, owner) and not issubclass(owner, model):
        found = f"{owner.__name__}.{name}, which is not of {model.__name__}"
        refuse("digest", found, f"an attribute of {model.__name__}, or a path as text")
        return {}
    return {"digest": {"by": name}}
