"""Every fenced block of the guide and of the README is run, or at least checked; what prints is compared.

What the languages of the blocks mean is said in `doc_pages.py`, which does each page in a process of its own.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path

import doc_pages
import pytest
import yaml
from doc_pages import FENCE, ROOT, Block, blocks, commands, expected, merged
from prefect.settings import Settings
from prefect.testing.cli import CycloptsCliRunner
from prefect_redis.cleanup_queue import RedisWorkerCleanupQueueSettings as Cleanups
from prefect_redis.client import RedisMessagingSettings as Redis
from typer.testing import CliRunner

from jittask_prefect import App
from jittask_prefect.cli.commands import cli
from jittask_prefect.rows.databases import upgrade

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DONE = {"json", "python", "console"}  # by doc_pages.py
OTHERS = {
    "alembic",
    "cd",
    "createdb",
    "curl",
    "docker",
    "export",
    "mkdocs",
    "pg_restore",
    "pip",
    "psql",
    "pytest",
    "python3",
    "systemctl",
    ".",
}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_block_is_of_a_kind_that_is_tested(page: Path) -> None:
    found = blocks(page)
    for block in found:
        assert block.language in {
            *DONE,
            "bash",
            "ini",
            "py",
            "sql",
            "text",
            "toml",
            "yaml",
            "dockerfile",
        }, f"{name(page)}:{block.line}: nobody tests {block.language!r}"
    # No fence is passed over: those of a page open and close these blocks, and there are no others.
    fences = re.findall(
        r"^\s*(?:```|~~~)", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(fences) == 2 * len(found)


@pytest.fixture(scope="module")
def read() -> Iterator[Callable[[Path, Path], list[str]]]:
    """Does a page in a folder; what is wrong with the page."""
    env = {**os.environ, "COLUMNS": "120"}
    env.pop("JITTASK_APP", None)
    command = [sys.executable, "-P", doc_pages.__file__]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env=env
    ) as pages:
        assert pages.stdin and pages.stdout
        given, answers = pages.stdin, pages.stdout

        def done(page: Path, folder: Path) -> list[str]:
            print(json.dumps([str(page), str(folder)]), file=given, flush=True)
            said = folder / doc_pages.SAID
            assert answers.readline() == "0\n", said.exists() and said.read_text()
            wrong: list[str] = json.loads((folder / doc_pages.WRONG).read_text())
            return wrong

        yield done
        given.close()


@pytest.mark.parametrize(
    "page", [p for p in PAGES if DONE & {b.language for b in blocks(p)}], ids=name
)
def test_the_page_does_what_it_shows(
    page: Path, tmp_path: Path, read: Callable[[Path, Path], list[str]]
) -> None:
    assert read(page, tmp_path) == []


def test_the_readmes_e_json_is_the_demos_own() -> None:
    shown_ = json.loads(readme("json")[0])
    real = json.loads(
        (ROOT / "flows/tasks/ContractReminder/e.json").read_text(encoding="utf-8")
    )
    real["timerCfg"].pop("holidayPolicy")  # the README leaves the default out
    assert shown_ == real


def test_the_readmes_inner_py_is_the_demos_own_but_for_one_line() -> None:
    real = (
        (ROOT / "flows/tasks/ContractReminder/inner.py")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    assert readme("python")[0].splitlines()[1:] == [
        line for line in real[1:] if "remindedAt" not in line
    ]


def test_the_readmes_rows_have_the_tasks_that_it_tells_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(
        ROOT / "flows",
        tmp_path / "flows",
        ignore=shutil.ignore_patterns(".jittask", "*.db*"),
    )
    app = App(tmp_path / "flows")
    upgrade(app, models=True)
    app.close()
    monkeypatch.setenv("JITTASK_APP", str(tmp_path / "flows"))
    exec(readme("python")[2], {})
    with sqlite3.connect(tmp_path / "flows" / "shop.db") as connection:
        found = connection.execute(
            "SELECT row_key, coalesce(outcome, status), due FROM jittask_ledger "
            "WHERE template = 'tasks.ContractReminder' ORDER BY row_key"
        ).fetchall()
    (ada, missed, _), (li, pending, due) = found
    assert (ada, missed, li, pending) == ("41", "missed", "42", "pending")
    # 53 days ahead; a holiday moves it by ten days at most
    assert 52 <= (datetime.fromisoformat(due) - datetime.now()).days <= 63


def test_every_file_that_the_readme_names_is_there() -> None:
    links = re.findall(
        r"\]\((?!https?:)([^)#]+)\)", PAGES[0].read_text(encoding="utf-8")
    )
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def readme(language: str) -> list[str]:
    return [block.text for block in blocks(PAGES[0]) if block.language == language]


def shown(language: str) -> list[tuple[str, Block]]:
    return [
        (name(page), block)
        for page in PAGES
        for block in blocks(page)
        if block.language == language
    ]


@pytest.mark.parametrize(
    ("page", "block"),
    shown("bash"),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_commands_of_a_block_of_bash_are_there(page: str, block: Block) -> None:
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    for line in filter(None, (shlex.split(line, comments=True) for line in lines)):
        for words in split(line):
            assert command(words), f"{page}:{block.line}: {shlex.join(words)}"


def split(line: list[str]) -> list[list[str]]:
    """The commands that a line joins by `&&`."""
    found: list[list[str]] = [[]]
    for word in line:
        if word == "&&":
            found.append([])
        else:
            found[-1].append(word)
    return found


def command(words: list[str]) -> bool:
    """Whether there is such a command with such options; `NAME=value` names a setting that there is."""
    program, arguments = Path(words[0]).name or words[0], words[1:]
    if program == "jittask":
        # `--help` after all others: these are read, and nothing is done.
        return CliRunner().invoke(cli, [*arguments, "--help"]).exit_code == 0
    if program == "prefect":
        return prefect(tuple(arguments))
    if program == "export":
        return all(setting(argument.partition("=")[0]) for argument in arguments)
    return program in OTHERS


@cache
def prefect(arguments: tuple[str, ...]) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "prefect.logging.configuration.setup_logging", lambda: None
        )  # of this process
        return CycloptsCliRunner().invoke([*arguments, "--help"]).exit_code == 0


@cache
def settings() -> str:
    """The names of Prefect's settings, which Pydantic knows as aliases, and ours."""
    ours = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("jittask_prefect", "benchmarks", "tests/helpers")
        for path in (ROOT / folder).rglob("*.py")
    )
    parts = {"MESSAGING": Redis, "WORKER_CLEANUP_QUEUE": Cleanups}
    redis = [
        f"PREFECT_REDIS_{part}_{field.upper()}"
        for part, of_part in parts.items()
        for field in of_part.model_fields
    ]
    return json.dumps([Settings.model_json_schema(), redis]) + ours


def setting(variable: str) -> bool:
    """Whether there is a setting; a setting for one app has the app's name behind `__`."""
    return re.search(rf'["`]{variable.partition("__")[0]}["`]', settings()) is not None


def test_every_variable_that_is_named_is_a_setting() -> None:
    for page in PAGES:
        for variable in set(
            re.findall(
                r"\b(?:PREFECT|JITTASK)_[A-Z_]+[A-Z]\b",
                page.read_text(encoding="utf-8"),
            )
        ):
            assert setting(variable), f"{name(page)}: {variable}"


@pytest.mark.parametrize(
    ("page", "block"),
    shown("ini"),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_unit_of_systemd_starts_what_is_there(page: str, block: Block) -> None:
    if block.title.endswith(".env"):
        names = [line.partition("=")[0] for line in block.text.splitlines()]
        assert [each for each in names if not setting(each)] == []
        return
    read = configparser.ConfigParser()
    read.optionxform = str  # type: ignore[method-assign,assignment]
    read.read_string(block.text)
    if block.title.endswith(".service"):
        assert set(read.sections()) == {"Unit", "Service", "Install"}
        assert command(shlex.split(read["Service"]["ExecStart"]))


def test_the_services_of_the_compose_file_start_what_is_there() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    assert set(services) == {"database", "server", "release", "worker"}
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        for variable in service["environment"]:
            assert variable.startswith("POSTGRES_") or setting(variable), variable
    for name in ("server", "release", "worker"):
        words = shlex.split(services[name]["command"])
        line = shlex.split(words[2]) if words[:2] == ["sh", "-c"] else words
        for each in split(line):
            assert command(each), f"{name}: {shlex.join(each)}"


def test_every_path_that_the_image_copies_is_there() -> None:
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    copied = [shlex.split(line)[1:-1] for line in lines if line.startswith("COPY ")]
    paths = [path for words in copied for path in words if not path.startswith("--")]
    assert len(paths) == 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_command_that_a_sentence_names_is_there() -> None:
    known = set(
        re.findall(
            r"^\W*(\w+)\s{2,}",
            CliRunner().invoke(cli, ["--help"], env={"COLUMNS": "120"}).stdout,
            re.M,
        )
    )
    assert {"check", "preview", "db"} <= known
    for page in PAGES:
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        for words in re.findall(r"`jittask\s+([a-z]+)\b(?!:)", prose):
            assert words in known, f"{name(page)}: jittask {words}"


def test_the_blocks_are_found_and_read_as_meant(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        'a\n```python title="x/y.py"\nprint(1)\n# 1\n```\n\n- b\n\n    ```console\n    $ c d\n    e\n    ```\n'
    )
    code, console = blocks(page)
    assert (code.language, code.title, code.line, expected(code.text)) == (
        "python",
        "x/y.py",
        2,
        "1",
    )
    assert list(commands(console.text)) == [("c d", "e")]
    assert expected("print(1)\n# 1\n# 2\nx = 1\n# no\n") == "1\n2"
    assert merged({"a": 1, "b": {"c": 1, "d": 2}}, {"a": None, "b": {"c": 3}}) == {
        "b": {"c": 3, "d": 2}
    }
