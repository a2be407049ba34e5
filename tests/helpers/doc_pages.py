"""Does what pages of the guide show, block by block.

`python -P doc_pages.py` reads pages from standard input, `["PAGE", "FOLDER"]` a line, and answers each with an exit code.
What is wrong with a page stands in `wrong.json` in its folder then. The process has imported what pages need, and forks
for each page.

A fenced block is one of these:

    py                      a signature; test_whole_pages.py compares it with the code's own
    text                    a drawing, or what something prints: the only kind that nobody checks
    json, python, … title=  a file; it is written below FOLDER, and no app there has a mistake at the page's end
    json                    keys that differ from the page's e.json; the task with them has no mistake
    python                  run, in the order of the page, in one process; what is printed stands in the comment below
    console                 commands, run; what they print stands below them
    sql                     statements; tests/unit/ledger/test_rights.py executes them
    bash                    commands that a test does not run: each is one that there is, with options that it has
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WRONG, SAID = "wrong.json", "said.txt"
FENCE = re.compile(r"^( *)```(\S*)[ ]*(.*)\n((?:.*\n)*?)\1```[ ]*$", re.MULTILINE)
EMPTY = (
    "docs/index.md",
    "docs/existing.md",
    "docs/coming-from-jittask.md",
    "docs/models.md",
    "docs/howto/async-endpoints.md",
    "docs/howto/one-off.md",
)  # these make an app; all others work on a copy of the demo
WITHOUT_SERVER = {
    "init",
    "new",
    "check",
    "compile",
    "run",
    "preview",
    "calendar",
    "pending",
    "row",
    "db",
    "version",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title, its text, and the line that it begins in."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        _, language, options, body = fence.groups()
        title = re.search(r'title="(.+?)"', options)
        line = text.count("\n", 0, fence.start()) + 1
        found.append(
            Block(language, title[1] if title else "", textwrap.dedent(body), line)
        )
    return found


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console, each with what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, said = part.partition("\n")
        yield command, said.rstrip()


def expected(code: str) -> str:
    """What a block prints, by the comments below its calls of `print`."""
    lines = code.splitlines()
    told = []
    for line, before in zip(lines[1:], lines, strict=False):
        if line.startswith("# ") and (
            before.startswith(("print(", "# "))
            and (told or before.startswith("print("))
        ):
            told.append(line[2:])
    return "\n".join(told)


class Reader:
    """Does what a page says, in a folder of its own.

    Args:
        page: The page.
        folder: Where.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        self.page, self.folder = page, folder
        self.names: dict[str, Any] = {"__name__": "page"}
        self.template: Path | None = None
        self.written = False
        self.wrong: list[str] = []

    def read(self) -> list[str]:
        """Go through the page; what is not as it says."""
        if self.page.relative_to(ROOT).as_posix() not in EMPTY:
            unwanted = shutil.ignore_patterns(".jittask", "__pycache__", "*.db*")
            shutil.copytree(ROOT / "flows", self.folder / "flows", ignore=unwanted)
            self.run("jittask db upgrade --models")
        for block in blocks(self.page):
            try:
                problem = self.block(block)
            except Exception:  # noqa: BLE001  a page's code may raise anything
                problem = traceback.format_exc()
            if problem:
                self.wrong.append(f"{self.page.name}:{block.line}: {problem}")
        for found in sorted(self.folder.glob("*/app.json")) if self.written else ():
            self.wrong += self.mistakes(found.parent)
        return self.wrong

    def block(self, block: Block) -> str:
        """Do one block; what is wrong with it."""
        if block.title:
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
            self.written = True
            if file.name == "e.json" and file.parents[1].name == "tasks":
                self.template = file
            if file.suffix == ".json":
                json.loads(block.text)
            return ""
        match block.language:
            case "json":
                return self.change(json.loads(block.text))
            case "python":
                place = f"{self.page.name}:{block.line}"
                code = compile(block.text, place, "exec", dont_inherit=True)
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(code, self.names)
                return differs(out.getvalue(), expected(block.text))
            case "console":
                return "\n".join(
                    filter(None, (self.console(*c) for c in commands(block.text)))
                )
        return ""

    def console(self, command: str, said: str) -> str:
        """Run a command, and compare what it prints, where the page shows that."""
        code, out = self.run(command)
        return (
            f"{command}: exit code {code}\n{out}"
            if code
            else differs(out, said)
            if said
            else ""
        )

    def run(self, command: str) -> tuple[int, str]:
        """A command's exit code and output; `cd` and `export` hold for what follows."""
        name, *arguments = shlex.split(command)
        if name == "cd":
            os.chdir(arguments[0])
        elif name == "export":
            os.environ.update(a.split("=", 1) for a in arguments)
        elif name == "jittask":
            if arguments[0] not in WITHOUT_SERVER:
                return 1, "a test has no server for it; show it in a block of bash"
            from typer.testing import CliRunner

            from jittask_prefect.cli.commands import cli

            self.forget()
            done = CliRunner().invoke(cli, arguments)
            return (
                done.exit_code,
                done.stdout
                if done.exit_code == 0
                else f"{done.output}{done.exception!r}",
            )
        else:
            module = {
                "pytest": ["pytest", "-q", "-p", "no:cacheprovider"],
                "alembic": ["alembic.config"],
            }[name]
            ran = subprocess.run(
                [sys.executable, "-m", *module, *arguments],
                capture_output=True,
                text=True,
            )
            return ran.returncode, ran.stdout + (ran.stderr if ran.returncode else "")
        return 0, ""

    def change(self, keys: dict[str, Any]) -> str:
        """Whether the page's task, with these keys, has no mistake; afterwards it is as it was."""
        if self.template is None:
            return "keys of no e.json: the page has shown none"
        before = self.template.read_text(encoding="utf-8")
        self.template.write_text(
            json.dumps(merged(json.loads(before), keys)), encoding="utf-8"
        )
        try:
            return "\n".join(self.mistakes(self.template.parents[2]))
        finally:
            self.template.write_text(before, encoding="utf-8")

    def mistakes(self, folder: Path) -> list[str]:
        """What `jittask check` says of an app, read anew."""
        from jittask_prefect import App

        app = App(folder)
        try:
            return [str(problem) for problem in app.check()]
        finally:
            app.close()
            self.forget()

    @staticmethod
    def forget() -> None:
        """Have the next command load its app anew, as a new process does."""
        from jittask_prefect.elements import app

        app._APPS.clear()


def merged(whole: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with other keys, null taking one away (RFC 7396)."""
    found = dict(whole)
    for key, value in keys.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = (
                merged(found.get(key) or {}, value)
                if isinstance(value, dict)
                else value
            )
    return found


def differs(said: str, shown: str) -> str:
    """What is printed and shown, where the two are not the same."""
    same = [line.rstrip() for line in said.strip().splitlines()] == [
        line.rstrip() for line in shown.splitlines()
    ]
    return "" if same else f"prints\n{said.rstrip()}\nand the page shows\n{shown}"


def read_here(page: Path, folder: Path) -> None:
    """Read a page, as a process of its own does that was started in the page's folder."""
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    with (folder / SAID).open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    (folder / WRONG).write_text(json.dumps(Reader(page, folder).read()))


def serve() -> None:
    """Read the pages that standard input names, one after the other."""
    import typer.testing

    import jittask_prefect.cli.commands  # noqa: F401  imported once, not for each page

    assert typer.testing
    for line in sys.stdin:
        page, folder = map(Path, json.loads(line))
        child = os.fork()
        if not child:
            code = 1
            try:
                read_here(page.resolve(), folder.resolve())
                code = 0
            except BaseException:  # noqa: BLE001  a page's code may raise anything
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
