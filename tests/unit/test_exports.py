"""What the package says it exports is what it exports."""

from __future__ import annotations

import jittask_prefect
from jittask_prefect import errors


def test_all_names_what_is_importable() -> None:
    for name in jittask_prefect.__all__:
        assert getattr(jittask_prefect, name) is not None, name
    lazy = set(jittask_prefect._HOMES)
    eager = {
        n
        for n, v in vars(jittask_prefect).items()
        if isinstance(v, type) and v.__module__ == errors.__name__
    }
    assert sorted(jittask_prefect.__all__) == sorted(lazy | eager)


def test_all_is_sorted_and_without_doubles() -> None:
    assert list(jittask_prefect.__all__) == sorted(set(jittask_prefect.__all__))


def test_every_error_of_the_tree_is_exported() -> None:
    tree = {
        n
        for n, v in vars(errors).items()
        if isinstance(v, type) and issubclass(v, errors.JittaskError)
    }
    assert tree <= set(jittask_prefect.__all__)


def test_what_the_contract_imports() -> None:
    names: dict[str, object] = {}
    exec(
        "from jittask_prefect import app, NormalType, DateFieldType, NormalService, Timer",
        names,
    )
    assert {"app", "NormalType", "DateFieldType", "NormalService", "Timer"} <= set(
        names
    )


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(jittask_prefect, "Nothing")


def test_every_error_has_its_docstring_for_a_message() -> None:
    assert str(errors.UnknownTask()) == "There is no task of that id."
    assert str(errors.UnknownTask("no 5")) == "no 5"
