"""Nobody outside `ledger/` writes its tables: read from the package's source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "jittask_prefect"
TABLES = {"entries", "states"}
BUILDERS = {"insert", "update", "delete", "merge"}
SQL = re.compile(
    r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE|ALTER\s+TABLE)\s+jittask_(ledger|state)\b",
    re.IGNORECASE,
)
OTHERS = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] != "ledger"
]


def writes(source: str) -> list[str]:
    """The places in a module that write a table of the ledger: `update(entries)`, `entries.update()`, SQL text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [f"{node.lineno}: {m[0]}" for m in SQL.finditer(node.value)]
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name):
            name, target = called.id, node.args[:1]
        elif isinstance(called, ast.Attribute):
            name, target = called.attr, [called.value, *node.args[:1]]
        else:
            continue
        tables = {name_of(each) for each in target} & TABLES
        if name in BUILDERS and tables:
            found.append(f"{node.lineno}: {name}({', '.join(sorted(tables))})")
    return found


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def test_only_the_ledger_writes_its_tables() -> None:
    for path in OTHERS:
        assert writes(path.read_text(encoding="utf-8")) == [], path


def test_nobody_outside_imports_sqlalchemys_writers() -> None:
    """A table under another name would escape the test above; without the builders nobody can write at all."""
    for path in OTHERS:
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            and (node.module or "").partition(".")[0] in ("sqlalchemy", "sqlmodel")
            for alias in node.names
        }
        assert not names & BUILDERS, path


def test_the_reader_of_the_source_sees_what_it_should() -> None:
    assert writes("update(entries).where(x)") == ["1: update(entries)"]
    assert writes("sa.delete(tables.states)") == ["1: delete(states)"]
    assert writes("entries.insert().values(a=1)") == ["1: insert(entries)"]
    assert writes("c.execute(text('DELETE FROM jittask_state'))") == [
        "1: DELETE FROM jittask_state"
    ]
    assert writes("select(entries)\nvalues.update(entries_by_id)") == []
    inside = [p for p in PACKAGE.rglob("*.py") if p not in OTHERS]
    assert sum(len(writes(p.read_text(encoding="utf-8"))) for p in inside) > 20
