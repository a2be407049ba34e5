"""A part of a filter as a user may write it."""

from __future__ import annotations

from datetime import date

from jittask_prefect.filters.expression import And, Filter, Node, Not, Or, Test
from jittask_prefect.filters.where import Where


def filter_text(node: Node) -> str:
    """The Q expression of a part of a filter."""
    match node:
        case Test(path, operator, value):
            values = value if isinstance(value, tuple) else (value,)
            shown = ", ".join(map(_literal, values))
            if isinstance(value, tuple):
                shown = f"[{shown}]"
            return f"Q('{'__'.join(path)}', '{operator}', {shown})"
        case Not(part):
            text = filter_text(part)
            return f"~{text}" if isinstance(part, Test) else f"~({text})"
        case And(parts) | Or(parts):
            sign = " & " if isinstance(node, And) else " | "
            return sign.join(map(_nested, parts))
    raise TypeError(node)


def unmet_text(part: Filter | Where, values: dict[str, object]) -> str:
    """A part of a filter that a row does not meet, with the row's own values.

    Args:
        part: The part.
        values: The row's values by field.
    """
    has = " and ".join(f"`{name}` is {_value(found)}" for name, found in values.items())
    text = part.text if isinstance(part, Where) else filter_text(part.tree)
    return text + (f", but {has}" if has else "")


def _nested(node: Node) -> str:
    text = filter_text(node)
    return f"({text})" if isinstance(node, (And, Or)) else text


def _literal(value: object) -> str:
    plain = value is None or isinstance(value, (str, int, float))
    return repr(value) if plain else str(value)


def _value(value: object) -> str:
    if value is None:
        return "empty"
    return str(value) if isinstance(value, date) else repr(value)
