"""An existing project becomes an app: a table in its pyproject.toml, and a module with an example."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from jittask_prefect.elements.app import App
from jittask_prefect.elements.config import machine_zone
from jittask_prefect.elements.config_texts import display_text
from jittask_prefect.elements.decorated.marked_source import names_in
from jittask_prefect.elements.decorated.modules import source_of
from jittask_prefect.elements.files import replace_file
from jittask_prefect.elements.project import GENERATED, PYPROJECT, project_of
from jittask_prefect.elements.scaffold import RESERVED, date_fields, english_name
from jittask_prefect.elements.survey import DateField, Survey, survey
from jittask_prefect.errors import ArgumentError, invalid

_SCHEDULED = '''from jittask_prefect import Daily, scheduled_task


# Every day at 09:00, in the zone that pyproject.toml names.
@scheduled_task(Daily(at="09:00"))
def daily_report():
    """Daily report."""
    print("it is time")
'''
_HEAD = '''"""Background tasks: `jittask check` reads them, `jittask up` runs them."""

'''


@dataclass(frozen=True)
class Made:
    """The work of `init_here`.

    Attributes:
        table: The lines that pyproject.toml has now.
        example: The file with the example.
        example_text: Its content.
        survey: The project.
    """

    table: str
    example: Path
    example_text: str
    survey: Survey


def init_here(root: Path) -> Made:
    """Make an existing project an app.

    Args:
        root: The project's folder; a pyproject.toml is made where there is none.

    Raises:
        ArgumentError: The project is an app already.
        ConfigError: pyproject.toml cannot be read.
    """
    file = root / PYPROJECT
    project = project_of(file)
    if project.has_table or (root / "app.json").exists():
        where = f"[tool.jittask] of {file}" if project.has_table else f"{root}/app.json"
        raise ArgumentError(
            f"this project is an app already: {where}; `jittask new` adds a task"
        )

    found = survey(root, project.name)
    example, module = _free_module(found)
    table = _table(root, project.name, found, module)
    text = _HEAD + _example(found)
    replace_file(example, text.encode())
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    gap = "\n" if before and not before.endswith("\n\n") else ""
    ended = before if not before or before.endswith("\n") else before + "\n"
    replace_file(file, f"{ended}{gap}{table}".encode())
    _ignore(root)
    return Made(table, example, text, found)


def _free_module(found: Survey) -> tuple[Path, str]:
    """A module for the tasks that is not there yet: `tasks`, else `jittask_tasks`."""
    for name in ("tasks", "jittask_tasks"):
        file = found.folder / f"{name}.py"
        if not file.exists() and not (found.folder / name).exists():
            return file, found.module(name)

    raise ArgumentError(
        f"{found.folder} has tasks and jittask_tasks already; "
        'write [tool.jittask] with modules = ["package.module"] yourself'
    )


def _table(root: Path, name: str, found: Survey, module: str) -> str:
    lines = ["[tool.jittask]"]
    if not name:
        usual = re.sub(r"[^A-Za-z0-9_-]+", "-", root.resolve().name).strip("-")[:64]
        lines.append(f'name = "{usual or "app"}"')

    lines.append(f'timezone = "{machine_zone()}"')
    if found.engine:
        lines.append(f'engine = "{found.engine}"')
    else:
        lines.append('database = "sqlite:///app.db"')

    lines.append(f'modules = ["{module}"]')
    return "\n".join(lines) + "\n"


def _example(found: Survey) -> str:
    return _example_of_rows(found.dates[0]) if found.dates else _SCHEDULED


def _example_of_rows(date: DateField) -> str:
    cls, name, row = date.cls, date.name, _snake(date.cls)
    ours = "from jittask_prefect import Before, date_field_task"
    imports = "\n".join(sorted([ours, f"from {date.module} import {cls}"]))
    title = row.replace("_", " ").capitalize()
    return f'''{imports}


# A task for each {cls}: two days before {name}, at 09:00. Saving a row plans its task in the same
# transaction, and another {name} moves it. What the function changes on the row commits with the task's end.
@date_field_task({cls}.{name}, Before(days=2, at="09:00"))
def remind_{row}({row}):
    """{title} reminder."""
    print("due:", {row})
'''


def _ignore(root: Path) -> None:
    """Keep generated files out of the repository, where there is one."""
    file, line = root / ".gitignore", f"{GENERATED}/"
    if not (root / ".git").exists() and not file.exists():
        return

    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if line not in text.split():
        gap = "" if not text or text.endswith("\n") else "\n"
        replace_file(file, f"{text}{gap}{line}\n".encode())


def _snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return words if words.isidentifier() else "row"


# A further task


@dataclass(frozen=True)
class NewFunction:
    """A decorated function for a module of the app.

    Attributes:
        name: The element's full name.
        imports: The lines that its module needs.
        code: The function with its decorator.
        file: The file of the app's last module that is there; None without one.
    """

    name: str
    imports: tuple[str, ...]
    code: str
    file: Path | None

    @property
    def text(self) -> str:
        """The function as a file of its own would have it."""
        return "\n".join(self.imports) + f"\n\n\n{self.code}"

    def append(self) -> Path:
        """Write the function to the end of the module, and its imports behind the module's own.

        Raises:
            ArgumentError: The app has no module to write to.
        """
        if self.file is None:
            raise ArgumentError(
                "no module of this app can be written to; paste the function into one that `modules` names"
            )

        text = self.file.read_text(encoding="utf-8")
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise ArgumentError(
                f"{self.file}, line {error.lineno}: {error.msg}; repair the file first"
            ) from None

        lines = text.splitlines()
        new = [line for line in self.imports if line not in lines]
        place = _after_imports(tree)
        lines[place:place] = new if place else [*new, ""]
        body = "\n".join(lines).rstrip("\n")
        replace_file(self.file, f"{body}\n\n\n{self.code}".encode())
        return self.file


def new_function(
    app: App, title: str, *, rows: bool, model: str | None, field: str | None
) -> NewFunction:
    """A decorated function for a new task.

    Args:
        app: The app.
        title: The display name.
        rows: Whether the task is for the rows of a model.
        model: The model's full name; absent, the first model with a date.
        field: The date field; absent, the model's first date field.

    Raises:
        ArgumentError: The app has no such model, or the model no such field.
        ConfigError: The title cannot be one.
    """
    try:
        display_text(title)
    except ValueError as error:
        raise invalid("title", repr(title), str(error)) from None

    taken = [name.partition(".")[2] for name in app.names("tasks")]
    name = english_name(title, [*RESERVED, *taken])
    function, shown = _snake(name), title.replace("\\", "\\\\").replace('"', '\\"')
    own = names_in(f"from jittask_prefect import task\n@task\ndef {function}(): ...")
    named = "" if own.names == {name} else f', name="{name}"'
    file = next(filter(None, map(source_of, reversed(app.modules.names))), None)
    doc = f'    """{shown}"""\n'
    if not rows:
        code = f'@scheduled_task(Daily(at="09:00"){named})\ndef {function}():\n{doc}    print("it is time")\n'
        ours = "from jittask_prefect import Daily, scheduled_task"
        return NewFunction(f"tasks.{name}", (ours,), code, file)

    date = chosen_date(app, model, field)
    row = _snake(date.cls)
    code = (
        f'@date_field_task({date.cls}.{date.name}, After(at="09:00"){named})\n'
        f'def {function}({row}):\n{doc}    print("due:", {row})\n'
    )
    ours = "from jittask_prefect import After, date_field_task"
    theirs = f"from {date.module} import {date.cls}"
    return NewFunction(f"tasks.{name}", (ours, theirs), code, file)


def chosen_date(app: App, model: str | None, field: str | None) -> DateField:
    """The class and the date that a new task is for; arguments and errors as of `new_function`."""
    dates = {name: date_fields(cls) for name, cls in app.models().items()}
    usable = {name: fields for name, fields in dates.items() if fields}
    if model is None and usable:
        model = sorted(usable)[0]

    if model is None or model not in usable:
        known = ", ".join(sorted(usable)) or "none has a date or datetime column"
        raise ArgumentError(f"model {model!r}; allowed: {known}")

    field = field or usable[model][0]
    if field not in usable[model]:
        raise ArgumentError(f"field {field!r}; allowed: {', '.join(usable[model])}")

    cls = app.models()[model]
    return DateField(cls.__module__, cls.__name__, field)


def _after_imports(tree: ast.Module) -> int:
    """The line after the last import at a module's top, or after its docstring."""
    ends = [0]
    for number, node in enumerate(tree.body):
        docstring = number == 0 and isinstance(node, ast.Expr)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            ends.append(node.end_lineno or 0)

    return max(ends)
