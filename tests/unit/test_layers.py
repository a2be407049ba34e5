"""The direction of dependencies, and who may read the clock and import Prefect, kept by parsing the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "jittask_prefect"

# Who → what of the package it may import. `x/*` is every module of a folder, the longest match counts.
BASE = {"errors", "shape", "clock", "texts"}
SERVER = {"prefect_api", "prefect_server"}
MAY: dict[str, set[str]] = {
    "texts": set(),
    "terminal": {"texts"},
    "errors": {"texts"},
    "clock": set(),
    "shape": {"errors", "texts"},
    "schedule/*": {"errors", "shape", "schedule/*"},
    "schedule/timer": {"errors", "shape", "schedule/*", "clock"},
    "elements/*": {"errors", "shape", "texts", "schedule/*", "elements/*"},
    "elements/types": {*BASE, "schedule/*", "elements/*"},
    "processes": set(),
    "embedded": {"errors", "processes"},
    "answers": set(),
    "prefect_api": {"errors", "answers"},
    "prefect_server": {"embedded", "prefect_api"},
    "rows/*": {*BASE, "schedule/*", "elements/*", "prefect_api", "rows/*"},
    "rows/nudge": {*BASE, *SERVER, "elements/*", "rows/*"},
    "running/*": {*BASE, "schedule/*", "elements/*", "prefect_api", "rows/*", "running/*"},
    "running/stop": {*BASE, "elements/*", "prefect_api", "processes", "rows/*", "running/*"},
    "running/flows": {
        *BASE,
        *SERVER,
        *("schedule/*", "elements/*", "rows/*", "running/*", "rolling", "dialogs/flows", "statistics"),
    },
    "dialogs/*": {"errors", "shape", "schedule/*", "elements/*", "rows/*", "dialogs/*", "scaffold"},
    "dialogs/versions": {"errors", "shape", "elements/*", "markup"},
    "dialogs/submit": {
        *(
            "errors",
            "shape",
            "schedule/*",
            "elements/*",
            "prefect_api",
            "rows/*",
            "running/*",
            "dialogs/*",
            "compile",
            "rollout",
        ),
        *("outlook", "scaffold", "task_svc", "links", "markup"),
    },
    "dialogs/flows": {*BASE, *SERVER, "elements/*", "rows/handover", "dialogs/*"},
    "doctor": {"errors", "elements/*", "prefect_server", "rows/*", "compile", "rollout", "rolling"},
    "arguments": {"errors", "shape", "texts", "schedule/*", "elements/*"},
    "links": set(),
    "markup": set(),
    "compile": {"errors", "schedule/*", "elements/*", "rows/*", "links", "markup", "dialogs/forms"},
    "rollout": {"errors", "schedule/*", "elements/*", "prefect_api", "rows/*", "compile", "dialogs/forms"},
    "rolling": {"errors", "schedule/*", "elements/*", "prefect_api", "rows/*", "compile", "rollout", "dialogs/forms"},
    "notices": {"errors", "elements/*", "prefect_api"},
    "outlook": {"errors", "schedule/*", "elements/*", "rows/*"},
    "row_view": {"errors", "schedule/*", "elements/*", "rows/*", "outlook", "show"},
    "report": {"schedule/*", "elements/*", "rows/*", "outlook", "row_view", "stats"},
    "records": {
        "errors",
        "shape",
        *("schedule/*", "elements/*", "prefect_api", "rows/*", "outlook", "links", "record_pages"),
    },
    "record_pages": {"elements/*", "prefect_api", "rows/*"},
    "stats": {"errors", "schedule/*", "elements/*", "rows/*"},
    "charts": {"schedule/*", "stats", "markup"},
    "coming": {"schedule/*", "elements/*", "rows/*", "outlook", "charts"},
    "statistics": {
        *("errors", "schedule/*", "elements/*", "prefect_api", "rows/*"),
        *("compile", "links", "markup", "stats", "charts", "coming", "dialogs/*"),
    },
    "scaffold": {"errors", "schedule/*", "elements/*"},
    "show": {"schedule/*"},
    "task_svc": {*BASE, *SERVER, "schedule/*", "elements/*", "rows/*", "running/*", "records", "arguments"},
    "wiring": {"elements/*", "rows/*", "task_svc"},
    "testing": {*BASE, "elements/*", "prefect_api", "rows/*", "running/*", "rollout", "task_svc", "wiring"},
    "up": {
        *BASE,
        *SERVER,
        *("elements/*", "rows/*", "running/*", "compile", "rollout", "records", "task_svc", "embedded"),
        "terminal",
    },
    "cli_base": {*BASE, "schedule/*", "wiring", "arguments", "terminal"},
    "cli_looks": {
        *(BASE | {"schedule/*", "prefect_server", "rows/*", "running/*", "show", "outlook", "row_view", "report"}),
        *("wiring", "cli_base", "links", "records", "stats", "arguments"),
    },
    "cli": {
        *(BASE | SERVER | {"rows/*", "running/*", "compile", "rollout", "doctor", "notices", "scaffold", "report"}),
        *("wiring", "up", "processes", "cli_base", "cli_looks", "terminal"),
    },
    # The root gives names to users, lazily; nothing in the package imports it, `cli` reads its version.
    "__init__": {"errors", "schedule/*", "elements/*", "task_svc", "wiring"},
}
READS_THE_CLOCK = {
    "cli",
    "cli_base",
    "cli_looks",
    "task_svc",
    "testing",
    "up",
    "running/flows",
    "running/worker",
    "dialogs/flows",
    "rows/hooks",
    "rows/nudge",
    "schedule/timer",
    "elements/types",
}
CALLS_PREFECT = {
    "prefect_api",
    "prefect_server",
    "dialogs/flows",
    "running/away",
    "running/flows",
    "running/job",
    "running/worker",
    "running/children",
    "running/child",
    "embedded",
}
PREFECT_FIRST = {"dialogs/flows", "running/away", "running/flows", "running/job", "running/worker", "running/child"}

FILES = {p.relative_to(PACKAGE).with_suffix("").as_posix(): p for p in sorted(PACKAGE.rglob("*.py"))}
FILES = {name: p for name, p in FILES.items() if not name.endswith("/__init__")}


def rule(name: str, table: dict[str, set[str]] = MAY) -> set[str]:
    folder = name.rpartition("/")[0]
    return table[name] if name in table else table[f"{folder}/*"]


def allows(rules: set[str], target: str) -> bool:
    return target in rules or f"{target.rpartition('/')[0]}/*" in rules


def imports(path: Path, name: str) -> Iterator[str]:
    """What a module imports: of the package as `elements/app` (the root as `__init__`), of others by name."""
    here = ["jittask_prefect", *name.split("/")[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (_place(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = _place(f"{module}.{alias.name}")
                yield inner if inner in FILES else _place(module)


def _place(module: str) -> str:
    root, _, rest = module.partition(".")
    if root != "jittask_prefect":
        return module
    return rest.replace(".", "/") or "__init__"


@pytest.mark.parametrize("name", FILES)
def test_imports_go_one_way(name: str) -> None:
    mine = [target for target in imports(FILES[name], name) if target in FILES]
    wrong = sorted({t for t in mine if t != name and not allows(rule(name), t) and (name, t) != ("cli", "__init__")})
    assert wrong == [], f"{name} imports {', '.join(wrong)}"


def test_nothing_imports_the_root() -> None:
    found = [name for name, path in FILES.items() if "__init__" in set(imports(path, name))]
    assert found == ["cli"]  # its version


@pytest.mark.parametrize("name", sorted(set(FILES) - CALLS_PREFECT))
def test_prefect_is_called_in_few_places(name: str) -> None:
    outside = {target.partition(".")[0] for target in imports(FILES[name], name) if target not in FILES}
    assert "prefect" not in outside


def test_prefect_is_not_loaded_before_it_is_needed() -> None:
    """Flows and worker import Prefect at their top; elsewhere it is imported inside the functions that call it."""
    for name in sorted(CALLS_PREFECT & set(FILES) - PREFECT_FIRST):
        top = ast.parse(FILES[name].read_text(encoding="utf-8")).body
        modules = [n.module or "" for n in top if isinstance(n, ast.ImportFrom)]
        modules += [a.name for n in top if isinstance(n, ast.Import) for a in n.names]
        assert not [m for m in modules if m.partition(".")[0] == "prefect"], name


@pytest.mark.parametrize("name", sorted(set(FILES) - {"clock"}))
def test_the_clock_is_read_in_one_place(name: str) -> None:
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    reads = {
        f"{n.value.id}.{n.attr}"
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    assert not reads & {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time"}
    if name not in READS_THE_CLOCK:
        assert "clock.now" not in reads


def test_schedule_is_pure() -> None:
    """Time is computed without a database, files or a network; only `country` knows the library of holidays."""
    for name in (n for n in FILES if n.startswith("schedule/")):
        outside = {t.partition(".")[0] for t in imports(FILES[name], name) if t not in FILES}
        assert not outside & {"sqlalchemy", "sqlmodel", "prefect", "httpx", "pathlib", "os", "socket"}, name
        assert "holidays" not in outside or name == "schedule/country", name


def test_the_parser_sees_what_it_should() -> None:
    """Guards the tests above: what is known to be imported is found."""
    assert {"errors", "elements/app", "rows/ledger"} <= set(imports(FILES["task_svc"], "task_svc"))
    assert "schedule/timer" in set(imports(FILES["elements/loader"], "elements/loader"))
    assert "clock" in set(imports(FILES["elements/types"], "elements/types"))
    assert any(t.startswith("prefect") for t in imports(FILES["running/flows"], "running/flows"))
