"""Every page is whole where people read it: on a code host, in an editor, as a site.

Files of the demo, the commands' help and docstrings stand in the pages. `python tests/helpers/whole_pages.py` writes them anew.
"""

from __future__ import annotations

import inspect
import re
from enum import Enum
from pathlib import Path
from typing import Annotated

import pytest
import typer
import whole_pages
from doc_pages import ROOT, blocks
from whole_pages import PAGES, PART, rewritten

import jittask_prefect
from jittask_prefect.cli.commands import cli
from jittask_prefect.elements.decorated.pieces import Piece
from jittask_prefect.task_svc.service import TaskSvc

ADVICE = "run `python tests/helpers/whole_pages.py`"
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_as_its_sources_are(page: Path) -> None:
    assert rewritten(text(page)) == text(page), ADVICE


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_has_no_marker_that_only_a_site_resolves(page: Path) -> None:
    prose = FENCED.sub("", text(page))
    assert re.findall(r"^\s*(?:--8<--|:::|===\s|!!!|\?\?\?).*", prose, re.M) == []
    assert "--8<--" not in text(page)
    assert all(found[3].strip() for found in PART.finditer(text(page))), ADVICE
    begun = re.findall(r"<!-- (?:file|commands|python)\b", text(page))
    assert len(begun) == len(PART.findall(text(page)))


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "README.md"], ids=name)
def test_a_page_begins_with_what_its_reader_has_at_its_end(page: Path) -> None:
    _, first, *_ = text(page).split("\n\n")
    assert first.startswith("**At the end** you "), first


def test_every_task_of_the_demo_stands_in_a_page_in_both_forms() -> None:
    pages = [page for page in PAGES if page.parent.name == "howto"]
    shown = {(block.title, block.text) for page in pages for block in blocks(page)}
    folders, functions = ROOT / "flows/tasks", ROOT / "docs/shop"
    whole = [*folders.glob("*/e.json"), *folders.glob("*/inner.py")]
    shared = ("__init__", "models", "notices")
    whole += [file for file in functions.glob("*.py") if file.stem not in shared]
    assert len(whole) == 10 + 9 + 10
    for file in whole:
        title = name(file).removeprefix("docs/")
        assert (title, file.read_text(encoding="utf-8")) in shown, title


def test_every_command_and_option_stands_in_the_page_of_commands() -> None:
    """By the functions' own signatures."""
    page = text(ROOT / "docs/commands.md")
    for command in cli.registered_commands:
        assert command.callback
        named = command.name or command.callback.__name__.replace("_", "-")
        section = page.partition(f"## `jittask {named}`\n")[2].partition("\n## ")[0]
        said = inspect.getdoc(command.callback)
        assert said and said.partition("\n")[0] in section
        for annotation in inspect.get_annotations(command.callback).values():
            for option in re.findall(r"--[a-z][a-z-]+", str(annotation)):
                assert f"`{option}" in section, (named, option)


def test_every_method_of_the_facade_stands_in_the_page_of_python() -> None:
    page = text(ROOT / "docs/python.md")
    for method in [m for m in vars(TaskSvc) if m[0] != "_" and m not in ("api", "connect")]:  # fmt: skip
        assert f"\n#### {method}\n\n```py\n{method}(" in page
        said = inspect.getdoc(getattr(TaskSvc, method))
        assert said and said.partition("\n")[0] in page
    headings = set(re.findall(r"^####? (\w+)$", page, re.M))
    assert set(jittask_prefect.__all__) - headings <= {"app"}


def test_every_rule_and_offset_has_its_call_in_the_page_of_python() -> None:
    """Those too that inherit their `__init__`."""
    page = text(ROOT / "docs/python.md")
    named = [n for n in jittask_prefect.__all__ if isinstance(kind := getattr(jittask_prefect, n), type) and issubclass(kind, Piece)]  # fmt: skip
    assert len(named) == 14
    for each in named:
        assert f"\n### {each}\n\n```py\n{each}(" in page, each


class Size(Enum):
    """The choices of an argument."""

    small = "small"
    large = "large"


def test_a_command_is_described_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = typer.Typer()

    @shop.callback()
    def _all() -> None: ...

    @shop.command("buy")
    def _buy(
        size: Annotated[Size, typer.Argument(help="How large.")],
        price: Annotated[int, typer.Option("--at", help="The price\nin cents.")] = 3,
        gift: Annotated[bool, typer.Option("--gift", help="Wrapped.")] = False,
    ) -> None:
        """Buy a thing."""

    monkeypatch.setattr(whole_pages, "cli", shop)
    assert list(whole_pages.commands())[4:] == [
        "```text\njittask buy [OPTIONS] SIZE\n```",
        "",
        "- `SIZE`: How large. One of `small`, `large`.",
        "- `--at AT`: The price in cents. Where absent: `3`.",
        "- `--gift`: Wrapped.",
        "",
    ]


def test_a_stale_part_is_written_anew_and_the_rest_left_alone() -> None:
    page = "a\n<!-- file: flows/data/feed.json -->\nold\n<!-- end -->\nb\n"
    whole = (ROOT / "flows/data/feed.json").read_text(encoding="utf-8").rstrip("\n")
    assert rewritten(page) == (
        "a\n<!-- file: flows/data/feed.json -->\n"
        f'```json title="flows/data/feed.json"\n{whole}\n```\n<!-- end -->\nb\n'
    )
