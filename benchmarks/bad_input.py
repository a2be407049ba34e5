"""No input takes an app down: random e.json, app.json and Q texts, most of them bad, against check, compile and forms.

Each line counts the differences between what is promised and what was seen: an error that is none of ours, a plain
element beside a bad one that has a mistake or does not load, or a Q that compiles and that SQLite refuses.
"""

from __future__ import annotations

import random
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from measure import line, scale, workplace

# isort: split

import sqlalchemy as sa
from bad_files import (
    loaded,
    look,
    random_app,
    random_comparison,
    random_filter,
    random_task,
)
from q_models import Base, Order
from sqlmodel import Session, select

from jittask_prefect import JittaskError
from jittask_prefect.filters.expression import parse

TOGETHER = 50
NOW, ZONE = datetime(2026, 3, 10, 18, 30, tzinfo=UTC), ZoneInfo("Asia/Shanghai")


def tried(number: int, one: Callable[[random.Random, int], object]) -> int:
    """How many of so many tries ended with an error that is none of ours."""
    wrong = 0
    for n in range(number):
        try:
            one(random.Random(n), n)
        except JittaskError:
            continue
        except Exception:  # noqa: BLE001  which ones there are is what is looked for
            wrong += 1
            print(f"seed {n}:\n{traceback.format_exc(limit=-4)}", file=sys.stderr)
    return wrong


def main() -> None:
    """Run a share of 20,000 tasks, 2,000 app.json files and 50,000 Q texts."""
    share = scale(__doc__ or "")
    with workplace() as folder:

        def tasks(chance: random.Random, n: int) -> None:
            files = {
                f"tasks/Bad{i}/{f}": text
                for i in range(TOGETHER)
                for f, text in random_task(chance).items()
            }
            app = loaded(folder / f"tasks{n}", **files)
            assert app is not None, "app.json is the plain one"
            look(app)
            app.close()

        def apps(chance: random.Random, n: int) -> None:
            app = loaded(folder / f"app{n}", **{"app.json": random_app(chance)})
            if app is not None:
                look(app)
                app.close()

        count = max(1, round(400 * share))
        line(
            "bad tasks", tried(count, tasks), "differences", "0", tasks=count * TOGETHER
        )
        count = max(1, round(2000 * share))
        line("bad app.json", tried(count, apps), "differences", "0", files=count)
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    ran = 0
    with Session(engine) as session:

        def texts(chance: random.Random, n: int) -> None:
            nonlocal ran
            found = parse(
                random_filter(chance) if n % 2 else random_comparison(chance, Order)
            )
            found.check(Order)
            session.exec(
                select(Order.id).where(found.condition(Order, NOW, ZONE))
            ).all()
            ran += 1

        count = max(1, round(50_000 * share))
        line(
            "bad filters", tried(count, texts), "differences", "0", texts=count, ran=ran
        )


if __name__ == "__main__":
    main()
