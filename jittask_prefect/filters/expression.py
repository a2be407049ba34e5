"""Q expressions, `filter`: text → tree → a SQLAlchemy condition and a predicate over a row. They always agree.

Rules that both follow:

- Three-valued logic (Kleene's, SQL's own): a comparison with a NULL is unknown, `~` unknown is unknown, and a row
  matches only where the result is true. So `!=`, `nin`, `nlike` and `nlikeany` do not match NULL. `= None` and `isnull`
  test for NULL; `None` in the list of an `in` does too.
- An empty list: `in` and `likeany` never match, `nin` and `nlikeany` always do.
- A value takes the column's type: on a date column a time is dropped, on a datetime column a date means its 00:00.
- `range` includes both ends. Texts compare by code point, case and trailing spaces included, on every database; `like`
  means contains, and `%` and `_` are ordinary characters.
- `Q.today(…)` is 00:00 of today in the task's zone, shifted on the wall clock. `Q.now(…)` is the instant: years to days
  are shifted on the wall clock, hours to seconds are elapsed.
- A naive datetime is local to the task's zone, an aware one is itself. `week` is ISO 8601's.
- A to-one relationship without a row: all its columns are NULL. A comparison over a to-many relationship is true where
  some related row satisfies it, else false.
- `field__year=…`: a last part that is an operator's name is the operator. For a related column of such a name write
  `Q('period.year', '=', …)` or `period__year__eq`.
- `Q(a, Q.AND, b, Q.OR, c)`: AND binds tighter. Several keywords in one Q: all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement

from jittask_prefect.filters import condition, row_predicate
from jittask_prefect.filters.binding import Check, Column, bind
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
    """A parsed Q expression."""

    text: str
    fields: frozenset[str]
    tree: Node
    _bound: dict[type, Node] = field(default_factory=dict, compare=False, repr=False)

    def check(self, model: type) -> None:
        """See that every field is a mapped column of the model, and every value fits its column.

        Args:
            model: The table class.

        Raises:
            FilterError: With every problem at once.
        """
        self._for(model)

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
        return condition.condition(self._for(model), model, now, zone)

    def matches(self, row: object, now: datetime, zone: ZoneInfo) -> bool:
        """Whether a model instance satisfies the filter; unknown is no.

        Args:
            row: An instance of a table class. Relationships are read as its session sees them, or as they are set.
            now: The instant that `Q.now()` and `Q.today()` mean, aware.
            zone: The task's zone.

        Raises:
            FilterError: As `check` does.
        """
        return row_predicate.truth(self._for(type(row)), row, now, zone) is True

    def columns(self, model: type) -> list[Column]:
        """The columns that are compared, of the model and of related ones.

        Raises:
            FilterError: As `check` does.
        """
        return [part.column for part in _checks(self._for(model))]

    def _for(self, model: type) -> Node:
        if model not in self._bound:
            self._bound[model] = bind(self.tree, model)
        return self._bound[model]


def _checks(node: Node) -> Iterator[Check]:
    match node:
        case Check():
            yield node
        case Not(part):
            yield from _checks(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _checks(part)


def parse(text: str | None) -> Filter:
    """Read a Q expression; nothing in it is evaluated.

    Args:
        text: The expression; empty or None means no filter, which every row satisfies.

    Raises:
        FilterError: Where it is no Q expression or exceeds a cap.
    """
    tree = read(text) if text and text.strip() else And(())
    return Filter(
        text or "", frozenset(".".join(test.path) for test in tests_of(tree)), tree
    )
