import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "reader",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.String(100), nullable=False),
    )
    op.create_table(
        "loan",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("due_date", sa.Date, nullable=False, index=True),
        sa.Column("returned", sa.Boolean, nullable=False),
        sa.Column("reminders", sa.Integer, nullable=False),
        sa.Column("reader_id", sa.Integer, sa.ForeignKey("reader.id"), nullable=False),
    )
    op.create_table(
        "device_loan",
        sa.Column("id", sa.Integer, sa.ForeignKey("loan.id"), primary_key=True),
        sa.Column("deposit", sa.Integer, nullable=False),
    )
