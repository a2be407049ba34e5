"""The text of a condition of SQLAlchemy: every value is shown, and each process writes the same text."""

from __future__ import annotations

import enum
import json
import re
import uuid
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.engine.default import StrCompileDialect
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.compiler import StrSQLCompiler
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.types import TupleType

from jittask_prefect.errors import FilterError, Problem
from jittask_prefect.errors.printable import escape_controls
from jittask_prefect.filters.tree import Moment
from jittask_prefect.validation import quoted

MAX_BITS = 64
_MEMBERSHIPS = (operators.in_op, operators.not_in_op)


def refused(found: str, allowed: str) -> FilterError:
    """The error of a condition, on one line."""
    found = escape_controls(re.sub(r"\s*\n\s*", " ", found))
    short = found if len(found) <= 200 else found[:199] + "…"
    return FilterError(Problem("", "filter", short, allowed))


def described(given: object) -> str:
    """A value, or a class, as messages show it."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if isinstance(given, sa.ClauseElement):
        return f"a clause of type {type(given).__name__}: {given}"
    return f"{quoted(given)} of type {type(given).__name__}"


# Lists of values


def settled(condition: ColumnElement[Any]) -> ColumnElement[Any]:
    """The condition with a parameter for each value of an `in_`, sorted, so that statements can be prepared."""

    def listed(binary: BinaryExpression[Any]) -> None:
        bind = binary.right
        if binary.operator not in _MEMBERSHIPS or not isinstance(bind, BindParameter):
            return
        if not bind.expanding or bind.value is None:
            return

        members = sorted(bind.value, key=_literal)
        if members:
            binary.right = _list(bind, members).self_group(against=binary.operator)
            return

        # In an empty list is nothing: never, or always.
        never = binary.operator is operators.in_op
        binary.left = sa.literal_column("1")
        binary.right = sa.literal_column("0" if never else "1")
        binary.operator = operators.eq

    found: ColumnElement[Any] = visitors.cloned_traverse(
        condition, {}, {"binary": listed}
    )
    return found


def _list(bind: BindParameter[Any], members: list[Any]) -> Any:
    """The values of a list, each as a parameter; a value of several columns as several."""
    made: list[ColumnElement[Any]] = []
    for member in members:
        if isinstance(bind.type, TupleType):
            pairs = zip(member, bind.type.types, strict=True)
            made.append(sa.tuple_(*(sa.literal(v, of) for v, of in pairs)))
        else:
            made.append(sa.null() if member is None else sa.literal(member, bind.type))
    return sa.sql.elements.ClauseList(*made)


# The text


class _TextCompiler(StrSQLCompiler):
    """Writes each value into the SQL."""

    def visit_bindparam(self, bindparam: Any, *args: Any, **kwargs: Any) -> str:
        return _literal(bindparam.value, bindparam.type)


class TextDialect(StrCompileDialect):
    """Compiles a condition to its text."""

    statement_compiler = _TextCompiler


def _literal(value: Any, of: Any = None) -> str:
    """A value as the text of a condition shows the value, the same in each process."""
    match value:
        case None:
            return "NULL"
        case Moment():
            return str(value).removeprefix("Q.")
        case enum.Enum():
            return _quoted(value.name)
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > MAX_BITS:
            raise refused(quoted(value), "a whole number of at most 64 bits")
        case int() | float() | Decimal():
            return str(value)
        case str():
            return _quoted(value)
        case datetime() | date() | time():
            return _quoted(value.isoformat())
        case timedelta() | uuid.UUID():
            return _quoted(str(value))
        case bytes() | bytearray():
            return f"x'{value.hex()}'"
        case set() | frozenset():
            return f"[{', '.join(sorted(map(_literal, value)))}]"
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case Mapping():
            return _quoted(json.dumps(value, sort_keys=True, default=_literal))

    process = of.bind_processor(StrCompileDialect()) if of is not None else None
    if process is not None and type(found := process(value)) is not type(value):
        return _literal(found)

    found = f"{described(value)}, whose text may differ between processes"
    raise refused(found, "values of Python's own types, enums, UUIDs")


def _quoted(text: str) -> str:
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return f"e{text!r}"
