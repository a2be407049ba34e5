"""An existing project as its files show it: package, engine, mapped classes with dates. Nothing of it is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NO_PACKAGES = {"tests", "test", "docs", "migrations", "alembic", "build", "dist"}
_ENGINES = ("create_engine", "create_async_engine", "engine_from_config")
_DATE_TYPES = ("Date", "DateTime", "UTCDateTime", "TIMESTAMP")
_DATE_WORD = re.compile(r"\b(?:datetime|date|NaiveDatetime|AwareDatetime)\b")
_KEPT_BY_THE_ROW = re.compile(r"^(?:created|updated|modified|inserted|changed|deleted)")
_EXPECTED = re.compile(r"due|start|end|expire|remind|until|deadline")
MOST_FILES = 2000
"""Files of a project that are read."""


@dataclass(frozen=True)
class DateField:
    """A date of a mapped class, e.g. `starts_at` of `clinic.models.Appointment`."""

    module: str
    cls: str
    name: str


@dataclass(frozen=True)
class Survey:
    """The parts of a project that an app needs.

    Attributes:
        package: The project's package; None for a project of single files.
        folder: The folder of the package, or of the files.
        engine: `package.module:name`; None where no engine was found.
        dates: The dates of its mapped classes, those that look like due dates first.
    """

    package: str | None
    folder: Path
    engine: str | None
    dates: tuple[DateField, ...]

    def module(self, name: str) -> str:
        """The name of a module of the package."""
        return f"{self.package}.{name}" if self.package else name


def survey(root: Path, project: str = "") -> Survey:
    """Look at a project.

    Args:
        root: The folder of pyproject.toml.
        project: The project's name, which the package often has.
    """
    package = _package(root, project)
    folder = package or root
    files = sorted(folder.rglob("*.py") if package else folder.glob("*.py"))
    base = folder.parent if package else folder
    engines: list[str] = []
    dates: list[DateField] = []
    for file in files[:MOST_FILES]:
        module = _module_name(file.relative_to(base))
        try:
            tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue

        engines += (f"{module}:{name}" for name in _engines(tree))
        dates += (DateField(module, *found) for found in _dates(tree))

    engines.sort(key=lambda found: not found.endswith(":engine"))
    dates.sort(key=lambda date: _rank(date.name))
    name = package.name if package else None
    return Survey(name, folder, next(iter(engines), None), tuple(dates))


def _package(root: Path, project: str) -> Path | None:
    """The project's package: of its name, else the largest."""
    packages = [
        place
        for base in (root / "src", root)
        if base.is_dir()
        for place in sorted(base.iterdir())
        if (place / "__init__.py").is_file() and place.name not in _NO_PACKAGES
    ]
    named = re.sub(r"[^a-z0-9]+", "_", project.lower())
    of_that_name = [p for p in packages if p.name.lower() == named]
    largest = sorted(packages, key=lambda p: -sum(1 for _ in p.rglob("*.py")))
    return next(iter([*of_that_name, *largest]), None)


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and parts[1:] else parts)


def _engines(tree: ast.Module) -> Iterator[str]:
    """The names of a module that are engines."""
    for node in tree.body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue

        if _called(node.value) in _ENGINES:
            yield from (t.id for t in targets if isinstance(t, ast.Name))


def _dates(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The classes of a module that look mapped, each with its dates."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _has_table(node):
            for part in node.body:
                name = _date_in(part)
                if name is not None:
                    yield node.name, name


def _has_table(node: ast.ClassDef) -> bool:
    if any(keyword.arg == "table" for keyword in node.keywords):
        return True

    names = {
        target.id
        for part in node.body
        if isinstance(part, ast.Assign)
        for target in part.targets
        if isinstance(target, ast.Name)
    }
    columns = any(_called(v) in ("mapped_column", "Column") for v in _values(node))
    return bool(names & {"__tablename__", "__table__"}) or columns


def _values(node: ast.ClassDef) -> Iterator[ast.expr | None]:
    for part in node.body:
        if isinstance(part, ast.Assign | ast.AnnAssign):
            yield part.value


def _date_in(part: ast.stmt) -> str | None:
    """The name that a statement of a class gives a date; None for other statements."""
    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
        annotation = ast.unparse(part.annotation)
        typed = _DATE_WORD.search(annotation) and "[list" not in annotation
        return part.target.id if typed or _is_date(part.value) else None
    if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
        return part.targets[0].id if _is_date(part.value) else None

    return None


def _is_date(value: ast.expr | None) -> bool:
    if not isinstance(value, ast.Call) or _called(value) not in (
        "mapped_column",
        "Column",
    ):
        return False

    kinds = (_called(a) or _last_name(a) for a in value.args)
    return any(kind in _DATE_TYPES for kind in kinds)


def _called(value: ast.expr | None) -> str | None:
    """The name of a called function, without its module."""
    return _last_name(value.func) if isinstance(value, ast.Call) else None


def _last_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _rank(name: str) -> int:
    """Dates that people wait for come first, those that each save sets come last."""
    if _KEPT_BY_THE_ROW.search(name):
        return 2
    return 0 if _EXPECTED.search(name.lower()) else 1
