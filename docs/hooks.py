"""MkDocs calls this: the reference of the commands is written from the commands themselves, at each build."""

import re
import subprocess
import sys

MARK = "<!-- the commands -->"
DOCS = [
    "-m",
    "typer",
    "jittask_prefect.cli.commands",
    "utils",
    "docs",
    "--name",
    "jittask",
]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the commands where a page asks for them."""
    return markdown.replace(MARK, commands()) if MARK in markdown else markdown


def commands() -> str:
    """Every command with its arguments and options, as typer describes them."""
    told = subprocess.run(
        [sys.executable, *DOCS], capture_output=True, text=True, check=True
    ).stdout
    sections = told[told.index("\n## ") + 1 :]
    without_help = re.sub(r"^\* `--help`.*\n", "", sections, flags=re.MULTILINE)
    return re.sub(r"\*\*Options\*\*:\n+(?=\*\*|#|\Z)", "", without_help)
