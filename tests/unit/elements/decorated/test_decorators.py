"""Decorators mark a function with its place and return the same function; types find what contradicts itself."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect import Before, Daily, date_field_task, scheduled_task, task
from jittask_prefect.elements.config import TaskCfg
from jittask_prefect.elements.decorated.decorators import MARKS, Mark
from jittask_prefect.schedule.spec import TimerCfg

SAMPLES = Path(__file__).parents[3] / "data" / "typed"
HERE = Path(__file__)
FIELD: Any = None


def line_of(text: str) -> int:
    """The line of this file in which a text begins."""
    lines = HERE.read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.startswith(text))


@date_field_task(FIELD, Before(days=2), skip_holiday=True, timeout=43200)
def remind(row: Any) -> str:
    """Remind the patient."""
    return f"reminded {row}"


@scheduled_task(Daily(at="06:00"))
async def report() -> str:
    return "reported"


@task
def export(month: int) -> int:
    return month


@task(name="Other")
def named() -> None: ...


def twice(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*given: Any) -> Any:
        return function(*given), function(*given)

    return wrapper


@scheduled_task(Daily())
@twice
def wrapped() -> int:
    return 1


def mark_of(function: Any) -> Mark:
    found: Mark = function.__jittask__
    assert [mark for mark in MARKS if mark.function is function] == [found]
    return found


def test_the_function_stays_as_it_is() -> None:
    assert remind("Ann") == "reminded Ann"
    assert asyncio.run(report()) == "reported"
    assert export(month=3) == 3
    assert wrapped() == (1, 1)
    for function in (remind, report, export, named):
        assert inspect.isfunction(function)
        assert pickle.loads(pickle.dumps(function)) is function


def test_a_mark_holds_the_arguments_as_they_were_given() -> None:
    mark = mark_of(remind)
    assert mark.kind == "rows"
    given = {"field": FIELD, "offset": Before(days=2), "skip_holiday": True}
    assert mark.arguments == given  # without timeout, which is the default
    assert mark_of(report).arguments == {"rule": Daily(at="06:00")}
    assert mark_of(report).kind == "scheduled"
    assert (mark_of(export).kind, dict(mark_of(export).arguments)) == ("code", {})
    assert mark_of(named).arguments == {"name": "Other"}
    with pytest.raises(TypeError):
        mark.arguments["title"] = "x"  # type: ignore[index]


def test_a_mark_knows_file_and_line_of_the_first_decorator() -> None:
    assert mark_of(remind).file == str(HERE)
    assert mark_of(remind).line == line_of("@date_field_task(FIELD")
    assert mark_of(export).line == line_of("@task") == mark_of(named).line - 5
    # Beneath a wrapper with functools.wraps the function's own place.
    assert mark_of(wrapped).line == line_of("@scheduled_task(Daily())")


def test_what_has_no_code_is_marked_where_it_was_decorated() -> None:
    task(functools.partial(export, 3))
    mark = MARKS.pop()
    assert mark.file == str(HERE)
    assert mark.line == line_of("    task(functools.partial")


def test_wrong_values_wait_for_the_app_to_load() -> None:
    wrong: Any = object()
    date_field_task(wrong, wrong, repeat=wrong, where=wrong, tags=wrong)(export)
    scheduled_task(wrong, until=wrong, timeout=wrong)(export)
    del MARKS[-2:]
    export.__jittask__ = next(m for m in MARKS if m.function is export)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("decorator", "argument"),
    [
        (date_field_task, "argument_that_is_not"),
        (date_field_task, "arguments"),
        (scheduled_task, "where"),
        (scheduled_task, "dispatch"),
        (scheduled_task, "row_runs"),
        (scheduled_task, "parallel"),
        (task, "parallel"),
        (task, "skip_holiday"),
        (task, "until"),
    ],
)
def test_an_unknown_argument_is_python_s_type_error(
    decorator: Any, argument: str
) -> None:
    before = len(MARKS)
    with pytest.raises(TypeError, match=argument):
        decorator(**{argument: 1})
    assert len(MARKS) == before


@pytest.mark.parametrize("decorator", [date_field_task, scheduled_task, task])
def test_each_argument_is_explained_in_an_editor(decorator: Any) -> None:
    text = inspect.getdoc(decorator) or ""
    explained = set(re.findall(r"^    (\w+): ", text, re.MULTILINE))
    assert explained == set(inspect.signature(decorator).parameters)
    assert "Example:" in text and "econds" in text and "zone" in text


def test_the_reference_has_each_argument_and_each_key() -> None:
    """The table of docs/decorators.md: arguments of the decorators, keys of e.json and its timerCfg."""
    page = (HERE.parents[4] / "docs" / "decorators.md").read_text(encoding="utf-8")
    table = page.partition("## Arguments")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("|")]
    arguments = {name for cell, _ in rows for name in re.findall(r"`(\w+)`", cell)}
    keys = {name for _, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    decorators = (date_field_task, scheduled_task, task)
    taken = {n for d in decorators for n in inspect.signature(d).parameters}
    assert arguments == taken - {"function"}

    # `e.json` itself, in the head; the decorated function is func.
    of_timers = {f.alias or name for name, f in TimerCfg.model_fields.items()}
    wanted = (set(TaskCfg.model_fields) | of_timers) - {"timerCfg", "funcType", "func"}
    assert keys - {"e"} == wanted


def test_importing_them_takes_the_standard_library_only() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "from jittask_prefect import After, Cron, Weekly, date_field_task, now, scheduled_task, task, today\n"
        "@scheduled_task(Weekly('mon'))\n"
        "def f(): ...\n"
        "import json; print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(ran.stdout))
    assert "jittask_prefect" in loaded
    assert loaded - {"jittask_prefect"} <= set(sys.stdlib_module_names)


# Types


@pytest.mark.timeout(900)  # the first run reads all packages that the package imports
def test_mypy_finds_contradictions_and_accepts_what_the_guide_shows() -> None:
    """Each line of bad.py with `# wrong` is an error, and no other is. The package's own mypy shares the cache."""
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(SAMPLES)],
        capture_output=True,
        text=True,
        cwd=SAMPLES.parents[2],
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    errors = re.findall(r"(\w+\.py):(\d+): error: ", ran.stdout)
    assert {(file, int(line)) for file, line in errors} == contradictions()


@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")
def test_pyright_finds_the_same_contradictions() -> None:
    command = ["pyright", "--pythonpath", sys.executable, "--outputjson", str(SAMPLES)]
    ran = subprocess.run(command, capture_output=True, text=True)
    found = {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in json.loads(ran.stdout)["generalDiagnostics"]
    }
    assert found == contradictions()


def contradictions() -> set[tuple[str, int]]:
    """The lines of bad.py that a checker of types must find."""
    lines = (SAMPLES / "bad.py").read_text(encoding="utf-8").splitlines()
    wrong = {n for n, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) > 20
    return {("bad.py", n) for n in wrong}
