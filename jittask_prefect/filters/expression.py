"""Q expressions, the `filter` of a task: text → tree → SQLAlchemy condition.

The meaning of a filter:

- Three-valued logic, SQL's own: a comparison with NULL is unknown, `~` unknown is unknown, and a row matches only where
  the result is true. So `!=`, `nin`, `nlike` and `nlikeany` do not match NULL. `= None` and `isnull` test for NULL, and
  so does `None` in the list of an `in`.
- An empty list: `in` and `likeany` never match, `nin` and `nlikeany` always match.
- A value takes the column's type: on a date column a time is dropped, on a datetime column a date means its 00:00.
- `range` includes both ends. Texts compare by code point, case and trailing spaces included, on every database; `like`
  means contains, and `%` and `_` are ordinary characters.
- `Q.today(…)` is 00:00 of today in the task's zone, shifted on the wall clock. `Q.now(…)` is the instant: years to days
  are shifted on the wall clock, hours to seconds are elapsed.
- A naive datetime is local to the task's zone, an aware datetime is an instant. `week` is ISO 8601's.
- A to-one relationship without a row: all its columns are NULL. A comparison over a to-many relationship is true where
  some related row satisfies the comparison, else false.
- `field__year=…`: a last part that is an operator's name is the operator. For a related column of such a name write
  `Q('period.year', '=', …)` or `period__year__eq`.
- `Q(a, Q.AND, b, Q.OR, c)`: AND binds tighter. Several keywords of a Q: all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement

from jittask_prefect.filters.columns import Column, column_at, mapper_of
from jittask_prefect.filters.condition import Condition, condition
from jittask_prefect.filters.tree import (
    And,
    Moment,
    Node,
    Not,
    Or,
    Test,
    read,
    tests_of,
)

__all__ = ["And", "Filter", "Moment", "Node", "Not", "Or", "Test", "parse"]


@dataclass(frozen=True)
class Filter:
    """A parsed Q expression.

    Attributes:
        text: The expression; empty for no filter.
        fields: The fields that are compared, related ones with dots.
        tree: The expression as a tree.
    """

    text: str
    fields: frozenset[str]
    tree: Node

    notes: ClassVar[tuple[str, ...]] = ()
    """What `check` says of a filter that works."""

    @property
    def empty(self) -> bool:
        """Whether every row satisfies the filter."""
        return not self.fields

    @property
    def own_fields(self) -> tuple[str, ...]:
        """The fields of the row itself, in the order of the text."""
        paths = (test.path for test in tests_of(self.tree) if len(test.path) == 1)
        return tuple(dict.fromkeys(path[0] for path in paths))

    @property
    def follows_relationships(self) -> bool:
        """Whether a related row decides, too."""
        return any("." in name for name in self.fields)

    @property
    def parts(self) -> tuple[Filter, ...]:
        """The parts that a row must all meet, each as a filter."""
        tree = self.tree
        return tuple(
            _filter("", part)
            for part in (tree.parts if isinstance(tree, And) else [tree])
        )

    def check(self, model: type) -> None:
        """See that every field is a mapped column of the model, and every value fits its column.

        Args:
            model: The table class.

        Raises:
            FilterError: With every problem at once.
        """
        self.compiled(model, datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo("UTC"))

    def condition(
        self, model: type, now: datetime, zone: ZoneInfo
    ) -> ColumnElement[bool]:
        """The filter as a condition for `select(model).where(…)`.

        Args:
            model: The table class.
            now: The instant that `Q.now()` and `Q.today()` mean, aware.
            zone: The task's zone.

        Raises:
            FilterError: As `check` does.
        """
        return self.compiled(model, now, zone).sql

    def compiled(self, model: type, now: datetime, zone: ZoneInfo) -> Condition:
        """The filter as a condition for statements that are kept, with the moments that change.

        Args:
            model: The table class.
            now: The instant of the condition's first use, aware.
            zone: The task's zone.

        Raises:
            FilterError: As `check` does.
        """
        return condition(self.tree, mapper_of(model), now, zone)

    def columns(self, model: type) -> list[Column]:
        """The columns that are compared, of the model and of related ones.

        Raises:
            FilterError: A field is no mapped column.
        """
        mapper = mapper_of(model)
        return [column_at(test.path, mapper) for test in tests_of(self.tree)]


def parse(text: str | None) -> Filter:
    """Read a Q expression; nothing of the text is evaluated.

    Args:
        text: The expression; empty or None means no filter, which every row satisfies.

    Raises:
        FilterError: The text is no Q expression or exceeds a limit.
    """
    tree = read(text) if text and text.strip() else And(())
    return _filter(text or "", tree)


def _filter(text: str, tree: Node) -> Filter:
    fields = frozenset(".".join(test.path) for test in tests_of(tree))
    return Filter(text, fields, tree)
