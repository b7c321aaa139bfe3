"""The denied names."""

import sqlalchemy as sa
from alembic import op

revision = "demo_0001"
down_revision = None
branch_labels = ("demo",)
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "demo_denied_name",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_demo_denied_name"),
        sa.UniqueConstraint("domain", name="uq_demo_denied_name_domain"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("demo_denied_name")
