"""The index that a sync's question to a table needs, and the statement that makes it where it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, text
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, Executable, Select

from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.rows import dialects
from jittask_prefect.rows.scan import Scan


def missing(
    connection: Connection, template: DateFieldType, now: datetime
) -> str | None:
    """The statement that makes the index by which a template's rows are found; None where there is one, or none helps.

    Args:
        connection: To the database of the template's rows.
        template: A date-field template.
        now: The present instant.
    """
    dialect = connection.dialect.name
    scan = Scan(template, now, dialect)
    column = sa_inspect(scan.model).attrs[scan.start.key].columns[0]
    if template.timer.cfg.repeat.repeat_type == "normal":
        return (
            None
            if _leads(connection, column)
            else _statement(connection, column, column, "")
        )
    if dialect not in ("sqlite", "postgresql"):
        return None  # MariaDB takes an expression's index from 11.8 on, and then only by a column made for it
    for days in range(400):
        at = now + timedelta(days)
        found = template.timer.reach(at, at + timedelta(1))
        if found.days:
            month, number = (any(pair[part] for pair in found.days) for part in (0, 1))
            by_day = dialects.day_of(
                column, scan.start, dialect, month=month, number=number
            )
            condition = scan.condition((at, at + timedelta(1)))
            if condition is None or _finds_days(connection, scan.query(condition)):
                return None
            return _statement(
                connection, column, by_day, "_month_day" if month and number else "_day"
            )
    return None


def _leads(connection: Connection, column: Column[Any]) -> bool:
    """Whether some index begins with the column."""
    table, there = column.table, sa_inspect(connection)
    lists: list[Sequence[str | None]] = [
        index["column_names"]
        for index in there.get_indexes(table.name, schema=table.schema)
    ]
    lists += [
        unique["column_names"]
        for unique in there.get_unique_constraints(table.name, schema=table.schema)
    ]
    lists.append(
        there.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
    )
    return any(columns and columns[0] == column.name for columns in lists)


def _finds_days(connection: Connection, query: Select[Any]) -> bool:
    """Whether the database would look days of the year up in an index, if it could."""
    if connection.dialect.name == "sqlite":
        plan = connection.execute(_Explain(query, "EXPLAIN QUERY PLAN ")).all()
        return any("<expr>" in str(step[-1]) for step in plan)
    with connection.begin_nested() as savepoint:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.execute(_Explain(query, "EXPLAIN ")).all()
        savepoint.rollback()
    return any("Cond:" in str(step[0]) and "date_part" in str(step[0]) for step in plan)


def _statement(
    connection: Connection, column: Column[Any], expression: Any, what: str
) -> str:
    dialect, names = connection.dialect, connection.dialect.identifier_preparer
    by = expression.compile(
        dialect=dialect, compile_kwargs={"include_table": False, "literal_binds": True}
    )
    name = names.quote(f"ix_{column.table.name}_{column.name}{what}"[:60])
    return f"CREATE INDEX {name} ON {names.format_table(column.table)} ({f'({by})' if what else by})"


class _Explain(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, query: Select[Any], verb: str) -> None:
        self.query, self.verb = query, verb


@compiles(_Explain)
def _explain(element: _Explain, compiler: Any, **keys: Any) -> str:
    return element.verb + str(compiler.process(element.query, **keys))
