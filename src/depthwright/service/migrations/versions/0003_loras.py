"""Which LoRAs acted in a prediction."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, which older predictions leave empty."""
    op.add_column("predictions", sa.Column("loras", sa.JSON(), nullable=False, server_default="[]"))
