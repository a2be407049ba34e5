"""A sync every few seconds, in a process of its own; the deployment's sync of each minute goes on beside.

python benchmarks/faulting/sync_loop.py APP SECONDS
"""

from __future__ import annotations

import logging
import sys
import time

from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect import App
from jittask_prefect.errors import JittaskError
from jittask_prefect.running.sync_flow import run_sync
from jittask_prefect.schedule import clock


def main() -> None:
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    app = App(sys.argv[1])
    while True:
        try:
            run_sync(app, clock.now())
        except (JittaskError, SQLAlchemyError) as error:
            logging.warning("%s", error)
        time.sleep(float(sys.argv[2]))


if __name__ == "__main__":
    main()
