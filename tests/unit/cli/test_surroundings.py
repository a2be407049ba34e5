"""No traceback where a folder may not be written, a terminal knows ASCII only, or nobody reads the output."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from surroundings import ASCII, Run, Said, commands

COMMANDS = ("check", "doctor", "compile", "new scheduled Weekly", "init sub", "up")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with commands() as found:
        yield found


def make(run: Run, folder: Path) -> Path:
    """A new app, whose prefect.yaml is still to be compiled."""
    assert run(folder, "init", "shop").code == 0
    (folder / "shop" / "prefect.yaml").unlink()
    return folder / "shop"


def forbid(folder: Path) -> None:
    """Nothing below a folder may be written."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def is_sentence(said: Said, *words: str) -> None:
    assert said.code == 1, said
    assert "Traceback" not in said.all
    assert all(word in said.err for word in words), said


def test_a_folder_that_may_not_be_written_is_named(run: Run, tmp_path: Path) -> None:
    shop = make(run, tmp_path)
    forbid(shop)
    assert run(shop, "check").code == 0, "it writes nothing"
    tasks = str(shop / "tasks" / "Weekly")
    is_sentence(run(shop, "new", "scheduled", "Weekly"), tasks, "Permission denied")
    is_sentence(run(shop, "init", "sub"), "sub", "Permission denied")
    is_sentence(run(shop, "compile"), str(shop), "Permission denied")


def test_up_where_nothing_may_be_written(run: Run, tmp_path: Path) -> None:
    shop = make(run, tmp_path)
    (shop / "app.db").unlink()
    forbid(shop)
    said = run(shop, "up")
    is_sentence(said, "unable to open database file", "that may be written")
    assert "makes missing tables" not in said.err, "there is no table that is missing"
    assert run(shop, "doctor").code == 1


def test_up_where_only_the_database_may_be_written(run: Run, tmp_path: Path) -> None:
    shop = make(run, tmp_path)
    config = json.loads((shop / "app.json").read_text())
    config["database"] = f"sqlite:///{tmp_path}/elsewhere.db"
    (shop / "app.json").write_text(json.dumps(config))
    forbid(shop)
    is_sentence(run(shop, "up"), str(shop / ".jittask"), "Permission denied")


def test_a_database_that_may_not_be_written(run: Run, tmp_path: Path) -> None:
    shop = make(run, tmp_path)
    with sqlite3.connect(shop / "app.db") as connection:
        connection.execute("DROP TABLE contract")
    forbid(shop)
    said = run(shop, "db", "upgrade", "--models")
    is_sentence(said, "readonly database", "may be written")


def test_a_project_that_may_not_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    forbid(tmp_path)
    is_sentence(run(tmp_path, "init", "--here"), "shop", "Permission denied")


def test_a_place_where_no_folder_can_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    is_sentence(run(tmp_path, "init", "file/shop"), "file", "Not a directory")
    is_sentence(run(tmp_path, "init", "x" * 300), "File name too long")


def test_a_terminal_of_ascii(tmp_path: Path) -> None:
    with commands(**ASCII) as run:
        name = os.fsencode("Läden").decode("ascii", "surrogateescape")
        is_sentence(run(tmp_path, "init", name), "LC_ALL=C.UTF-8")
        assert not any(tmp_path.iterdir())
        assert run(tmp_path, "init", "shop").code == 0
        shop = tmp_path / "shop"
        config = json.loads((shop / "app.json").read_bytes())
        (shop / "app.json").write_text(json.dumps({**config, "title": "Läden · 商店"}))
        for command in COMMANDS[:-1]:
            said = run(shop, *command.split())
            assert said.code == (command == "doctor"), said
            assert "Traceback" not in said.all
            assert said.all.isascii()
        (shop / "tasks/DailyReport/e.json").write_text("{}")
        said = run(shop, "check")
        assert (said.code, said.all.isascii()) == (1, True), said


@pytest.mark.parametrize("output", ["out", "err", "both"])
@pytest.mark.parametrize("way", ["broken", "closed", "full"])
def test_nobody_reads(run: Run, tmp_path: Path, way: str, output: str) -> None:
    shop = make(run, tmp_path)
    # Streams closed at the start need a process of their own for each command.
    for command in COMMANDS[:1] if way == "closed" else COMMANDS[:-1]:
        said = run(shop, *command.split(), mode=f"{way} {output}")
        assert said.code in (0, 1), said
        assert "Traceback" not in said.all, said
        assert "Exception ignored" not in said.all, said
    if way == "closed":
        return
    (shop / "tasks").rename(shop / "none")  # an app without a task starts no server
    said = run(shop, "up", mode=f"{way} {output}")
    assert said.code == 1, said
    assert "Traceback" not in said.all, said


def test_a_full_disk_is_said(run: Run, tmp_path: Path) -> None:
    shop = make(run, tmp_path)
    is_sentence(run(shop, "compile", mode="full out"), "No space left on device")
