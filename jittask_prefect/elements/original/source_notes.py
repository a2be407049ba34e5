"""Calls in element code that are not carried over from JitTask, found in the source; nothing is executed for that."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from jittask_prefect.elements.original.virtual_modules import COMMONS, ELEMENTS

CALC = "globals.Calc"
CARRIED = ("query", "get")
FORMULA = "the formula function"
Found = Iterator[tuple[int, str]]


@dataclass
class _Names:
    """The names of a file.

    Attributes:
        defined: Names that the file defines or imports.
        models: By a name of the file, the model that the name means.
        formulas: Names for the formula functions (`globals.Calc`).
        rows: Parameters and loop variables, which may be rows.
    """

    defined: set[str] = field(default_factory=set)
    models: dict[str, str] = field(default_factory=dict)
    formulas: set[str] = field(default_factory=set)
    rows: set[str] = field(default_factory=set)


def notes_of(source: bytes, methods: Mapping[str, Collection[str]]) -> Found:
    """The lines of a file whose calls are not carried over, each with the next step.

    Args:
        source: The file.
        methods: By a model's full name, the names that its class has.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return  # a mistake, which `check` lists

    names = _names(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [note for node in calls for note in _call(node, names, methods)]
    yield from found
    if not any(text.startswith(FORMULA) for _, text in found):
        for node in calls:
            if _element(node) == CALC:
                yield node.lineno, _no_element(CALC)


def reads_of_value(source: bytes, enums: Collection[str]) -> Found:
    """The lines that read `.value` of a row's field, with the text read.

    Args:
        source: The file.
        enums: Fields whose values are members of an enum, and have a `value` themselves.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return

    rows = _names(tree).rows
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(
                value=ast.Attribute(value=ast.Name(id=row), attr=name), attr="value"
            ) if row in rows and name not in enums:
                yield node.lineno, f"{row}.{name}.value"


def _names(tree: ast.Module) -> _Names:
    found = _Names()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.defined |= {(a.asname or a.name).partition(".")[0] for a in names}
                _imported_models(node, found)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                found.defined.add(getattr(node, "name", ""))
                arguments = [
                    each.arg for each in (*node.args.posonlyargs, *node.args.args)
                ]
                found.defined.update(arguments)
                found.rows |= {a for a in arguments if a not in ("self", "cls", "app")}
            case ast.ClassDef(name=name):
                found.defined.add(name)
            case (
                ast.For(target=ast.Name(id=name))
                | ast.comprehension(target=ast.Name(id=name))
            ):
                found.rows.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                element = _element(value) or ""
                if element.startswith("models."):
                    found.models[name] = element
                if element == CALC:
                    found.formulas.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.defined.add(name)

    return found


def _imported_models(node: ast.Import | ast.ImportFrom, found: _Names) -> None:
    if isinstance(node, ast.ImportFrom) and str(node.module).startswith("models."):
        element = ".".join(str(node.module).split(".")[:2])
        for alias in node.names:
            if alias.name == element.partition(".")[2]:
                found.models[alias.asname or alias.name] = element


def _element(node: ast.expr) -> str | None:
    """The full name of the element that an expression gives: `app.getElement("…")`, or `app.models.X`."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr="getElement"), args=[ast.Constant(value=str(name))]
        ):
            return name
        case ast.Attribute(
            value=ast.Attribute(value=ast.Name(id="app"), attr=folder), attr=name
        ):
            return f"{folder}.{name}"
    return None


def _call(
    node: ast.Call, names: _Names, methods: Mapping[str, Collection[str]]
) -> Found:
    element = _element(node)
    if element and element != CALC and element.partition(".")[0] not in ELEMENTS:
        yield node.lineno, _no_element(element)
        return

    match node.func:
        case ast.Attribute(attr="import_module") | ast.Name(id="import_module"):
            yield from _import_module(node)
        case ast.Name(id=name) if name.isupper() and not _is_known(name, names):
            yield node.lineno, _formula(name)
        case ast.Attribute(value=of, attr=name):
            formula = isinstance(of, ast.Name) and of.id in names.formulas
            if formula or _element(of) == CALC:
                yield node.lineno, _formula(name)
                return

            model = (
                names.models.get(of.id) if isinstance(of, ast.Name) else _element(of)
            )
            known = methods.get(model or "")
            if model and known is not None and name not in known:
                yield (
                    node.lineno,
                    (
                        f"{model}.{name}(…) is not carried over, only {' and '.join(CARRIED)} are; "
                        "use SQLAlchemy in `with app.session() as session:`"
                    ),
                )


def _no_element(name: str) -> str:
    return (
        f"{name} is an element of a kind that does not exist here, only {', '.join(ELEMENTS)} do; "
        "write its work as a service, or as a module in commons/"
    )


def _is_known(name: str, names: _Names) -> bool:
    return len(name) < 2 or name in names.defined or hasattr(builtins, name)


def _formula(name: str) -> str:
    return f"{FORMULA} {name} is not carried over; write the calculation in Python"


def _import_module(node: ast.Call) -> Found:
    match node.args:
        case [ast.Constant(value=str(name)), *_]:
            folder, _, element = name.partition(".")
            if folder in (*ELEMENTS, COMMONS) and element:
                yield (
                    node.lineno,
                    (
                        f"importlib.import_module({name!r}) finds no element, only a real package; "
                        f"write `from {name} import …`, or app.getElement({'.'.join(name.split('.')[:2])!r})"
                    ),
                )
