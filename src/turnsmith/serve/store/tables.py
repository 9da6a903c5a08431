"""The tables: people, their keys, trees of messages, what people think of them, and receipts of deletion.

Times are seconds since 1970. A change here needs a step under `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import secrets
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Role = Literal["user", "annotator", "admin"]  # of keys; each may do what those before it may


def fresh() -> str:
    """An id that nobody can guess."""
    return secrets.token_hex(12)


class Table(DeclarativeBase):
    """All tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, str: String(255)}  # noqa: RUF012


class Key(Table):
    """A key that requests carry. digest: sha256 of the key, which is kept nowhere. role: user, annotator or
    admin. ended: since when it opens nothing any more."""

    __tablename__ = "key"
    id: Mapped[str] = mapped_column(primary_key=True, default=fresh)
    name: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[str] = mapped_column(unique=True)
    role: Mapped[Role] = mapped_column(String(255))
    since: Mapped[float]
    ended: Mapped[float | None]


class Person(Table):
    """Somebody who speaks or judges: the `user` that requests with one key name, or its owner where they name
    none. consent: whether what they said may be trained on; None while nobody has asked."""

    __tablename__ = "person"
    __table_args__ = (UniqueConstraint("key", "name"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=fresh)
    key: Mapped[str]
    name: Mapped[str]
    consent: Mapped[bool | None]
    since: Mapped[float]


class Tree(Table):
    """A conversation with all that was answered to each of its messages.

    person: who began it. tag: what the client calls it. state: of a tree that people are asked to grow; None
    of one that was served.
    """

    __tablename__ = "tree"
    id: Mapped[str] = mapped_column(primary_key=True, default=fresh)
    person: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    tag: Mapped[str | None]
    tools: Mapped[list[Any]]
    state: Mapped[str | None] = mapped_column(index=True)
    language: Mapped[str | None]
    since: Mapped[float]


class Message(Table):
    """A message of a tree.

    digest: of all from the root to here, by which the next request finds it; empty while it is drawn.
    more: what OpenAI's form of the message has beside role and content. person: who wrote it; None of a
    model's. model: the served name; weights, adapter, template: fingerprints. made: how it was drawn. ids,
    logprobs: as they were drawn. state: `coming` while it is drawn, `cut` where the server ended before it.
    writer: who draws it.
    """

    __tablename__ = "message"
    __table_args__ = (Index("message_found", "digest"), Index("message_made", "model", "since"))
    id: Mapped[str] = mapped_column(primary_key=True, default=fresh)
    tree: Mapped[str] = mapped_column(ForeignKey("tree.id"), index=True)
    parent: Mapped[str | None] = mapped_column(ForeignKey("message.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    role: Mapped[str]
    content: Mapped[str] = mapped_column(Text)
    more: Mapped[dict[str, Any]]
    person: Mapped[str | None] = mapped_column(ForeignKey("person.id"), index=True)
    since: Mapped[float]
    seconds: Mapped[float | None]
    state: Mapped[str] = mapped_column(default="whole")
    writer: Mapped[str | None] = mapped_column(index=True)
    model: Mapped[str | None]
    weights: Mapped[str | None]
    adapter: Mapped[str | None]
    template: Mapped[str | None]
    made: Mapped[dict[str, Any]]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    ids: Mapped[list[Any] | None]
    logprobs: Mapped[list[Any] | None]
    finish: Mapped[str | None]
    flagged: Mapped[str | None]
    rank: Mapped[int | None]
    deleted: Mapped[bool] = mapped_column(default=False)


class Piece(Table):
    """What has come of a message that is being drawn, in the order of `number`."""

    __tablename__ = "piece"
    message: Mapped[str] = mapped_column(ForeignKey("message.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Text)


class Judgement(Table):
    """What one person thinks of one message: a vote (1 or -1), a scale (1 to 5) on the criterion `name`, a
    label (0 to 1), a corrected reply, a comment, or a review (0 to 1) of a tree that is grown. A later one of
    the same kind and name takes its place."""

    __tablename__ = "judgement"
    __table_args__ = (UniqueConstraint("message", "person", "kind", "name"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=fresh)
    message: Mapped[str] = mapped_column(ForeignKey("message.id"), index=True)
    person: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    kind: Mapped[str]
    name: Mapped[str]
    value: Mapped[float | None]
    text: Mapped[str | None] = mapped_column(Text)
    since: Mapped[float] = mapped_column(index=True)


class Ranking(Table):
    """The replies to `message` in one person's order, best first, equal ones together. blind: whether the
    names of the models were hidden."""

    __tablename__ = "ranking"
    __table_args__ = (UniqueConstraint("message", "person"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=fresh)
    message: Mapped[str] = mapped_column(ForeignKey("message.id"), index=True)
    person: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    order: Mapped[list[Any]]
    blind: Mapped[bool]
    since: Mapped[float] = mapped_column(index=True)


class Taken(Table):
    """Data that were made of the store: a file, and whose words are in it."""

    __tablename__ = "taken"
    id: Mapped[str] = mapped_column(primary_key=True, default=fresh)
    file: Mapped[str] = mapped_column(Text)
    kind: Mapped[str]
    rows: Mapped[int]
    until: Mapped[float]  # of what was judged
    since: Mapped[float]


class Whose(Table):
    """A person whose words are in data that were taken."""

    __tablename__ = "whose"
    taken: Mapped[str] = mapped_column(ForeignKey("taken.id"), primary_key=True)
    person: Mapped[str] = mapped_column(ForeignKey("person.id"), primary_key=True, index=True)


class Receipt(Table):
    """A person's data were deleted. person: sha256 of the id, so that who has the id can ask. counts: rows
    by table. files: data that were taken before and hold words of theirs."""

    __tablename__ = "receipt"
    id: Mapped[str] = mapped_column(primary_key=True, default=fresh)
    person: Mapped[str] = mapped_column(String(64), index=True)
    counts: Mapped[dict[str, Any]]
    files: Mapped[list[Any]]
    since: Mapped[float]


class Writer(Table):
    """A process that writes, and when it last said that it is there."""

    __tablename__ = "writer"
    id: Mapped[str] = mapped_column(primary_key=True)
    beat: Mapped[float]
