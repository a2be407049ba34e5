"""The job as a Celery task: `celery -A by_celery worker`. Its broker is Redis; results are not kept."""

from __future__ import annotations

import os
import time

import psycopg
from celery import Celery
from celery.signals import worker_process_init

WAIT = float(os.environ["PEERS_WAIT"])
CONNECTIONS = os.environ["PEERS_PREFIX"]
"""The name of the processes' connections, by which they can be counted."""
celery = Celery("peers", broker=os.environ["PEERS_BROKER"])
celery.conf.update(
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    # The broker is shared: names of its own in it.
    broker_transport_options={"global_keyprefix": os.environ["PEERS_PREFIX"]},
)
held: list[psycopg.Connection[tuple[object, ...]]] = []


@worker_process_init.connect
def connect(**_: object) -> None:
    """One connection for each process, as one would have it."""
    address = os.environ["PEERS_DATABASE"]
    held[:] = [psycopg.connect(address, application_name=CONNECTIONS)]


@celery.task
def job(number: int) -> None:
    """The wait, then the effect and its commit."""
    if WAIT:
        time.sleep(WAIT)
    held[0].execute("INSERT INTO effect (job) VALUES (%s)", (number,))
    held[0].commit()
