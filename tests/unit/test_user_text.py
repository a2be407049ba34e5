"""No text of a user's is ever a template: keys, titles and names come out as they went in."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect._internal.engine import resolve_custom_task_run_name
from prefect.server.utilities.user_templates import render_user_template_sync
from prefect.utilities.templating import find_placeholders

import jittask_prefect
from jittask_prefect.deploying import notices
from jittask_prefect.prefect_api.names import prefect_name
from jittask_prefect.running import flows
from jittask_prefect.running.outcome import Outcome

PACKAGE = Path(jittask_prefect.__file__).parent
KEYS = [
    "{",
    "}",
    "{0}",
    "{}",
    "{outcome}",
    "{outcome.__init__.__globals__}",
    "{outcome!r:>9}",
    "a{b",
    "%(name)s",
    "$x",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_rows_key_in_the_name_of_its_task_run_is_the_key(key: str) -> None:
    """Prefect fills a name that is a text by `str.format` with the run's parameters."""
    outcome = Outcome("error", "failed", "error: ValueError: bad")
    name = resolve_custom_task_run_name(
        flows._row_named(f"Customer {key}"), {"outcome": outcome}
    )
    assert name == f"Customer {key}".replace("%", "_").replace(">", "_")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ $PATH }}", "{ { $PATH } }"),
        ("{{{ $PATH }}}", "{ { { $PATH } } }"),
        ("{{{{$PATH}}}}", "{ { { {$PATH} } } }"),
        ("{{ prefect.variables.x }}", "{ { prefect.variables.x } }"),
        ("____prefect_kindprefect_kind", "___ _prefect_kindprefect_kind"),
        ("{a} {b}", "{a} {b}"),
    ],
)
def test_a_name_or_tag_holds_no_placeholder_of_prefects(text: str, shown: str) -> None:
    assert prefect_name(text) == shown
    assert not find_placeholders(
        prefect_name(text)
    ) and "__prefect_kind" not in prefect_name(text)


@pytest.mark.parametrize(
    "title", ["Shop {% if x %}", "{# a #}b", "{ {7*7} }", "{%", "Shop }} {"]
)
def test_a_notices_subject_has_the_apps_title_as_it_is(title: str) -> None:
    """The subject is a template of Jinja's."""
    app: Any = SimpleNamespace(title=title, name="shop", types=dict)
    subject = notices.automation(app, "failed", "b")["actions"][0]["subject"]
    assert render_user_template_sync(subject, {}) == f"{title}: a task failed"


def literals(tree: ast.Module) -> set[str]:
    """The names that a module binds to its own literal texts only."""
    texts, others = list[str](), list[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant()):
                texts.append(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                others.append(name)
            case ast.alias(name=name, asname=known):
                others.append(known or name)
    # Each assignment was counted as its target, too.
    return {name for name in texts if others.count(name) == texts.count(name)}


def templates(file: Path) -> list[str]:
    """Where a module fills a template that is no literal of its own: `.format`, `%`, `Template`, a run's name."""
    tree, found = ast.parse(file.read_text(encoding="utf-8")), []
    known_texts = literals(tree)

    def is_literal(node: ast.expr) -> bool:
        named = isinstance(node, ast.Name) and node.id in known_texts
        return named or isinstance(node, ast.Constant)

    functions = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=value, attr="format" | "format_map")
            ):
                of = value.func if isinstance(value, ast.Call) else value
                of_a_log = getattr(of, "id", "") in ("super", "self")
                bad = not (of_a_log or is_literal(value))
            case ast.Call(
                func=ast.Name(id="Template") | ast.Attribute(attr="Template")
            ):
                bad = True
            case ast.BinOp(left=ast.JoinedStr(), op=ast.Mod()):
                bad = True
            case ast.keyword(arg="flow_run_name" | "task_run_name", value=value):
                known = isinstance(value, ast.Name) and value.id in functions
                bad = not known and not isinstance(value, ast.Lambda | ast.Call)
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name(id="log" | "logger"),
                    attr="debug" | "info" | "warning" | "error",
                ),
                args=[first, _, *_],
            ):
                bad = not is_literal(first)
            case _:
                continue
        if bad:
            found.append(f"{file.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}")
    return found


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ("T = '{x}'\ndef f(x): return T.format(x=x)", []),
        ("def f(x):\n    t = '%s'\n    log.info(t, x)", []),
        ("def f(x, t): return t.format(x=x)", [1]),
        ("from a import T\ndef f(x): return T.format(x=x)", [2]),
        ("T = '{x}'\ndef f(x): return T.format(x=x)\ndef g(T): pass", [2]),
        ("T = '{x}'\nT += read()\nT.format(x=1)", [3]),
        ("for T in read(): log.info(T, 1)", [1]),
        ("log.info(f'{read()}', 1)", [1]),
    ],
)
def test_a_literal_may_have_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, found: list[int]
) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    file = tmp_path / "module.py"
    file.write_text(module)
    assert templates(file) == [f"module.py:{line}" for line in found]


def test_the_package_fills_no_template_but_its_own_literals() -> None:
    assert [
        where for file in sorted(PACKAGE.rglob("*.py")) for where in templates(file)
    ] == []
