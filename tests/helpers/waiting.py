"""Whether a transaction of the tested database waits for a lock; other tests use the same servers, with databases of their own."""

from __future__ import annotations

WAITING = {
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ),
    "mysql": (
        "SELECT count(*) FROM information_schema.innodb_trx"
        " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
        " WHERE trx_state = 'LOCK WAIT' AND db = DATABASE()"
    ),
}
"""By dialect, the statement that counts the waiting transactions; to be asked in a new transaction each time."""
