"""A condition of SQLAlchemy as the filter of a task: the same face as a Q expression's `Filter`.

The condition means what its SQL means on the database, NULL included. Its moving times, `now(…)` and `today(…)`, are
parameters with a value for each look. Its text shows every value, and is the same in each process: the fingerprint of the
task stands on it.

- A column belongs to the task's model. Rows of other tables are reached by a subquery, such as `Invoice.customer.has(…)`,
  within a lambda: a relationship that is used while modules are imported configures every mapper too early.
- An EXISTS names the task's model, else it would ask the same of every row.
- The columns are known, so that a save asks again where one of them changes. `text()` hides them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.exc import InvalidRequestError, SQLAlchemyError
from sqlalchemy.orm import Mapper, QueryableAttribute
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BindParameter,
    BooleanClauseList,
    ColumnClause,
    Grouping,
    TextClause,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import CTE, Exists, ScalarSelect, SelectBase

from jittask_prefect.errors import FilterError
from jittask_prefect.errors.printable import without_addresses
from jittask_prefect.filters.columns import (
    Column,
    columns,
    mapper_of,
    value_column,
)
from jittask_prefect.filters.condition import Condition
from jittask_prefect.filters.tree import Moment
from jittask_prefect.filters.unfit_parts import (
    check_moment,
    clock_note,
    inner_conditions,
    is_relationship,
    refuse_changing,
    refuse_of_many_rows,
)
from jittask_prefect.filters.values import in_column
from jittask_prefect.filters.where_text import (
    TextDialect,
    described,
    refused,
    settled,
)

MAX_VALUES = 1_000
"""Values of a condition: a statement asks the conditions of several tasks, and databases limit its parameters."""
MAX_LENGTH = 20_000
"""Characters of a condition's text."""
CONDITION = (
    "a condition of SQLAlchemy such as Invoice.paid_on.is_(None), a function without parameters that gives one, "
    "or a Q expression as text"
)
SPELLINGS = "& for and, | for or, ~ for not, each comparison in parentheses; .is_(None) and .is_not(None) for is"
_OF_JOINS = {"foreign", "remote", "local"}
"""SQLAlchemy's annotations of columns that join a relationship's tables."""


@dataclass(frozen=True, eq=False)
class Where:
    """A condition over the rows of a model; `read` makes it.

    Attributes:
        model: The mapped class.
        expression: The condition; its moving times are parameters that hold a `Moment`.
        text: The condition with its values, the same in each process.
        own_fields: The model's attributes that the condition compares, in the order of the text.
        follows_relationships: Whether a row of another table decides, too, or columns that nobody can tell.
        notes: The warnings of `check` about a condition that works.
    """

    model: type
    expression: ColumnElement[bool]
    text: str
    own_fields: tuple[str, ...]
    follows_relationships: bool
    notes: tuple[str, ...] = ()

    empty = False

    @property
    def fields(self) -> frozenset[str]:
        """The model's attributes that are compared."""
        return frozenset(self.own_fields)

    @property
    def parts(self) -> tuple[Where, ...]:
        """The parts that a row must all meet, each as a condition."""
        whole = self.expression
        joined = isinstance(whole, BooleanClauseList) and (
            whole.operator is operators.and_
        )
        clauses: list[Any] = list(whole.get_children()) if joined else [whole]
        bare = (
            each.element if isinstance(each, Grouping) else each for each in clauses
        )
        return tuple(_Reader(self.model).where(clause) for clause in bare)

    def check(self, model: type) -> None:
        """See that the condition is one over a model.

        Raises:
            FilterError: The condition is over another model.
        """
        if not issubclass(model, self.model):
            found = f"a condition over {self.model.__name__}"
            raise refused(found, f"a condition over {model.__name__}")

    def condition(
        self, model: type, now: datetime, zone: ZoneInfo
    ) -> ColumnElement[bool]:
        """The condition for `select(model).where(…)`; arguments as of `Filter.condition`."""
        return self.compiled(model, now, zone).sql

    def compiled(self, model: type, now: datetime, zone: ZoneInfo) -> Condition:
        """The condition for statements that are kept, with the moments that change; arguments as of `Filter.compiled`."""
        self.check(model)
        moments: dict[str, Callable[[datetime], Any]] = {}

        def named(bind: BindParameter[Any]) -> None:
            if isinstance(bind.value, Moment):
                value = partial(_resolved, bind.value, value_column(bind.type), zone)
                about = f"{bind.value} {bind.type!r} {zone.key}"
                digest = hashlib.sha256(about.encode()).hexdigest()
                bind.key, bind.unique = f"where_{digest[:16]}", False
                bind.value = value(now)
                moments[bind.key] = value

        sql = visitors.cloned_traverse(self.expression, {}, {"bindparam": named})
        return Condition(sql, moments)

    def columns(self, model: type) -> list[Column]:
        """The columns of the model that are compared."""
        mapped = columns(mapper_of(model))
        known = (name for name in self.own_fields if name in mapped)
        return [value_column(mapped[name].columns[0].type, name) for name in known]


def read(given: object, model: type) -> Where:
    """A condition as a user gives it.

    Args:
        given: A condition of SQLAlchemy, or a function without parameters that gives one.
        model: The mapped class that the task makes tasks of.

    Raises:
        FilterError: With the first thing that makes the condition another than the user means, or none at all.
    """
    try:
        return _read(given, model)
    except InvalidRequestError as error:
        found = f"a condition over {model.__name__}, whose mapping fails: {error}"
        allowed = "a model whose relationships lead to classes that are imported too"
        raise refused(found, allowed) from None


def _read(given: object, model: type) -> Where:
    lazy = not isinstance(given, (sa.ClauseElement, QueryableAttribute))
    if lazy and callable(given) and not isinstance(given, type):
        return _Reader(model).where(_called(given))
    return _Reader(model, at_import=True).where(given)


def _called(function: Callable[[], object]) -> object:
    try:
        return function()
    except Exception as error:
        found = f"a function that fails: {type(error).__name__}: {without_addresses(str(error))}"
        allowed = "a function without parameters that gives a condition"
        if "Boolean value of this clause" in str(error):
            allowed = SPELLINGS
        raise refused(found, allowed) from error


def _resolved(moment: Moment, column: Column, zone: ZoneInfo, now: datetime) -> Any:
    return in_column(column, moment, now, zone)


class _Reader:
    """Reads the conditions of a model.

    Args:
        model: The mapped class.
        at_import: Whether the condition was made while its module was imported.
    """

    def __init__(self, model: type, *, at_import: bool = False) -> None:
        self.model, self.name = model, model.__name__
        self.mapper: Mapper[Any] = mapper_of(model)
        self.tables = {*self.mapper.tables, self.mapper.local_table}
        self.at_import = at_import
        self.fields: list[str] = []
        self.foreign = False
        self.others: list[Any] = []
        self.notes: list[str] = []
        self.values = 0

    def where(self, given: object) -> Where:
        """The condition, read.

        Raises:
            FilterError: The condition cannot work, or says something else than its author means.
        """
        expression = settled(self._condition(given))
        refuse_of_many_rows(expression, self.name)
        self._walk(expression, depth=0)
        if self.values > MAX_VALUES:
            allowed = f"at most {MAX_VALUES:,}; more stand in a table"
            raise refused(f"{self.values:,} values", allowed)

        text = self._text(expression)
        if len(text) > MAX_LENGTH:
            found = f"{len(text):,} characters of SQL"
            raise refused(found, f"at most {MAX_LENGTH:,}")

        fields = tuple(dict.fromkeys(self.fields))
        notes = tuple(dict.fromkeys(self.notes))
        return Where(self.model, expression, text, fields, self.foreign, notes)

    def _condition(self, given: object) -> ColumnElement[Any]:
        """The given value, as a condition."""
        if isinstance(given, bool):
            found = f"{given}: Python has evaluated `is`, `not`, `and` or `or` itself"
            raise refused(found, SPELLINGS)

        if isinstance(given, QueryableAttribute):
            if is_relationship(given):
                found = f"{given}, a relationship, which is no condition"
                raise refused(
                    found, f"a lambda: where=lambda: {given}.has(…) or .any(…)"
                )
            given = given.__clause_element__()
        if isinstance(given, TextClause):
            raise refused("text(), which hides its columns", CONDITION)
        if isinstance(given, tuple | list):
            raise refused(f"a {type(given).__name__} of conditions", SPELLINGS)
        if not isinstance(given, ColumnElement):
            raise refused(described(given), CONDITION)

        boolean = isinstance(given.type, sa.Boolean)
        ordered = isinstance(given, UnaryExpression) and given.modifier is not None
        plain = isinstance(given, ColumnClause | BindParameter)
        if ordered or (plain and not boolean):
            raise refused(f"{given}, which is no condition", CONDITION)
        return given if boolean else sa.type_coerce(given, sa.Boolean())

    # What a condition is made of

    def _walk(self, element: Any, depth: int) -> bool:
        """Look at a part of the condition; whether it names a column of the model.

        Args:
            element: The part.
            depth: In how many subqueries it lies.
        """
        refuse_changing(element)
        for condition in inner_conditions(element):
            refuse_of_many_rows(condition, self.name)

        match element:
            case TextClause():
                raise refused(
                    f"text({str(element)!r}), which hides its columns", CONDITION
                )
            case BindParameter():
                self._value(element)
            case ColumnClause():
                return self._column(element, depth)
            case FunctionElement():
                self.notes += filter(None, [clock_note(element)])
            case CTE():
                allowed = "conditions, relationships, EXISTS, IN, scalar subqueries"
                raise refused(f"a {type(element).__name__}: {element}", allowed)
            case Exists():
                return self._exists(element, depth)
            case SelectBase() | ScalarSelect():
                self._subquery()
                depth += 1

        found = [self._walk(part, depth) for part in element.get_children()]
        return any(found)

    def _subquery(self) -> None:
        self.foreign = True
        self._needs_lambda()

    def _needs_lambda(self) -> None:
        """Refuse a relationship or a subquery outside a lambda."""
        if self.at_import:
            found = "a relationship or a subquery, used while the module is imported"
            allowed = f"a lambda: where=lambda: {self.name}.….has(…)"
            raise refused(found, allowed)

    def _exists(self, element: Exists, depth: int) -> bool:
        self._subquery()
        asked = len(self.others)
        names_model = any(
            [self._walk(part, depth + 1) for part in element.get_children()]
        )
        if depth == 0 and not names_model:
            allowed = f"a subquery that names {self.name}: exists().where(Other.x == {self.name}.y)"
            raise refused("an EXISTS that asks the same of every row", allowed)

        if depth == 0 and len(self.others) == asked:
            found = (
                f"an EXISTS over {self.name} alone, which asks the same of every row"
            )
            allowed = f"an alias for its rows: other = aliased({self.name})"
            raise refused(found, allowed)

        return names_model

    def _column(self, column: ColumnClause[Any], depth: int) -> bool:
        """Whether a column is the model's."""
        table = column.table
        if table is None:
            self.foreign = self.foreign or not depth  # literal_column: nobody can tell
            return False

        if table not in self.tables:
            self.foreign = True
            self.others.append(table)
            if depth == 0:
                allowed = (
                    f"columns of {self.name}; other rows by a relationship: "
                    f"lambda: {self.name}.….has(…) or .any(…)"
                )
                raise refused(
                    f"{table.description}.{column.key}, a column of another model",
                    allowed,
                )
            return False

        notes = getattr(column, "_annotations", {})
        parent = notes.get("parententity")
        if _OF_JOINS & notes.keys():
            self._needs_lambda()  # of a relationship's join, as `== None` makes
        if isinstance(parent, Mapper) and not self.mapper.isa(parent):
            found = f"{parent.class_.__name__}.{column.key}"
            raise refused(found, f"attributes of {self.name}")

        key = self._attribute(column)
        if key is None:
            self.foreign = True
        else:
            self.fields.append(key)
        return True

    def _attribute(self, column: ColumnClause[Any]) -> str | None:
        """The name of a column's attribute; None for a column that the model leaves out."""
        for key, mapped in self.mapper.column_attrs.items():
            if any(own is column or own.compare(column) for own in mapped.columns):
                return str(key)
        return None

    def _value(self, bind: BindParameter[Any]) -> None:
        self.values += 1
        if bind.callable is not None or bind.required:
            found = f"the parameter {bind.key}, whose value is not known yet"
            raise refused(found, "a value, or a time that moves: now(…), today(…)")
        if isinstance(bind.value, Moment):
            check_moment(bind.value, bind)

    def _text(self, expression: ColumnElement[Any]) -> str:
        one: ColumnElement[Any] = sa.literal_column("1")
        query = sa.select(one).select_from(self.model).where(expression)
        try:
            text = str(query.compile(dialect=TextDialect()))
        except FilterError:
            raise
        except (SQLAlchemyError, NotImplementedError) as error:
            found = f"a condition that gives no SQL: {error}"
            if "auto-correlation" in str(error):
                allowed = (
                    f"an alias for rows of the same table: other = aliased({self.name})"
                )
                raise refused(found, allowed) from error
            raise refused(found, CONDITION) from error

        return re.sub(r"\s*\n\s*", " ", text.partition("\nWHERE ")[2])
