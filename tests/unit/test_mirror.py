"""tests/unit mirrors the package: a folder for each room, and a file for each module with rules in it."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "jittask_prefect"
RULES = 25
"""Decisions from which on a module has a test file of its name."""
DECISIONS = (ast.If, ast.IfExp, ast.For, ast.While, ast.match_case, ast.ExceptHandler)
ELSEWHERE = {
    "cli/up": "integration/test_up",
    "cli/up_check": "integration/test_up",
    "deploying/deploy": "unit/deploying/test_deployments",
    "deploying/renew": "integration/test_rolling",
    "dialogs/conversion": "unit/dialogs/test_edit",
    "dialogs/submit": "unit/dialogs/test_forms",
    "elements/app": "unit/elements/test_loader",
    "elements/check": "unit/elements/test_loader",
    "elements/config_texts": "unit/elements/test_config",
    "elements/databases": "unit/elements/test_engines",
    "elements/decorated/moving_times": "unit/elements/decorated/test_condition_source",
    "elements/decorated/offsets": "unit/elements/decorated/test_pieces",
    "elements/decorated/piece_keys": "unit/elements/decorated/test_pieces",
    "elements/decorated/repeats": "unit/elements/decorated/test_pieces",
    "elements/json_files": "unit/elements/test_config",
    "elements/registry": "unit/rows/test_two_apps",
    "elements/original/source_notes": "unit/elements/original/test_notes",
    "filters/tree": "unit/filters/test_condition",
    "filters/values": "unit/filters/test_condition",
    "records/charts": "unit/records/test_statistics",
    "records/overview_markdown": "unit/records/test_overview",
    "records/overview_text": "unit/records/test_overview",
    "records/template_pages": "unit/records/test_statistics",
    "rows/dialects": "unit/rows/test_databases",
    "rows/flow_runs": "unit/rows/test_run_states",
    "rows/follow": "unit/rows/test_hooks",
    "rows/planning": "unit/rows/test_looks",
    "rows/scan": "unit/rows/test_due_databases",
    "rows/settling": "unit/rows/test_handover",
    "rows/sync": "unit/rows/test_window",
    "rows/template_planner": "unit/rows/test_looks",
    "running/rows_of_instant": "unit/rows/test_batches",
    "running/calls": "unit/running/test_executor",
    "running/run": "unit/running/test_execute",
    "schedule/candidates": "unit/schedule/test_law",
    "schedule/checks": "unit/schedule/test_spec",
    "schedule/country": "unit/schedule/test_calendar",
    "schedule/day_table": "unit/schedule/test_calendar",
    "schedule/explanation": "unit/schedule/test_words",
    "schedule/minute_hour": "unit/schedule/test_prefect_schedules",
    "schedule/recur": "unit/schedule/test_law",
    "schedule/rrule": "unit/schedule/test_custom",
    "schedule/rrule_lines": "unit/schedule/test_prefect_schedules",
    "schedule/rrule_series": "unit/schedule/test_custom",
    "schedule/plain_series": "unit/schedule/test_semantics_occurrences",
    "schedule/timer": "unit/schedule/test_law",
    "testing/app_folder": "guide/test_06_testing_your_own_tasks",
    "testing/fake_deployments": "guide/test_06_testing_your_own_tasks",
    "testing/fake_pages": "guide/test_06_testing_your_own_tasks",
    "testing/fake_prefect": "guide/test_06_testing_your_own_tasks",
    "testing/fake_runs": "guide/test_06_testing_your_own_tasks",
    "validation": "unit/elements/test_config",
    "warm/child": "unit/warm/test_worker",
    "warm/children": "unit/warm/test_child_process",
}
"""Modules whose rules hold together with others': the tests stand by what they show."""

MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def decisions(path: Path) -> int:
    """How many ways a module may go."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return sum(isinstance(node, DECISIONS) for node in ast.walk(tree))


def test_each_folder_is_a_room() -> None:
    found = {file.parent.name for file in (TESTS / "unit").glob("*/test_*.py")}
    assert found <= {name.partition("/")[0] for name in MODULES}


def test_the_rules_of_a_module_are_tested_under_its_name() -> None:
    for name, path in MODULES.items():
        room, _, module = name.rpartition("/")
        own = TESTS / "unit" / room / f"test_{module}.py"
        if name in ELSEWHERE:
            assert (TESTS / f"{ELSEWHERE[name]}.py").exists(), name
            assert not own.exists(), f"{name} has tests of its own: not elsewhere any more"  # fmt: skip
        elif module != "__init__" and decisions(path) >= RULES:
            assert own.exists(), f"{own.relative_to(TESTS)}, or a line in ELSEWHERE"


def test_elsewhere_names_modules() -> None:
    assert set(ELSEWHERE) <= set(MODULES)
