"""The names of the tasks of a module that does not import, read from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

DECORATORS = ("date_field_task", "scheduled_task", "task")
PACKAGE = "jittask_prefect"
_DEF = r"^@(?:[\w.]+\.)?(?:date_field_task|scheduled_task|task)\b.*?^(?:async\s+)?def\s+(\w+)"
_BY_TEXT = re.compile(_DEF, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class SourceNames:
    """The tasks that a source marks.

    Attributes:
        names: Their names, without `tasks.`.
        exact: Whether these are certainly all tasks of the module.
    """

    names: frozenset[str] = frozenset()
    exact: bool = False


def task_name(function: str) -> str:
    """The element's name of a function: remind_patient → RemindPatient."""
    words = filter(None, function.split("_"))
    return "".join(word[:1].upper() + word[1:] for word in words)


def names_in(source: str) -> SourceNames:
    """The tasks that the source of a module marks, whether or not it can be parsed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found = frozenset(map(task_name, _BY_TEXT.findall(source)))
        return SourceNames(found)

    known = _Imported(tree)
    names, decorators, exact = set(), set(), True
    for function in _functions(tree):
        for decorator in function.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if not known.marks(called):
                continue

            decorators.add(called)
            named = _named(decorator)
            exact = exact and isinstance(named, str | None)
            usual = task_name(function.name)
            names.add(named if isinstance(named, str) else usual)

    # `remind = date_field_task(…)(function)`, or a decorator made elsewhere: no source tells the name.
    others = (node for node in ast.walk(tree) if isinstance(node, ast.expr))
    elsewhere = any(n not in decorators and known.marks(n) for n in others)
    return SourceNames(frozenset(names), exact and not elsewhere)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _named(decorator: ast.expr) -> str | ast.expr | None:
    """The argument `name` of a decorator; an expression where it is no text."""
    for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
        if keyword.arg == "name":
            value = keyword.value
            constant = value.value if isinstance(value, ast.Constant) else value
            return constant if isinstance(constant, str | None) else value
        if keyword.arg is None:
            return keyword.value  # `**common` may hold a name

    return None


class _Imported:
    """The meaning of a module's names, as far as they are this package's decorators."""

    def __init__(self, tree: ast.Module) -> None:
        self._decorators: set[str] = set()
        self._packages: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self._packages |= {
                    a.asname or PACKAGE for a in node.names if a.name == PACKAGE
                }
            elif isinstance(node, ast.ImportFrom) and _ours(node.module):
                for alias in node.names:
                    if alias.name == "*":
                        self._decorators |= set(DECORATORS)
                    elif alias.name in DECORATORS:
                        self._decorators.add(alias.asname or alias.name)

    def marks(self, node: ast.expr) -> bool:
        """Whether an expression is a decorator of this package."""
        if isinstance(node, ast.Name):
            return node.id in self._decorators
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return node.attr in DECORATORS and node.value.id in self._packages
        return False


def _ours(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == PACKAGE
