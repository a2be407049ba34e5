"""The rooms of the package and their order, read from the imports: who may import whom, who reads the clock, who calls Prefect."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "jittask_prefect"

# A room is a folder, or a single file, directly in the package. Each imports only rooms that stand before it.
ORDER = [
    "errors",
    "validation",
    "schedule",
    "filters",
    "elements",
    "prefect_api",
    "server",
    "warm",
    "ledger",
    "rows",
    "dialogs",
    "records",
    "deploying",
    "running",
    "task_svc",
    "testing",
    "cli",
    "__init__",
]
READS_THE_CLOCK = {
    "cli/actions",
    "cli/calendar_days",
    "cli/commands",
    "cli/database",
    "cli/doctor_database",
    "cli/doctor_servers",
    "cli/options",
    "cli/queries",
    "cli/scaffolding",
    "cli/up",
    "cli/up_check",
    "dialogs/flows",
    "elements/original/jit_queries",
    "elements/original/jit_values",
    "elements/types",
    "prefect_api/connection",
    "rows/background_handover",
    "rows/hooks",
    "running/flow_context",
    "running/flows",
    "running/form_actions",
    "running/run_end",
    "running/sync_flow",
    "schedule/timer",
    "task_svc/service",
    "testing/app_folder",
    "testing/fake_prefect",
    "testing/fake_runs",
    "warm/child",
    "warm/run_end",
    "warm/turns",
    "warm/worker",
}
CALLS_PREFECT = {
    "dialogs/flows",
    "prefect_api/client",
    "prefect_api/job_templates",
    "running/flow_context",
    "running/flows",
    "running/sync_flow",
    "server/selection",
    "warm/child",
    "warm/flow_file",
    "warm/fork_server",
    "warm/job",
    "warm/loaded_file",
    "warm/outage",
    "warm/places",
    "warm/run_end",
    "warm/turns",
    "warm/worker",
}
PREFECT_FIRST = {
    "dialogs/flows",
    "running/flow_context",
    "running/flows",
    "running/sync_flow",
    "warm/child",
    "warm/fork_server",
    "warm/job",
    "warm/loaded_file",
    "warm/outage",
    "warm/places",
    "warm/run_end",
    "warm/turns",
    "warm/worker",
}

FILES = {
    p.relative_to(PACKAGE).with_suffix("").as_posix(): p
    for p in sorted(PACKAGE.rglob("*.py"))
}


def room(name: str) -> str:
    return name.partition("/")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """The modules that a module imports: of the package as `elements/app`, others by name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (_place(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                inner = _place(f"{node.module}.{alias.name}")
                yield inner if inner in FILES else _place(node.module or "")


def _place(module: str) -> str:
    root, _, rest = module.partition(".")
    if root != PACKAGE.name:
        return module
    name = rest.replace(".", "/")
    return name if name in FILES else f"{name}/__init__".removeprefix("/")


def outside(name: str) -> set[str]:
    """The packages that a module imports, ours left out."""
    return {
        target.partition(".")[0]
        for target in imports(FILES[name])
        if target not in FILES
    }


def test_every_room_has_its_place() -> None:
    assert sorted(ORDER) == sorted({room(name) for name in FILES})
    assert len(ORDER) <= 18


def test_imports_go_one_way() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, path in FILES.items()
        for target in imports(path)
        if target in FILES and ORDER.index(room(target)) > ORDER.index(room(name))
    ]
    assert wrong == []


def test_at_most_nine_floors() -> None:
    """No chain of rooms that import each other is longer than nine."""
    floors: dict[str, int] = {}
    for each in ORDER:
        files = [path for name, path in FILES.items() if room(name) == each]
        below = {room(t) for path in files for t in imports(path) if t in FILES}
        floors[each] = 1 + max((floors.get(other, 0) for other in below), default=0)
    assert max(floors.values()) <= 9, floors


def test_nothing_imports_the_root() -> None:
    found = [name for name, path in FILES.items() if "__init__" in set(imports(path))]
    assert found == []


def test_prefect_is_called_in_few_places() -> None:
    assert {name for name in FILES if "prefect" in outside(name)} <= CALLS_PREFECT


def test_prefect_is_not_loaded_before_it_is_needed() -> None:
    """Flows and worker import Prefect at their top; elsewhere it is imported inside the functions that call it."""
    for name in sorted(CALLS_PREFECT - PREFECT_FIRST):
        top = parsed(FILES[name]).body
        modules = [n.module or "" for n in top if isinstance(n, ast.ImportFrom)]
        modules += [a.name for n in top if isinstance(n, ast.Import) for a in n.names]
        assert not [m for m in modules if m.partition(".")[0] == "prefect"], name


def test_the_clock_is_read_in_one_place() -> None:
    clocks = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time"}  # fmt: skip
    for name in sorted(set(FILES) - {"schedule/clock"}):
        reads = {
            f"{n.value.id}.{n.attr}"
            for n in ast.walk(parsed(FILES[name]))
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
        }
        assert not reads & clocks, name
        assert "clock.now" not in reads or name in READS_THE_CLOCK, name


def test_schedule_is_pure() -> None:
    """Time is computed without a database, files or a network; only `country` knows the library of holidays."""
    impure = {"sqlalchemy", "sqlmodel", "prefect", "httpx", "pathlib", "os", "socket"}
    for name in (n for n in FILES if room(n) == "schedule"):
        assert not outside(name) & impure, name
        assert "holidays" not in outside(name) or name == "schedule/country", name


def test_the_parser_sees_what_it_should() -> None:
    """Guards the tests above: what is known to be imported is found."""
    facade = set(imports(FILES["task_svc/service"]))
    assert {"errors/__init__", "elements/app", "ledger/entry"} <= facade
    assert "schedule/timer" in set(imports(FILES["elements/loader"]))
    assert "schedule/clock" in set(imports(FILES["elements/types"]))
    assert "prefect" in outside("running/flows")
