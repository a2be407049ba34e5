"""Q expressions as text: an allow-list over Python's own `ast`, read into an immutable tree.

Nothing is evaluated. Syntax that `_Reader` does not name is refused; the size is limited before Python's parser reads.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass

from jittask_prefect.errors import FilterError, Problem
from jittask_prefect.errors.column_paths import checked_path

MAX_LENGTH = 4_000
MAX_DEPTH = 30
MAX_LIST = 1_000
MAX_NODES = 500
"""SQLite refuses expressions deeper than 1,000, and a chain of ANDs is as deep as it is long."""
MAX_DIGITS = 38
"""What the databases' decimals hold; a number of thousands of digits Python itself refuses to write."""
MAX_SHIFT_DAYS = 366_000
"""About 1,000 years: no moment near today can leave the years that every database knows."""

SYMBOLS = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
WORDS = (
    *("in", "nin", "like", "nlike", "startswith", "endswith", "likeany", "nlikeany"),
    *("isnull", "range", "year", "month", "week", "day"),
)
OPERATORS = (*SYMBOLS.values(), *SYMBOLS, *WORDS)
UNIT_DAYS = {
    "years": 366,
    "months": 31,
    "weeks": 7,
    "days": 1,
    "hours": 1 / 24,
    "minutes": 1 / 1440,
    "seconds": 1 / 86400,
}

FORMS = (
    "Q('field', 'operator', value), Q(field__operator=value) and Q(Q(…), Q.AND, Q(…)), joined by & | ~, "
    "with texts, numbers, True, False, None, lists of them, Q.today(days=n) and Q.now(hours=n) as values"
)


@dataclass(frozen=True)
class Moment:
    """`Q.today(…)` or `Q.now(…)`: a time that is known when the filter is used."""

    start: str
    shift: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"Q.{self.start}({', '.join(f'{unit}={n}' for unit, n in self.shift)})"


Scalar = str | int | float | bool | None | Moment
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True)
class Node:
    """A part of a filter."""


@dataclass(frozen=True)
class Test(Node):
    """A comparison as written: a field's path, an operator (symbols instead of `eq ne gt …`), a value."""

    __test__ = False  # pytest takes classes of this name for its own

    path: tuple[str, ...]
    operator: str
    value: Value


@dataclass(frozen=True)
class Not(Node):
    """`~`."""

    part: Node


@dataclass(frozen=True)
class And(Node):
    """`&`, `Q.AND`, several keywords of a Q; without parts always true."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or(Node):
    """`|`, `Q.OR`."""

    parts: tuple[Node, ...]


def refuse(found: str, allowed: str) -> FilterError:
    """The error of a mistake in a filter."""
    return FilterError(
        Problem("", "filter", found if len(found) <= 80 else found[:77] + "…", allowed)
    )


def read(text: str) -> Node:
    """Read a Q expression.

    Args:
        text: The expression, e.g. `Q(status='active') & ~Q('age', '<', 18)`.

    Raises:
        FilterError: The text is no Q expression, or exceeds a limit; the message has the text found and the forms allowed.
    """
    if len(text) > MAX_LENGTH:
        raise refuse(f"{len(text):,} characters", f"at most {MAX_LENGTH:,} characters")
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise refuse(f"{text}: {error.msg}", FORMS) from None
    except (ValueError, RecursionError, MemoryError):
        raise refuse(f"{text[:40]}…, which Python cannot read", FORMS) from None
    return _Reader(text.strip()).node(body, 1)


def tests_of(node: Node) -> Iterator[Test]:
    """Every comparison of a tree that `read` returned, in the order of the text."""
    match node:
        case Test():
            yield node
        case Not(part):
            yield from tests_of(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from tests_of(part)


class _Reader:
    """`ast` → tree."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nodes = 0

    def node(self, at: ast.expr, depth: int) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise refuse(
                f"more than {MAX_NODES} conditions and connectives",
                f"at most {MAX_NODES}",
            )
        if depth > MAX_DEPTH:
            raise refuse(
                f"{self._source(at)}, nested too deeply", f"at most {MAX_DEPTH} levels"
            )
        match at:
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr() as operator):
                parts = tuple(
                    self.node(part, depth + 1) for part in _chain(at, type(operator))
                )
                return And(parts) if isinstance(operator, ast.BitAnd) else Or(parts)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return Not(self.node(operand, depth + 1))
            case ast.Call(func=ast.Name(id="Q"), args=args, keywords=keywords):
                return self._call(at, args, keywords, depth)
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                raise refuse(
                    self._source(at),
                    "& for and, | for or, ~ for not, between Q(…) in parentheses",
                )
        raise refuse(self._source(at), FORMS)

    def _call(
        self,
        at: ast.Call,
        args: list[ast.expr],
        keywords: list[ast.keyword],
        depth: int,
    ) -> Node:
        parts: list[Node] = []
        if args and isinstance(args[0], ast.Constant):
            parts.append(self._positional(at, args))
        elif args:
            parts.append(self._connected(at, args, depth))
        seen: set[str] = set()
        for keyword in keywords:
            if keyword.arg is None or keyword.arg in seen:
                raise refuse(self._source(at), "each keyword once, and no **")
            seen.add(keyword.arg)
            *path, last = keyword.arg.split("__")
            known = bool(path) and (last in SYMBOLS or last in WORDS)
            operator = last if known else "="
            parts.append(
                self._test(path if known else [*path, last], operator, keyword.value)
            )
        if not parts:
            raise refuse(
                self._source(at),
                "at least one condition in Q(…); an empty filter means no filter",
            )
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _positional(self, at: ast.Call, args: list[ast.expr]) -> Node:
        match args:
            case [
                ast.Constant(value=str(field)),
                ast.Constant(value=str(operator)),
                value,
            ]:
                return self._test(field.replace("__", ".").split("."), operator, value)
        raise refuse(self._source(at), "Q('field', 'operator', value)")

    def _connected(self, at: ast.Call, args: list[ast.expr], depth: int) -> Node:
        """Q(a, Q.AND, b, Q.OR, c): from left to right, AND binds tighter, as & does."""
        groups: list[list[Node]] = [[self.node(args[0], depth + 1)]]
        if len(args) % 2 == 0:
            raise refuse(
                self._source(at), "Q(Q(…), Q.AND, Q(…)): Q.AND or Q.OR between each two"
            )
        for connective, operand in zip(args[1::2], args[2::2], strict=True):
            part = self.node(operand, depth + 1)
            match connective:
                case ast.Attribute(value=ast.Name(id="Q"), attr="AND"):
                    groups[-1].append(part)
                case ast.Attribute(value=ast.Name(id="Q"), attr="OR"):
                    groups.append([part])
                case _:
                    raise refuse(self._source(connective), "Q.AND or Q.OR")
        ands = [group[0] if len(group) == 1 else And(tuple(group)) for group in groups]
        return ands[0] if len(ands) == 1 else Or(tuple(ands))

    def _test(self, path: list[str], operator: str, value: ast.expr) -> Test:
        self.nodes += 1
        try:
            checked_path(path)
        except ValueError as error:
            raise refuse(f"the field {'.'.join(path)!r}", str(error)) from None
        if operator not in OPERATORS:
            raise refuse(f"the operator {operator!r}", " ".join(OPERATORS))
        return Test(tuple(path), SYMBOLS.get(operator, operator), self._value(value))

    def _value(self, at: ast.expr) -> Value:
        if not isinstance(at, ast.List | ast.Tuple):
            return self._scalar(at)
        if len(at.elts) > MAX_LIST:
            raise refuse(
                f"a list of {len(at.elts):,} values", f"at most {MAX_LIST:,} values"
            )
        return tuple(self._scalar(item) for item in at.elts)

    def _scalar(self, at: ast.expr) -> Scalar:
        match at:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name(id="Q"), attr="today" | "now" as start
                ),
                args=[],
            ):
                return self._moment(at, start)

        try:
            value = ast.literal_eval(at)
        except (ValueError, TypeError):
            value = ()
        if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
            allowed = f"a number of at most {MAX_DIGITS} digits"
            raise refuse(self._source(at), allowed)
        if value is None or isinstance(value, str | int):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        raise refuse(
            self._source(at),
            "a text, a number, True, False, None, Q.today(…), Q.now(…), or a list of these",
        )

    def _moment(self, at: ast.Call, start: str) -> Moment:
        shift: dict[str, int] = {}
        for keyword in at.keywords:
            n = self._scalar(keyword.value)
            if (
                keyword.arg not in UNIT_DAYS
                or keyword.arg in shift
                or type(n) is not int
            ):
                raise refuse(
                    self._source(at),
                    f"Q.{start}(unit=whole number), with {', '.join(UNIT_DAYS)}, each once",
                )
            shift[keyword.arg] = n
        if sum(abs(n) * UNIT_DAYS[unit] for unit, n in shift.items()) > MAX_SHIFT_DAYS:
            raise refuse(self._source(at), "at most 1,000 years away")
        return Moment(start, tuple(shift.items()))

    def _source(self, at: ast.AST) -> str:
        return ast.get_source_segment(self.text, at) or type(at).__name__


def _chain(at: ast.expr, operator: type[ast.operator]) -> list[ast.expr]:
    """The parts of a & b & c: Python nests them to the left, as deep as the chain is long."""
    parts: list[ast.expr] = []
    while isinstance(at, ast.BinOp) and isinstance(at.op, operator):
        parts.append(at.right)
        at = at.left
    return [at, *reversed(parts)]
