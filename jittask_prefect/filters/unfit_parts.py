"""Parts of a condition that do not fit: aggregates, windows, functions whose answers change of themselves, times beside texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import QueryableAttribute, RelationshipProperty
from sqlalchemy.sql.elements import (
    BindParameter,
    ColumnClause,
    FunctionFilter,
    Over,
    WithinGroup,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import Select, SelectBase
from sqlalchemy.types import NullType

from jittask_prefect.filters.columns import ColumnKind, value_column
from jittask_prefect.filters.tree import MAX_SHIFT_DAYS, UNIT_DAYS, Moment
from jittask_prefect.filters.where_text import refused

_CLOCKS = {
    *("now", "current_timestamp", "current_date", "current_time", "localtime"),
    *("localtimestamp", "sysdate", "utc_timestamp", "utc_date", "curdate", "getdate"),
    *("clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday"),
}
_AGGREGATES = {
    *("count", "sum", "total", "avg", "min", "max", "median", "mode", "any_value"),
    *("group_concat", "string_agg", "array_agg", "json_agg", "jsonb_agg", "xmlagg"),
    *("json_object_agg", "jsonb_object_agg", "json_arrayagg", "json_objectagg"),
    *("json_group_array", "json_group_object", "jsonb_group_array", "every"),
    *("bool_and", "bool_or", "bit_and", "bit_or", "bit_xor", "stddev", "stddev_pop"),
    *("stddev_samp", "std", "variance", "var_pop", "var_samp", "corr", "covar_pop"),
    *("covar_samp", "percentile_cont", "percentile_disc", "grouping", "range_agg"),
}
_OF_ONE_ARGUMENT = {"min", "max"}
"""With more arguments SQLite takes these for the least and the greatest of one row."""
_WINDOWS = {
    *("row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile"),
    *("lag", "lead", "first_value", "last_value", "nth_value"),
}
_CHANGING = {
    *("random", "rand", "randomblob", "random_normal", "random_bytes", "setseed"),
    *("gen_random_bytes", "gen_random_uuid", "uuid", "uuid_short", "uuidv4", "uuidv7"),
    *("uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4", "newid"),
    *("nextval", "currval", "lastval", "setval", "next_value", "last_insert_id"),
    *("last_insert_rowid", "changes", "total_changes", "row_count", "found_rows"),
    *("connection_id", "pg_backend_pid", "txid_current", "pg_current_xact_id"),
    *("sleep", "pg_sleep", "benchmark", "get_lock", "pg_advisory_lock"),
    *("pg_try_advisory_lock", "pg_advisory_xact_lock"),
}
_DATES = (ColumnKind.DATE, ColumnKind.DATETIME)
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
OF_ONE_ROW = (
    "a condition over a single row; an aggregate or a window in a subquery: "
    "lambda: select(func.count(Other.id)).where(Other.x == {0}.y).scalar_subquery() > 3"
)
STEADY = (
    "a condition whose answer only the row, or now(…) and today(…), can change; "
    "write a random number or a counter into a column, and compare that column"
)


def refuse_changing(element: Any) -> None:
    """See that a part of a condition calls no function whose answer changes from look to look, or that does something.

    Raises:
        FilterError: The part is such a call.
    """
    for name in _names(element):
        if name in _CHANGING:
            found = f"{name}(), whose answer changes from look to look"
            raise refused(found, STEADY)


def refuse_of_many_rows(condition: Any, model: str) -> None:
    """See that a condition asks of one row: aggregates and windows stand in subqueries only, outside their WHERE.

    Args:
        condition: The condition; subqueries in it are left out.
        model: The name of the task's model, for the message.

    Raises:
        FilterError: A part of the condition asks of many rows.
    """
    for part in _outside_subqueries(condition):
        kind = _of_many_rows(part)
        if kind:
            found = f"{part}, {kind}, which cannot stand in a WHERE"
            raise refused(found, OF_ONE_ROW.format(model))


def inner_conditions(element: Any) -> Iterator[Any]:
    """The WHERE of a SELECT."""
    if isinstance(element, Select) and element.whereclause is not None:
        yield element.whereclause


def clock_note(element: FunctionElement[Any]) -> str:
    """The warning of `check` about a clock of the database; empty for other functions."""
    name = getattr(element, "name", "").lower()
    if name not in _CLOCKS:
        return ""
    return (
        f"func.{name}() is the clock of the database, in the database's zone; now() and today() of "
        "jittask_prefect are those of the task"
    )


def _outside_subqueries(element: Any) -> Iterator[Any]:
    if isinstance(element, SelectBase):
        return
    yield element
    if not _of_many_rows(element):
        for part in element.get_children():
            yield from _outside_subqueries(part)


def _of_many_rows(element: Any) -> str:
    """A part that asks many rows: an aggregate, or a window function; empty for other parts."""
    if isinstance(element, Over):
        return "a window function"
    if isinstance(element, FunctionFilter | WithinGroup):
        return "an aggregate"

    names = set(_names(element))
    if names & _WINDOWS:
        return "a window function"
    if names & _OF_ONE_ARGUMENT and len(list(element.clauses)) > 1:
        names -= _OF_ONE_ARGUMENT
    return "an aggregate" if names & _AGGREGATES else ""


def _names(element: Any) -> Iterator[str]:
    """The functions that a part of a condition calls: its own, or those of `literal_column`."""
    if isinstance(element, FunctionElement):
        yield str(getattr(element, "name", "")).lower()
    elif isinstance(element, ColumnClause) and element.is_literal:
        yield from (name.lower() for name in _CALL.findall(str(element)))


def is_relationship(attribute: QueryableAttribute[Any]) -> bool:
    """Whether an attribute is a relationship, found without configuring the mappers."""
    return isinstance(attribute.comparator, RelationshipProperty.Comparator)


def check_moment(moment: Moment, bind: BindParameter[Any]) -> None:
    """See that a moving time stands beside a date, and can be reached.

    Raises:
        FilterError: The time has no date beside it, or is too far away.
    """
    shown = str(moment).removeprefix("Q.")
    if isinstance(bind.type, NullType):
        found = f"{shown} where SQLAlchemy knows no type"
        raise refused(found, f"a comparison with a column, or cast({shown}, DateTime)")

    column = value_column(bind.type)
    if column.kind not in _DATES:
        found = f"{shown} beside a column of {type(bind.type).__name__}"
        raise refused(found, "a comparison with a date or a datetime")

    if any(type(n) is not int for _, n in moment.shift):
        raise refused(shown, "whole numbers of years, months, … and seconds")
    if sum(abs(n) * UNIT_DAYS[unit] for unit, n in moment.shift) > MAX_SHIFT_DAYS:
        raise refused(shown, "at most 1,000 years away")
