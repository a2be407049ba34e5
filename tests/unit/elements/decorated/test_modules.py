"""Modules of an app: imported without disturbing names, within ten seconds; a broken module is tried again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jittask_prefect.elements.decorated import modules as module_room
from jittask_prefect.elements.decorated.modules import (
    Modules,
    import_folders,
    source_of,
)
from jittask_prefect.elements.project import Place


@pytest.fixture(autouse=True)
def own_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test puts on the path, and imports, is gone afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("clinic_"):
            del sys.modules[name]


def written(folder: Path, **files: str) -> Place:
    for name, text in files.items():
        file = folder / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        for package in (*file.parents,)[: len(name.split("__")) - 1]:
            (package / "__init__.py").touch()
        file.write_text(text)
    return Place(folder, "pyproject.toml")


def loaded(place: Place, *names: str) -> Modules:
    made = Modules(place, names)
    made.load()
    return made


def told(modules: Modules, name: str) -> str:
    return str(modules.broken[name].error)


def test_a_module_is_imported_once_and_stays_python_s(tmp_path: Path) -> None:
    place = written(tmp_path, clinic_a__tasks="made = []\nmade.append(1)\n")
    first, second = (loaded(place, "clinic_a.tasks") for _ in range(2))
    assert first.broken == second.broken == {}
    assert sys.modules["clinic_a.tasks"].made == [1]
    assert [m.__name__ for m in first.imported()] == ["clinic_a.tasks"]


def test_the_project_takes_nobody_s_names(tmp_path: Path) -> None:
    """The project's folder comes last: its `statistics` and `tasks` are not found before installed ones."""
    place = written(tmp_path, statistics="raise RuntimeError('not me')", clinic_b="x=1")
    loaded(place, "clinic_b")
    assert sys.path[-1] == str(tmp_path)
    code = "import sys; from pathlib import Path; from jittask_prefect.elements.decorated.modules import Modules\n"
    code += "from jittask_prefect.elements.project import Place\n"
    code += f"Modules(Place(Path({str(tmp_path)!r}), 'pyproject.toml'), ['clinic_b']).load()\n"
    code += "import statistics, clinic_b; print(clinic_b.x, statistics.mean([1, 3]))"
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "1 2", done.stderr


def test_src_is_importable(tmp_path: Path) -> None:
    place = written(tmp_path, src__clinic_c__tasks="x = 1")
    (tmp_path / "src/__init__.py").unlink()
    assert loaded(place, "clinic_c.tasks").broken == {}


def test_modules_beside_an_app_folder(tmp_path: Path) -> None:
    written(tmp_path, clinic_d="x = 1")
    place = Place(tmp_path / "flows")
    assert import_folders(place, ["clinic_d"]) == [tmp_path]
    assert loaded(place, "clinic_d").broken == {}


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    found = loaded(written(tmp_path, clinic_e__tasks="x=1"), "clinic_e.task")
    assert told(found, "clinic_e.task") == (
        "pyproject.toml: tool.jittask.modules: found clinic_e.task, which is not there; "
        f"allowed: modules that Python finds: installed, or in {tmp_path}"
    )
    assert not found.broken["clinic_e.task"].source.exact


def test_a_module_that_fails_names_its_line(tmp_path: Path) -> None:
    place = written(tmp_path, clinic_f__tasks="x = 1\n\n1 / 0\n", clinic_f__good="x=1")
    found = loaded(place, "clinic_f.tasks", "clinic_f.good")
    assert told(found, "clinic_f.tasks") == (
        "clinic_f/tasks.py: line 3: found clinic_f.tasks, which fails: "
        "ZeroDivisionError: division by zero; allowed: a module that imports"
    )
    assert [m.__name__ for m in found.imported()] == ["clinic_f.good"]


def test_a_module_that_lacks_a_library_says_so(tmp_path: Path) -> None:
    found = loaded(written(tmp_path, clinic_g="import nothing_such"), "clinic_g")
    assert "clinic_g.py: line 1" in told(found, "clinic_g")
    assert "No module named 'nothing_such'" in told(found, "clinic_g")


def test_a_syntax_error_and_an_exit(tmp_path: Path) -> None:
    place = written(
        tmp_path, clinic_h="x = 1\ndef (:\n", clinic_i="raise SystemExit(3)"
    )
    found = loaded(place, "clinic_h", "clinic_i")
    assert told(found, "clinic_h").startswith("clinic_h.py: line 2: found clinic_h")
    assert "SystemExit: 3" in told(found, "clinic_i")


def test_modules_that_import_each_other(tmp_path: Path) -> None:
    place = written(
        tmp_path,
        clinic_j__models="from clinic_j.tasks import remind\nclass Visit: ...\n",
        clinic_j__tasks="from clinic_j.models import Visit\ndef remind(): ...\n",
    )
    found = told(loaded(place, "clinic_j.tasks"), "clinic_j.tasks")
    assert "clinic_j/models.py: line 1" in found
    assert found.endswith(
        "of two modules that import each other, one imports the other in a function"
    )


def test_and_between_columns_is_told_with_the_right_spelling(tmp_path: Path) -> None:
    text = "from sqlalchemy import column\nx = column('a') > 1 and column('b') > 2\n"
    found = told(loaded(written(tmp_path, clinic_u=text), "clinic_u"), "clinic_u")
    assert found.startswith("clinic_u.py: line 2: ")
    assert "& for and, | for or" in found


def test_a_slow_module_is_broken_until_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_room, "SECONDS", 0.2)
    go_on = threading.Event()
    monkeypatch.setattr(threading, "clinic_go_on", go_on, raising=False)
    place = written(
        tmp_path,
        clinic_k="import threading\nthreading.clinic_go_on.wait(60)\n",
        clinic_l="x = 1",
    )
    found = loaded(place, "clinic_k", "clinic_l")
    assert "its import has not ended within 0.2 s" in told(found, "clinic_k")
    assert "work of that length belongs into a function" in told(found, "clinic_k")
    assert [m.__name__ for m in found.imported()] == ["clinic_l"]

    go_on.set()
    found._imports["clinic_k"].thread.join(60)
    before = found.version
    found.load(retry=False)  # the end of its import is seen at once
    assert found.broken == {}
    assert found.version > before


def test_a_module_that_failed_is_tried_again_when_its_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(module_room, "monotonic", lambda: now[0])
    place = written(tmp_path, clinic_m="1 / 0")
    found = loaded(place, "clinic_m")
    (tmp_path / "clinic_m.py").write_text("x = 'now it is right'")
    now[0] += 29
    found.load()
    assert found.broken
    now[0] += 1
    found.load(retry=False)  # a save does not wait for an import
    assert found.broken
    found.load()
    assert found.broken == {}


def test_a_module_that_asks_for_the_app_while_it_is_imported(tmp_path: Path) -> None:
    """`app.getElement` at the top of a module, in another thread's import as well, waits for nobody."""
    place = written(tmp_path, clinic_n="import clinic_o\nclinic_o.modules.load()\n")
    made = Modules(place, ["clinic_n"])
    helper = type(sys)("clinic_o")
    helper.modules = made
    sys.modules["clinic_o"] = helper
    made.load()
    assert made.broken == {}
    assert made.loaded


def test_load_in_the_middle_of_a_modules_own_import(tmp_path: Path) -> None:
    """A web process's main module is one of the modules, and calls `app.load()`: its rest is read later."""
    place = written(tmp_path, clinic_p="import clinic_q\nclinic_q.modules.load()\nx=1")
    made = Modules(place, ["clinic_p"])
    helper = type(sys)("clinic_q")
    helper.modules = made
    sys.modules["clinic_q"] = helper
    __import__("clinic_p")
    assert not made.loaded
    made.load()
    assert made.loaded
    assert made.broken == {}


def test_code_that_works_in_the_main_thread_only(tmp_path: Path) -> None:
    text = "import signal\nsignal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))\n"
    assert loaded(written(tmp_path, clinic_r=text), "clinic_r").broken == {}


def test_the_source_is_found_without_an_import(tmp_path: Path) -> None:
    loaded(written(tmp_path, clinic_s__sub__tasks="1 / 0"), "clinic_s.sub.tasks")
    for name in [n for n in sys.modules if n.startswith("clinic_s")]:
        del sys.modules[name]
    assert source_of("clinic_s.sub.tasks") == tmp_path / "clinic_s/sub/tasks.py"
    assert "clinic_s" not in sys.modules
    assert source_of("clinic_s.nothing.tasks") is None


def test_a_module_that_is_installed_beside_the_project_s(tmp_path: Path) -> None:
    written(tmp_path / "site", clinic_t="x = 'old'")
    sys.path.insert(0, str(tmp_path / "site"))
    found = loaded(written(tmp_path / "project", clinic_t="x = 'new'"), "clinic_t")
    ((name, file, place),) = found.doubled()
    assert (name, file) == ("clinic_t", str(tmp_path / "site/clinic_t.py"))
    assert place == tmp_path / "project/clinic_t.py"


def test_below_a_module(tmp_path: Path) -> None:
    found = Modules(Place(tmp_path), ["clinic.tasks"])
    assert found.covers("clinic.tasks.bills")
    assert not found.covers("clinic.tasks2")
    assert not found.covers("clinic")
