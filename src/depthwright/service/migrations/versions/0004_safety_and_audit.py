"""What was judged: in each prediction, of each worker, and in a log that only grows."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns, which older rows leave empty, and the log with its locks."""
    op.add_column("predictions", sa.Column("safety", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("workers", sa.Column("image_checker", sa.String(120), nullable=False, server_default=""))
    op.create_table(
        "audit",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("prediction_id", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(12), nullable=False),
        sa.Column("category", sa.String(40), nullable=False),
        sa.Column("decision", sa.String(12), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("pixels", sa.JSON, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    if op.get_context().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_refuses_{change.lower()} BEFORE {change} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END"
            )
