"""The version of the ledger's tables: made where missing, brought up from the version before, refused where none fits.

A release works with tables of its own version, and with newer ones that say so: an upgrade of the tables first adds, and a
later one removes. So the tables go first, and the programs follow one by one.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, text, update
from sqlalchemy import inspect as sa_inspect

from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger import state_table
from jittask_prefect.ledger.prepared import schema_of
from jittask_prefect.ledger.tables import CLAIMED, LEFT, entries, metadata, states

SCHEMA_VERSION = "5"
FORMER_VERSION = "4"
"""The version that `upgrade_ledger` brings up to date."""
OLDEST_READER = "5"
"""The oldest release, by its SCHEMA_VERSION, that works with tables of this version."""
FIRST_ROLLING = 5
"""The first version whose releases may work on while the tables are brought up."""
_NEW_COLUMNS = (
    "level",
    "zone_value",
    "calendar_value",
    "not_before",
    "first_run_id",
    "progress",
)
"""The columns that version 4 lacked."""
_FIRST_RUNS = "ix_jittask_ledger_first_run"
_UNUSABLE = """
SELECT quote_ident(n.nspname), quote_ident(current_user)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = :name AND NOT has_schema_privilege(n.oid, 'USAGE') AND n.nspname IN (
    SELECT replace(trim(both ' "' FROM name), '$user', current_user)
    FROM unnest(string_to_array(current_setting('search_path'), ',')) AS name)
"""
"""A schema that the role's search_path names and the role may not use, so that PostgreSQL finds no table there."""
_FORMER_RUN = "run:"
"""Begin of a name in version 4's `jittask_state`: a flow run that a task of `createTimerTask` had; the value is the task."""


def version(connection: Connection) -> str | None:
    """The version of the tables, None where there are none."""
    inspector, schema = sa_inspect(connection), schema_of(connection)
    if not inspector.has_table(states.name, schema=schema):
        return None
    return state_table.get_any(connection, "schema")


def fits(connection: Connection, found: str | None) -> bool:
    """Whether this release works with the tables: they are of its version, or of a newer one that lets it."""
    if found == SCHEMA_VERSION:
        return True
    if found is None or not found.isdigit() or int(found) < int(SCHEMA_VERSION):
        return False
    oldest = state_table.get_any(connection, "schema:oldest") or found
    return int(oldest) <= int(SCHEMA_VERSION)


def there(connection: Connection, where: str = "") -> bool:
    """Whether there are the tables, of a version that fits: for readers, which can do without.

    Args:
        connection: To the database.
        where: How an error calls the database; by the database's own name where empty.

    Raises:
        LedgerError: They are of another version, or stand in a schema that the role may not use.
    """
    found = version(connection)
    where = where or f"database {connection.engine.url.database}"
    if found is None:
        _require_usage(connection, where)
    elif not fits(connection, found):
        raise _other_version(where, found)
    return found is not None


def _require_usage(connection: Connection, where: str) -> None:
    """Refuse to take tables for missing that stand in a schema without USAGE: `db upgrade` would make others, or fail."""
    if connection.dialect.name != "postgresql" or schema_of(connection):
        return
    found = connection.execute(text(_UNUSABLE), {"name": states.name}).first()
    if found is not None:
        schema, role = found
        raise LedgerError(
            f"{where}: role {role} may not use schema {schema}, where the ledger's tables are: "
            f"`GRANT USAGE ON SCHEMA {schema} TO {role}`"
        )


def require(connection: Connection, where: str) -> None:
    """Refuse to work without the tables.

    Raises:
        LedgerError: They are missing, of another version, or in a schema that the role may not use.
    """
    if not there(connection, where):
        raise LedgerError(f"{where} has no ledger tables: run `jittask db upgrade`")


def upgrade_ledger(connection: Connection) -> bool:
    """Make the tables where they are missing, or bring them up from the version before; whether anything was changed.

    Raises:
        LedgerError: They are of another version, or stand in a schema that the role may not use.
    """
    if version(connection) == FORMER_VERSION:
        _add_columns(connection)
        return True
    if there(connection):
        return False
    metadata.create_all(connection)
    if connection.dialect.name in ("mysql", "mariadb"):
        # Names and keys differ in case, accents and spaces at the end, whatever the database's own collation says.
        mariadb = getattr(connection.dialect, "is_mariadb", False)
        exact = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
        for table in (entries, states):
            connection.exec_driver_sql(
                f"ALTER TABLE {table.name} CONVERT TO CHARACTER SET utf8mb4 COLLATE {exact}"
            )
    _index_first_runs(connection)
    _note_version(connection)
    return True


def _index_first_runs(connection: Connection) -> None:
    """Index the few tasks that have a first run; in SQL, since SQLAlchemy would load PostgreSQL's dialect for this everywhere."""
    there = {
        index["name"] for index in sa_inspect(connection).get_indexes(entries.name)
    }
    if _FIRST_RUNS in there:
        return
    few = connection.dialect.name in ("postgresql", "sqlite")
    where = " WHERE first_run_id IS NOT NULL" if few else ""
    connection.exec_driver_sql(
        f"CREATE INDEX {_FIRST_RUNS} ON {entries.name} (first_run_id){where}"
    )


def _note_version(connection: Connection) -> None:
    state_table.put(connection, "", "schema", SCHEMA_VERSION)
    state_table.put(connection, "", "schema:oldest", OLDEST_READER)


def _add_columns(connection: Connection) -> None:
    """Bring tables of version 4 up: columns that may be null, so that no row is written anew."""
    there = {c["name"] for c in sa_inspect(connection).get_columns(entries.name)}
    for name in _NEW_COLUMNS:
        # MariaDB keeps what an upgrade that was cut off had added.
        if name not in there:
            kind = entries.c[name].type.compile(connection.dialect)
            connection.exec_driver_sql(
                f"ALTER TABLE {entries.name} ADD COLUMN {name} {kind}"
            )
    _index_first_runs(connection)
    _move_values(connection)
    _note_version(connection)


def _move_values(connection: Connection) -> None:
    """Give the new columns what version 4 held in `queue` and in `jittask_state`."""
    c = entries.c
    at_work = c.queue.in_((CLAIMED, LEFT))
    moved = update(entries).where(at_work).values(progress=c.queue)
    connection.execute(moved)
    connection.execute(update(entries).where(at_work).values(queue=None))

    made = (c.func_name.is_not(None), c.first_run_id.is_(None))
    own = update(entries).where(*made, c.row_key == "")
    connection.execute(own.values(first_run_id=c.flow_run_id))

    former = select(states.c.app, states.c.name, states.c.value).where(
        states.c.name.startswith(_FORMER_RUN)
    )
    for app, name, task_id in connection.execute(former).all():
        mine = update(entries).where(c.task_id == task_id)
        connection.execute(mine.values(first_run_id=name.removeprefix(_FORMER_RUN)))
        state_table.put(connection, app, name, None)


def _other_version(where: str, found: str | None) -> LedgerError:
    if found == FORMER_VERSION:
        # Later tables are brought up while workers of the release before go on.
        first = "" if int(found) >= FIRST_ROLLING else "stop the workers, then "
        return LedgerError(
            f"{where} has ledger tables of version {found}: {first}run `jittask db upgrade`"
        )
    return LedgerError(
        f"{where} has ledger tables of version {found}, and this jittask-prefect works with version "
        f"{SCHEMA_VERSION} only: install the jittask-prefect that made them; or drop the tables {entries.name} and "
        f"{states.name}, which forgets the records, and run `jittask db upgrade`"
    )
