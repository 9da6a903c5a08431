"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "person",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=True),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key", "name"),
    )
    op.create_table(
        "receipt",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("receipt", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_receipt_person"), ["person"], unique=False)

    op.create_table(
        "taken",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "writer",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("beat", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tree",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=255), nullable=True),
        sa.Column("tools", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=True),
        sa.Column("language", sa.String(length=255), nullable=True),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["person"],
            ["person.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("tree", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tree_person"), ["person"], unique=False)
        batch_op.create_index(batch_op.f("ix_tree_state"), ["state"], unique=False)

    op.create_table(
        "whose",
        sa.Column("taken", sa.String(length=255), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["person"],
            ["person.id"],
        ),
        sa.ForeignKeyConstraint(
            ["taken"],
            ["taken.id"],
        ),
        sa.PrimaryKeyConstraint("taken", "person"),
    )
    with op.batch_alter_table("whose", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_whose_person"), ["person"], unique=False)

    op.create_table(
        "message",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("tree", sa.String(length=255), nullable=False),
        sa.Column("parent", sa.String(length=255), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("more", sa.JSON(), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=True),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("writer", sa.String(length=255), nullable=True),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("weights", sa.String(length=255), nullable=True),
        sa.Column("adapter", sa.String(length=255), nullable=True),
        sa.Column("template", sa.String(length=255), nullable=True),
        sa.Column("made", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("ids", sa.JSON(), nullable=True),
        sa.Column("logprobs", sa.JSON(), nullable=True),
        sa.Column("finish", sa.String(length=255), nullable=True),
        sa.Column("flagged", sa.String(length=255), nullable=True),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["parent"],
            ["message.id"],
        ),
        sa.ForeignKeyConstraint(
            ["person"],
            ["person.id"],
        ),
        sa.ForeignKeyConstraint(
            ["tree"],
            ["tree.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("message", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_message_parent"), ["parent"], unique=False)
        batch_op.create_index(batch_op.f("ix_message_person"), ["person"], unique=False)
        batch_op.create_index(batch_op.f("ix_message_tree"), ["tree"], unique=False)
        batch_op.create_index(batch_op.f("ix_message_writer"), ["writer"], unique=False)
        batch_op.create_index("message_found", ["digest"], unique=False)
        batch_op.create_index("message_made", ["model", "since"], unique=False)

    op.create_table(
        "judgement",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("message", sa.String(length=255), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message"],
            ["message.id"],
        ),
        sa.ForeignKeyConstraint(
            ["person"],
            ["person.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("message", "person", "kind", "name"),
    )
    with op.batch_alter_table("judgement", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_judgement_message"), ["message"], unique=False)
        batch_op.create_index(batch_op.f("ix_judgement_person"), ["person"], unique=False)
        batch_op.create_index(batch_op.f("ix_judgement_since"), ["since"], unique=False)

    op.create_table(
        "piece",
        sa.Column("message", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("message", "number"),
    )
    op.create_table(
        "ranking",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("message", sa.String(length=255), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("order", sa.JSON(), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message"],
            ["message.id"],
        ),
        sa.ForeignKeyConstraint(
            ["person"],
            ["person.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("message", "person"),
    )
    with op.batch_alter_table("ranking", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ranking_message"), ["message"], unique=False)
        batch_op.create_index(batch_op.f("ix_ranking_person"), ["person"], unique=False)
        batch_op.create_index(batch_op.f("ix_ranking_since"), ["since"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("ranking", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ranking_since"))
        batch_op.drop_index(batch_op.f("ix_ranking_person"))
        batch_op.drop_index(batch_op.f("ix_ranking_message"))

    op.drop_table("ranking")
    op.drop_table("piece")
    with op.batch_alter_table("judgement", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_judgement_since"))
        batch_op.drop_index(batch_op.f("ix_judgement_person"))
        batch_op.drop_index(batch_op.f("ix_judgement_message"))

    op.drop_table("judgement")
    with op.batch_alter_table("message", schema=None) as batch_op:
        batch_op.drop_index("message_made")
        batch_op.drop_index("message_found")
        batch_op.drop_index(batch_op.f("ix_message_writer"))
        batch_op.drop_index(batch_op.f("ix_message_tree"))
        batch_op.drop_index(batch_op.f("ix_message_person"))
        batch_op.drop_index(batch_op.f("ix_message_parent"))

    op.drop_table("message")
    with op.batch_alter_table("whose", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_whose_person"))

    op.drop_table("whose")
    with op.batch_alter_table("tree", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tree_state"))
        batch_op.drop_index(batch_op.f("ix_tree_person"))

    op.drop_table("tree")
    op.drop_table("writer")
    op.drop_table("taken")
    with op.batch_alter_table("receipt", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_receipt_person"))

    op.drop_table("receipt")
    op.drop_table("person")
    op.drop_table("key")
