"""Files of elements as Python modules: parent packages and pickle."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

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
