"""Texts of the guide that stand elsewhere too: files of the demo, the commands' help, docstrings.

`python tests/helpers/whole_pages.py` writes them into the pages anew. `tests/guide/test_whole_pages.py` fails while a page
differs from its sources. In a page, comments that no reader sees enclose each such text:

    <!-- file: flows/tasks/ContractReminder/e.json -->      a block with the whole file
    <!-- commands -->                                       every command, with its arguments and options
    <!-- python: errors JittaskError ConfigError -->        signatures and docstrings: a module, and names in the module
    <!-- python: elements.app.App session engine -->        likewise a class, and methods of the class
    <!-- end -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from enum import EnumType
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import griffe
import typer

from jittask_prefect.cli.commands import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PART = re.compile(
    r"^<!-- (file|commands|python)(?:: (.+?))? -->\n(.*?)^<!-- end -->$",
    re.MULTILINE | re.DOTALL,
)
LANGUAGES = {".json": "json", ".py": "python", ".yaml": "yaml", "": "dockerfile"}
LONG = 88
SECTIONS = {
    "parameters": "Arguments",
    "attributes": "Attributes",
    "returns": "Returns",
    "raises": "Raises",
}


def rewritten(text: str) -> str:
    """A page's text, each enclosed part as its source has it now."""

    def part(found: re.Match[str]) -> str:
        kind, argument, _ = found.groups()
        first = found[0].partition("\n")[0]
        match kind:
            case "file":
                body = file_block(argument)
            case "commands":
                body = "\n" + "\n".join(commands()) + "\n"
            case _:
                body = "\n" + "\n".join(python(*argument.split())) + "\n"
        return f"{first}\n{body}<!-- end -->"

    return PART.sub(part, text)


def file_block(path: str) -> str:
    """A fenced block with a whole file; its title is the path, as a reader's own project would have it."""
    text = (ROOT / path).read_text(encoding="utf-8").rstrip("\n")
    title = path.removeprefix("docs/")
    return f'```{LANGUAGES[Path(path).suffix]} title="{title}"\n{text}\n```\n'


# The commands


def commands() -> Iterator[str]:
    """The reference of the commands, line by line."""
    root: Any = typer.main.get_command(cli)
    for name, command in _leaves("jittask", root):
        yield f"## `{name}`"
        yield ""
        yield _flowing(command.help)
        yield ""
        yield f"```text\n{' '.join([name, *_usage(command)])}\n```"
        yield ""
        kinds = get_type_hints(command.callback)
        described = [
            line
            for each in command.params
            if (line := _parameter(each, kinds.get(each.name)))
        ]
        yield from described
        if described:
            yield ""


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for each, child in below.items():
        if not child.hidden:
            yield from _leaves(f"{name} {each}", child)


def _usage(command: Any) -> Iterator[str]:
    if any(each.param_type_name == "option" for each in command.params):
        yield "[OPTIONS]"
    for each in command.params:
        if each.param_type_name == "argument":
            more = "..." if each.nargs == -1 else ""
            name = each.name.upper() + more
            yield name if each.required else f"[{name}]"


def _parameter(each: Any, kind: Any) -> str:
    """An argument or option in a line; an option that only prints help is left out."""
    if getattr(each, "hidden", False) or each.name in ("help", "install_completion", "show_completion"):  # fmt: skip
        return ""
    if each.param_type_name == "argument":
        words = f"`{each.name.upper()}`"
    else:
        words = ", ".join(f"`{name}{_value(each)}`" for name in each.opts)
        words += "".join(f" / `{name}`" for name in each.secondary_opts)
    choices = [m.value for k in (kind, *get_args(kind)) if isinstance(k, EnumType) for m in k]  # fmt: skip
    allowed = f"One of {', '.join(f'`{c}`' for c in choices)}." if choices else ""
    default = getattr(each, "default", None)
    plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    usual = f"Where absent: `{default}`." if plain and default != "" else ""
    said = " ".join(filter(None, [_flowing(each.help), allowed, usual]))
    return f"- {words}: {said}" if said else f"- {words}"


def _value(option: Any) -> str:
    return "" if option.is_flag else f" {option.opts[0].lstrip('-').upper()}"


def _flowing(text: str | None) -> str:
    """Paragraphs in a line each."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


# Python


@cache
def _package() -> Any:
    return griffe.load("jittask_prefect", search_paths=[ROOT])


def python(path: str, *names: str) -> Iterator[str]:
    """The reference of a module's names, or of a class and its methods, line by line."""
    found = _package()[path]
    level = 3
    if found.is_class:
        yield from _described(found, level)
        level += 1
    for name in names:
        member = found.all_members[name]
        yield from _described(member.final_target if member.is_alias else member, level)


def _described(found: Any, level: int) -> Iterator[str]:
    yield f"{'#' * level} {found.name}"
    yield ""
    if signature := _signature(found):
        yield f"```py\n{signature}\n```"
        yield ""
    if found.docstring is None:
        return
    options = {"warnings": False, "returns_multiple_items": False}
    for section in found.docstring.parse("google", **options):
        kind = section.kind.value
        if kind == "text":
            yield section.value
        elif kind == "admonition":
            yield f"{section.title}:\n\n```py\n{section.value.contents.rstrip()}\n```"
        else:
            yield f"{SECTIONS[kind]}:"
            yield ""
            yield from (f"- {_item(kind, each)}" for each in section.value)
        yield ""


def _item(kind: str, each: Any) -> str:
    said = " ".join(each.description.split())
    if kind == "returns":
        return said
    name = each.annotation if kind == "raises" else each.name
    return f"`{name}`: {said}"


def _signature(found: Any) -> str:
    """A call of a function or class; a long one has a line for each argument."""
    if not (found.is_function or found.is_class):
        return ""
    parameters = _of_init(found) if found.is_class else found.parameters
    if found.is_class and not parameters:
        return ""
    returns = f" -> {found.returns}" if found.is_function and found.returns else ""
    arguments = list(_arguments(parameters))
    line = f"{found.name}({', '.join(arguments)}){returns}"
    if len(line) <= LONG:
        return line
    return "\n".join(
        [f"{found.name}(", *(f"    {a}," for a in arguments), f"){returns}"]
    )


def _of_init(found: Any) -> list[Any]:
    """The parameters of a class's `__init__`, or of the inherited one.

    griffe gives a dataclass with `init=False` an `__init__` without parameters, which hides the inherited one.
    """
    for each in (found, *found.mro()):
        own = [p for p in each.parameters if p.name != "self"]
        if own:
            return own

    return []


def _arguments(parameters: Any) -> Iterator[str]:
    before = ""
    for each in parameters:
        kind = each.kind.value
        if each.name == "self":
            continue
        if before == "positional-only" != kind:
            yield "/"
        if kind == "keyword-only" != before and before != "variadic positional":
            yield "*"
        before = kind
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        annotation = f": {each.annotation}" if each.annotation else ""
        default = each.default if not stars else None
        equals = " = " if annotation else "="
        yield f"{stars}{each.name}{annotation}" + (
            f"{equals}{default}" if default is not None else ""
        )


def main() -> None:
    """Rewrite the pages that differ from their sources, and name them."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
