"""The source of a `where`: what Python evaluates before SQLAlchemy sees a condition leaves no trace in its value.

`A == 1 and B == 2` gives only one of the two, `A is None` gives False, and `datetime.now()` gives the time of the import.
So the decorator's argument, the lambda, and the names that stand for them in the same module are read as text.
Nothing of it is evaluated; without a source nothing is found.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, QueryableAttribute
from sqlalchemy.orm.util import AliasedClass

from jittask_prefect.elements.decorated import moving_times
from jittask_prefect.elements.decorated.decorators import Mark

Found = tuple[int, str, str]
"""The line, the text found, the spelling allowed."""
Names = Mapping[str, Any]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_CLOCK_NAMES = {"now", "utcnow", "today"}
_OF_TIME = {"time", "time_ns", "localtime", "gmtime"}
"""Functions of the module `time`."""
_MOVING = (moving_times.now, moving_times.today)
CLOCK = "now(…) or today(…) of jittask_prefect, which are bound anew at each look"


def source_problems(mark: Mark) -> list[Found]:
    """The mistakes in the source of a mark's `where`."""
    where = mark.arguments.get("where")
    if where is None or isinstance(where, str):
        return []

    checker = _Checker()
    names = getattr(mark.function, "__globals__", {})
    for argument in _arguments(mark):
        checker.check(argument, mark.file, names)

    code = getattr(where, "__code__", None)
    if code is not None and callable(where):
        inner = {**where.__globals__, **inspect.getclosurevars(where).nonlocals}
        for node in _functions(code.co_filename, code.co_firstlineno):
            checker.check(node, code.co_filename, inner)

    return list(dict.fromkeys(checker.found))


def _tree(file: str) -> ast.Module | None:
    linecache.checkcache(file)
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _arguments(mark: Mark) -> Iterator[ast.expr]:
    """The `where` of the decorators of a mark's function."""
    tree = _tree(mark.file)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, _FUNCTIONS) and _first_line(node) == mark.line:
            for call in (d for d in node.decorator_list if isinstance(d, ast.Call)):
                yield from (k.value for k in call.keywords if k.arg == "where")


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])


def _functions(file: str, line: int) -> Iterator[ast.AST]:
    """The lambdas and functions that begin in a line."""
    tree = _tree(file)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Lambda) and node.lineno == line:
            yield node
        elif isinstance(node, _FUNCTIONS) and _first_line(node) == line:
            yield from node.body


class _Checker:
    """Collects mistakes of conditions."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self._followed: set[tuple[str, str]] = set()

    def check(self, root: ast.AST, file: str, names: Names) -> None:
        """Look at a condition, and at the names of its module that stand for parts of it."""
        for node in ast.walk(root):
            self._look(node, file, names)
            if isinstance(node, ast.Name) and (file, node.id) not in self._followed:
                self._followed.add((file, node.id))
                self._follow(node.id, file, names)

    def _follow(self, name: str, file: str, names: Names) -> None:
        """Look at the value that a module gives to a name, where that is a condition or a time."""
        value = names.get(name)
        plain = isinstance(value, sa.ClauseElement | bool) or hasattr(
            value, "isoformat"
        )
        tree = _tree(file) if plain and not isinstance(value, type) else None
        for node in tree.body if tree is not None else ():
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign) and node.value is not None:
                targets = [node.target]
            if any(isinstance(each, ast.Name) and each.id == name for each in targets):
                self.check(node.value, file, names)  # type: ignore[attr-defined]

    def _look(self, node: ast.AST, file: str, names: Names) -> None:
        match node:
            case ast.BoolOp(op=op, values=values) if _any_column(values, names):
                word, sign = ("and", "&") if isinstance(op, ast.And) else ("or", "|")
                allowed = f"{sign} for {word}, each comparison in parentheses"
                self._add(node, file, allowed)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                if _any_column([operand], names):
                    self._add(node, file, "~(…) for not")
            case ast.Compare(left=left, ops=ops, comparators=others):
                if _any_column([left, *others], names):
                    self._comparison(node, ops, file)
            case ast.IfExp(test=test) if _any_column([test], names):
                self._add(
                    node, file, "sqlalchemy.case(…), or & and | between conditions"
                )
            case ast.Call(func=func) if _reads_clock(func, names):
                self._add(node, file, CLOCK)

    def _comparison(self, node: ast.AST, ops: list[ast.cmpop], file: str) -> None:
        if len(ops) > 1:
            self._add(node, file, ".between(low, high), or two comparisons joined by &")
            return

        spellings: dict[type[ast.cmpop], str] = {
            ast.Is: ".is_(None), or == for other values",
            ast.IsNot: ".is_not(None), or != for other values",
            ast.In: ".in_([…])",
            ast.NotIn: ".not_in([…])",
        }
        if type(ops[0]) in spellings:
            self._add(node, file, spellings[type(ops[0])])

    def _add(self, node: Any, file: str, allowed: str) -> None:
        text = "".join(linecache.getlines(file))
        found = " ".join((ast.get_source_segment(text, node) or "").split())
        self.found.append((node.lineno, found, allowed))


def _any_column(nodes: list[ast.expr], names: Names) -> bool:
    """Whether an expression names a mapped class, a column or a condition."""
    inner = (each for node in nodes for each in ast.walk(node))
    return any(
        _is_column(_resolved(each, names))
        for each in inner
        if isinstance(each, ast.Name | ast.Attribute)
    )


def _resolved(node: ast.expr, names: Names) -> Any:
    """The meaning of a dotted name, as far as modules and classes lead; nothing is computed."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None

    holder = _resolved(node.value, names)
    if isinstance(holder, ModuleType):
        return vars(holder).get(node.attr)
    if isinstance(holder, type) and not _is_column(holder):
        return getattr(holder, node.attr, None)
    return holder if _is_column(holder) else None


def _is_column(value: object) -> bool:
    if isinstance(value, sa.ClauseElement | QueryableAttribute | AliasedClass):
        return True
    mapped = isinstance(value, type) and sa.inspect(value, raiseerr=False)
    return isinstance(mapped, Mapper)


def _reads_clock(func: ast.expr, names: Names) -> bool:
    """Whether a call gives the present time once: `datetime.now()`, but not `now()` of a condition or `func.now()`."""
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    target = _resolved(func, names)
    if getattr(target, "__module__", "") == "time" and name in _OF_TIME:
        return True
    if name not in _CLOCK_NAMES or any(target is each for each in _MOVING):
        return False

    holder = _resolved(func.value, names) if isinstance(func, ast.Attribute) else None
    return not (isinstance(holder, type(sa.func)) or _is_column(holder))
