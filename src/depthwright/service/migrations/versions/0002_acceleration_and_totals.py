"""How a prediction was accelerated, and how many predictions each key has."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column, which older predictions leave empty, and count what there is."""
    op.add_column("predictions", sa.Column("acceleration", sa.JSON(), nullable=False, server_default="{}"))
    op.execute(
        "INSERT INTO counters (name, label, value) "
        "SELECT 'stored', key_id, count(*) FROM predictions GROUP BY key_id"
    )
