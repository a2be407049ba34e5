"""The index that a sync's query of a table needs, and the statement that makes the missing index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, text
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, Executable, Select

from jittask_prefect.elements.models import tables_of
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.rows import dialects
from jittask_prefect.rows.row_reading import row_columns
from jittask_prefect.rows.scan import Scan

DAY = timedelta(1)
LONGEST_INDEXED = 255
"""Characters of a column that MariaDB indexes whole, beside a date."""
WITHOUT_LIMIT = ("sqlite", "postgresql")


def missing(
    connection: Connection, template: DateFieldType, now: datetime
) -> str | None:
    """The statement that makes the index by which a template's rows are found; None with such an index, or without use.

    Args:
        connection: To the database of the template's rows.
        template: A date-field template.
        now: The present instant.
    """
    dialect = connection.dialect.name
    scan = Scan(template, now, dialect)
    column = sa_inspect(scan.model).attrs[scan.start.key].columns[0]
    if column.table not in tables_of(template.model):
        return None  # a view or a subquery
    reach = template.timer.reach(now, now + DAY)
    if reach.spans and all(low and high for low, high in reach.spans):
        if not _leads(connection, column):
            own = _own(template, column, dialect)
            return _statement(connection, column, (column, *own), "")
        if not reach.others:
            return None
    if dialect not in ("sqlite", "postgresql"):
        return None  # MariaDB takes an expression's index from 11.8 on, and then only by a column made for it
    for days in range(400):
        at = now + days * DAY
        parts = template.timer.reach(at, at + DAY).parts
        asked = next((part.days for part in parts if part.days), None)
        if asked is None:
            continue
        condition = scan.condition((at, at + DAY))
        if condition is None or _finds_days(connection, scan.query(condition)):
            return None
        month, number = (any(day[part] for day in asked) for part in (0, 1))
        by_day = dialects.day_of(
            column, scan.start, dialect, month=month, number=number
        )
        suffix = "_month_day" if month and number else "_day"
        return _statement(connection, column, (by_day,), suffix)
    return None


def _leads(connection: Connection, column: Column[Any]) -> bool:
    """Whether some index begins with the column."""
    table, there = column.table, sa_inspect(connection)
    of: dict[str, Any] = {"table_name": table.name, "schema": table.schema}
    lists: list[Any] = [index["column_names"] for index in there.get_indexes(**of)]
    lists += [unique["column_names"] for unique in there.get_unique_constraints(**of)]
    lists.append(list(there.get_pk_constraint(**of)["constrained_columns"]))
    return any(columns and columns[0] == column.name for columns in lists)


def _finds_days(connection: Connection, query: Select[Any]) -> bool:
    """Whether the database would look days of the year up in a suitable index."""
    if connection.dialect.name == "sqlite":
        plan = connection.execute(_Explain(query, "EXPLAIN QUERY PLAN ")).all()
        return any("<expr>" in str(step[-1]) for step in plan)
    with connection.begin_nested() as savepoint:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.execute(_Explain(query, "EXPLAIN ")).all()
        savepoint.rollback()
    steps = [str(step[0]) for step in plan]
    return any("Cond:" in step and "date_part" in step for step in steps)


def _own(
    template: DateFieldType, column: Column[Any], dialect: str
) -> Iterator[Column[Any]]:
    """The columns of a row's own zone and calendar beside its date: the sync asks which of their values occur.

    Only columns that every database can index as they are: of the same table, and short.
    """
    attributes = sa_inspect(template.model).attrs
    for _, own in row_columns(template).own:
        if own.hops:
            continue
        found = attributes[own.key].columns[0]
        length = getattr(found.type, "length", None)
        short = length is not None and length <= LONGEST_INDEXED
        if found.table is column.table and (short or dialect in WITHOUT_LIMIT):
            yield found


def _statement(
    connection: Connection,
    column: Column[Any],
    expressions: Sequence[Any],
    suffix: str,
) -> str:
    dialect, names = connection.dialect, connection.dialect.identifier_preparer
    how = {"include_table": False, "literal_binds": True}
    by = [
        str(each.compile(dialect=dialect, compile_kwargs=how)) for each in expressions
    ]
    further = "".join(f"_{each.name}" for each in expressions[1:])
    name = names.quote(f"ix_{column.table.name}_{column.name}{further}{suffix}"[:60])
    table = names.format_table(column.table)
    listed = f"({by[0]})" if suffix else ", ".join(by)
    return f"CREATE INDEX {name} ON {table} ({listed})"


class _Explain(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, query: Select[Any], verb: str) -> None:
        self.query, self.verb = query, verb


@compiles(_Explain)
def _explain(element: _Explain, compiler: Any, **keys: Any) -> str:
    return element.verb + str(compiler.process(element.query, **keys))
