"""Marked functions name elements: each function its own, and a function that is decorated twice none."""

from __future__ import annotations

from pathlib import Path

import pytest
from marked import marks_of

from jittask_prefect.elements.decorated.mark_names import by_name, same_function


def test_a_module_that_is_imported_anew_marks_no_second_function(
    tmp_path: Path,
) -> None:
    text = "@task\ndef f(): ...\n"
    first, _ = marks_of(tmp_path, text)
    second, _ = marks_of(tmp_path, text)
    sound, broken = by_name([*first, *second], tmp_path)
    assert sound == {"tasks.F": second[0]}
    assert broken == {}


@pytest.mark.parametrize(
    "text",
    [
        "@task\n@task(timeout=5)\ndef f(): ...\n",
        "@task(name='A')\n@task(name='B')\ndef f(): ...\n",
        "import functools\n"
        "def wrapper(g):\n    return functools.wraps(g)(lambda: g())\n"
        "@task\n@wrapper\n@task(name='B')\ndef f(): ...\n",
    ],
)
def test_a_function_with_two_decorators_is_no_element(
    tmp_path: Path, text: str
) -> None:
    first, second = marks_of(tmp_path, text)[0]
    assert same_function(first, second)
    sound, broken = by_name([first, second], tmp_path)
    assert sound == {}
    assert {str(e).partition("function: ")[2] for e in broken.values()} == {
        "found 2 decorators on f; allowed: one for each function; another function may call this one"
    }


def test_functions_with_equal_code_are_not_the_same(tmp_path: Path) -> None:
    text = "@task\ndef f(): ...\n@task\ndef g(): ...\n"
    first, second = marks_of(tmp_path, text)[0]
    assert not same_function(first, second)
    assert by_name([first, second], tmp_path)[1] == {}
