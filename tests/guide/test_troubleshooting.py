"""`docs/troubleshooting.md` has each text of `jittask doctor`: a reader who searches for a line finds cause and remedy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from doc_pages import ROOT

PACKAGE = ROOT / "jittask_prefect"
PAGE = ROOT / "docs" / "troubleshooting.md"
SAID_BY_DOCTOR = {
    "cli/doctor.py": None,  # every function
    "cli/doctor_database.py": None,
    "cli/doctor_servers.py": None,
    "ledger/hindrance.py": {"lacking_rights"},
    "ledger/versions.py": {"require", "_other_version"},
    "ledger/guard.py": {"_other_database"},
    "prefect_api/client.py": {"__init__"},
    "rows/row_labels.py": {"_fault"},
    "prefect_api/connection.py": {"_answer"},
    "prefect_api/work_queues.py": {"problem"},
}
"""Modules whose sentences `jittask doctor` prints, and the functions with these sentences."""


def sentences(source: str, names: set[str] | None = None) -> Iterator[list[str]]:
    """The texts with a space in functions of a module: each as its constant parts, in order; docstrings are none."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        if names is None or function.name in names:
            for statement in function.body:
                yield from _of(statement)


def _of(node: ast.AST) -> Iterator[list[str]]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.FunctionDef):
        return  # its own turn comes
    parts: list[str] = []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        parts = [node.value]
    elif isinstance(node, ast.JoinedStr):
        parts = [v.value for v in node.values if isinstance(v, ast.Constant)]
    told = [part.strip() for part in parts if re.search(r"[a-z]{2}", part)]
    if told and any(" " in part for part in parts):
        yield told
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant):
            continue  # a part of this text
        if isinstance(node, ast.FormattedValue) and child is node.format_spec:
            continue
        yield from _of(child)


def plain(text: str) -> str:
    """A text without marks of emphasis and code, and with single spaces."""
    return " ".join(re.sub(r"[*`]", "", text).split())


def stands(parts: list[str], lines: list[str]) -> bool:
    """Whether one line has all parts, in order."""
    wanted = re.compile(".*?".join(re.escape(plain(part)) for part in parts))
    return any(wanted.search(line) for line in lines)


@pytest.mark.parametrize("file", SAID_BY_DOCTOR)
def test_each_text_of_doctor_stands_in_the_page(file: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    lines = [plain(paragraph) for paragraph in re.split(r"\n\n|\n(?=\|)", page)]
    source = (PACKAGE / file).read_text(encoding="utf-8")
    found = list(sentences(source, SAID_BY_DOCTOR[file]))
    assert found, "no sentence there any more"
    assert [parts for parts in found if not stands(parts, lines)] == []


def test_sentences_are_found_as_meant() -> None:
    source = '''
def told(name, count):
    """Not a sentence of the page."""
    text = f"{name} has {count:>3 d} mistakes: " f"{'at least' if count else 'nothing at all'}"
    return text, "wrong", {"key": "an entry"}

def other():
    return "another text"
'''
    assert list(sentences(source, {"told"})) == [
        ["has", "mistakes:"],
        ["at least"],
        ["nothing at all"],
        ["an entry"],
    ]
    assert stands(["a", "b"], ["x", "a and b"]) and not stands(["b", "a"], ["a b", "b"])
