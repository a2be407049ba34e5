"""`Q(…)` in Python code: an object whose text is the Q expression, so that one parser reads both."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from jittask_prefect.filters.tree import Moment, refuse

_VALUES = (
    "texts, numbers, True, False, None, dates, Q.today(…), Q.now(…), or lists of them"
)


class Q:
    """A Q expression.

    Args:
        parts: `'field', 'operator', value`; or expressions with `Q.AND` or `Q.OR` between each two.
        fields: `field=value` and `field__operator=value`; all of them.

    Raises:
        FilterError: A value cannot stand in a Q expression. Fields and operators are read where the filter is used.
    """

    AND = "Q.AND"
    OR = "Q.OR"

    def __init__(self, *parts: Any, **fields: Any) -> None:
        if parts and isinstance(parts[0], str) and parts[0] not in (self.AND, self.OR):
            texts = [_text(part) for part in parts]
        else:
            connectives = (self.AND, self.OR)
            texts = [
                part if part in connectives else str(part)
                for part in map(_known, parts)
            ]

        texts += [f"{name}={_text(value)}" for name, value in fields.items()]
        self._text = f"Q({', '.join(texts)})"

    @staticmethod
    def today(**shift: int) -> Moment:
        """00:00 of today in the task's zone, shifted: `Q.today(days=-3)`."""
        return Moment("today", tuple(shift.items()))

    @staticmethod
    def now(**shift: int) -> Moment:
        """The instant of the use, shifted: `Q.now(hours=2)`."""
        return Moment("now", tuple(shift.items()))

    def __and__(self, other: Q) -> Q:
        return _joined(self, "&", other)

    def __or__(self, other: Q) -> Q:
        return _joined(self, "|", other)

    def __invert__(self) -> Q:
        return _of(f"~({self})" if " " in str(self) else f"~{self}")

    def __bool__(self) -> bool:
        raise refuse("and, or, not with Q(…)", "& for and, | for or, ~ for not")

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__


def _of(text: str) -> Q:
    made = Q.__new__(Q)
    made._text = text
    return made


def _joined(left: Q, sign: str, right: Q) -> Q:
    return _of(f"({left}) {sign} ({right})")


def _known(part: Any) -> Any:
    if isinstance(part, Q) or part in (Q.AND, Q.OR):
        return part
    raise refuse(
        f"Q({part!r})", "Q('field', 'operator', value), or Q(Q(…), Q.AND, Q(…))"
    )


def _text(value: Any) -> str:
    """A value as it is written in an expression."""
    plain = getattr(value, "value", value)  # a field, or a member of an enum
    if isinstance(value, Enum):
        plain = value.name
    if isinstance(plain, datetime):
        return repr(f"{plain:%Y-%m-%d %H:%M:%S}")
    if isinstance(plain, date):
        return repr(plain.isoformat())
    if isinstance(plain, Moment):
        return str(plain)
    if isinstance(plain, Decimal):
        return repr(str(plain))
    if plain is None or isinstance(plain, str | int | float):
        return repr(plain)
    if isinstance(plain, Iterable):
        return f"[{', '.join(map(_text, plain))}]"

    raise refuse(f"a value of type {type(plain).__name__}", _VALUES)
