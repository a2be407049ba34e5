"""Files of elements as Python modules: parent packages and pickle."""

from __future__ import annotations

import builtins
import importlib
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from jittask_prefect.errors import ConfigError
from jittask_prefect.testing import build_app

SERVICE = """
from enum import Enum

class Size(Enum):
    SMALL = 1

class NoticeSvc:
    pass
"""
SVC = {"e.json": {"type": "services.NormalType"}, "service.py": SERVICE}


def service(tmp_path: Path) -> Any:
    app = build_app(tmp_path / "app", {"services/NoticeSvc": SVC}, ready=False)
    return app.module("services.NoticeSvc", "service")


def test_a_class_of_an_element_pickles(tmp_path: Path) -> None:
    size = service(tmp_path).Size
    assert pickle.loads(pickle.dumps(size.SMALL)) is size.SMALL


def test_the_parent_packages_are_modules(tmp_path: Path) -> None:
    module = service(tmp_path)
    folder, _, name = module.__package__.rpartition(".")
    assert name == "NoticeSvc" and folder.endswith(".services")
    assert (
        importlib.import_module(module.__package__) is sys.modules[module.__package__]
    )
    assert importlib.import_module(".service", module.__package__) is module


def test_two_apps_have_classes_of_their_own(tmp_path: Path) -> None:
    one, two = service(tmp_path / "one"), service(tmp_path / "two")
    assert one.__name__ != two.__name__
    assert pickle.loads(pickle.dumps(two.Size.SMALL)) is not one.Size.SMALL


def test_a_loaded_file_waits_for_nobody(tmp_path: Path) -> None:
    app = build_app(tmp_path, {"services/Rates": {"rates.py": "VALUE = 1\n"}})
    app.module("services.Rates", "rates")
    with app.alone("services.Rates", "rates"), ThreadPoolExecutor(1) as pool:
        found = pool.submit(app.module, "services.Rates", "rates").result(timeout=5)
    assert found.VALUE == 1


def test_a_file_that_is_being_loaded_is_waited_for(tmp_path: Path) -> None:
    slow = (
        "import builtins\nbuiltins.began.set()\nbuiltins.may_end.wait(5)\nVALUE = 1\n"
    )
    app = build_app(tmp_path, {"services/Rates": {"rates.py": slow}})
    began, may_end = Event(), Event()
    vars(builtins).update(began=began, may_end=may_end)
    try:
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(app.module, "services.Rates", "rates")
            assert began.wait(5)
            other = pool.submit(app.module, "services.Rates", "rates")
            assert not wait([other], timeout=0.05).done
            may_end.set()
            assert other.result(5) is one.result(5)
    finally:
        del vars(builtins)["began"], vars(builtins)["may_end"]


def test_a_file_that_fails_is_not_kept(tmp_path: Path) -> None:
    app = build_app(tmp_path, {"services/Rates": {"rates.py": "VALUE = 1\n"}})
    first = app.module("services.Rates", "rates")
    app.forget_modules("services.Rates")
    assert app.module("services.Rates", "rates") is not first
    app.forget_modules("services.Rates")
    (tmp_path / "services" / "Rates" / "rates.py").write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match="division by zero"):
            app.module("services.Rates", "rates")
