"""An inner.py from a form: parsed, and never run."""

from __future__ import annotations

import ast

from jittask_prefect.dialogs.fields import refused


def checked_code(code: str | None, *, rows: bool) -> str | None:
    """An inner.py that a form brings, its last line ended.

    Args:
        code: The text; None where the form has none.
        rows: Whether the task is a date-field task.

    Raises:
        ConfigError: The text is no Python, or defines no customFunc.
    """
    if code is None:
        return None
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        found = str(error).encode(errors="backslashreplace").decode()
        found = found or type(error).__name__
        raise refused("code", found, "Python") from None
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for node in tree.body if isinstance(node, functions)]
    if "customFunc" not in names:
        needed = "def customFunc(rowData)" if rows else "def customFunc()"
        raise refused("code", "no customFunc", needed)
    return with_line_end(code)


def with_line_end(code: str) -> str:
    """Code whose last line ends."""
    return code if code.endswith("\n") else code + "\n"
