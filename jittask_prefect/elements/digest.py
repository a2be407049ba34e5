"""A digest: the function of a date-field task gets a list of rows that are due at one instant (`digest` of an e.json)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from jittask_prefect.errors import FilterError, Problem, invalid
from jittask_prefect.errors.column_paths import read_path
from jittask_prefect.filters.columns import Column, ColumnKind
from jittask_prefect.filters.paths import single_column
from jittask_prefect.validation import StrictModel

if TYPE_CHECKING:
    from jittask_prefect.elements.config import TaskCfg

OF_A_ROW = ("row", "rowData")
"""Names of a parameter that takes a single row: a function with such a parameter was not written for a list."""
TAKES_ROWS = "exactly one parameter, the list of rows, with a name such as rows"


def _path(text: str) -> str:
    read_path(text)
    return text


class Digest(StrictModel):
    """Which rows a call gets together: those with the same value in the column `by`; all where absent."""

    by: Annotated[str, AfterValidator(_path)] | None = None


def digest_problems(cfg: TaskCfg) -> Iterator[Problem]:
    """Keys that contradict `digest`; each with the next step."""
    if cfg.digest is None:
        return
    limits = cfg.concurrency
    if cfg.dispatch == "row":
        allowed = "auto or batch with a digest: its rows share a call"
        yield Problem("", "dispatch", "row with digest", allowed)
    if cfg.parallel > 1:
        allowed = (
            "1 with a digest, whose calls go to several processes; leave the key out"
        )
        yield Problem("", "parallel", f"{cfg.parallel} with digest", allowed)
    if limits is not None and limits.overlap != "queue":
        allowed = "queue with a digest: its rows share a flow run"
        found = f"{limits.overlap} with digest"
        yield Problem("", "concurrency.overlap", found, allowed)


def digest_column(model: type[Any], by: str) -> Column:
    """The column by which rows are put together.

    Raises:
        ConfigError: The path leads to no single column, or to a column whose values cannot be told apart.
    """
    try:
        found = single_column(model, by)
    except FilterError as error:
        problem = error.problems[0]
        raise invalid("digest.by", problem.found, problem.allowed) from None
    if found.kind is ColumnKind.JSON:
        allowed = "a column of plain values: numbers, texts, dates, …"
        raise invalid("digest.by", f"{by}, a column of JSON", allowed)
    return found
