from alembic import context
from library.database import engine
from library.models import Base
from sqlalchemy import create_engine


def include_name(name, type_, parent_names):
    """The ledger's tables are migrated by `jittask db upgrade`."""
    return not (type_ == "table" and name.startswith("jittask_"))


with create_engine(f"sqlite:///{engine.url.database}").connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=include_name,
    )
    with context.begin_transaction():
        context.run_migrations()
