"""One person's data, deleted everywhere, with a receipt."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, delete, insert, select, update
from sqlalchemy.orm import Session

from turnsmith.errors import UsageError
from turnsmith.serve.store.tables import (
    Judgement,
    Message,
    Person,
    Piece,
    Ranking,
    Receipt,
    Taken,
    Tree,
    Whose,
    fresh,
)

AT_ONCE = 500  # ids in one statement: SQLite takes 32,766, and PostgreSQL 65,535


def erased(session: Session, person: str) -> dict[str, Any]:
    """Delete all that a person said and thought, and give the receipt.

    Their conversations go whole, with the replies and what anybody thought of them. What they wrote into
    others' trees is emptied and marked as deleted, so that nothing that holds it is ever trained on; what
    others answered stays. Data that were taken before lie outside: the receipt names their files. Raises
    UsageError where nobody has this id.
    """
    if session.get(Person, person) is None:
        raise UsageError(f"no person {person!r:.60} is there")
    files = select(Taken.file).join(Whose, Whose.taken == Taken.id).where(Whose.person == person)
    named = sorted(set(session.scalars(files)))
    own = Message.tree.in_(select(Tree.id).where(Tree.person == person))
    messages = session.scalars(select(Message.id).where(own)).all()
    counts = {
        "judgements": _judged(session, Judgement, person, messages),
        "rankings": _judged(session, Ranking, person, messages),
        "emptied": _emptied(session, (Message.person == person) & ~own),
        "messages": _messages(session, messages),
        "conversations": _rows(session.execute(delete(Tree).where(Tree.person == person))),
    }
    session.execute(delete(Whose).where(Whose.person == person))
    session.execute(delete(Person).where(Person.id == person))
    row = {"id": fresh(), "person": sign(person), "counts": counts, "files": named, "since": time.time()}
    session.execute(insert(Receipt).values(row))
    return {name: value for name, value in row.items() if name != "person"}


def sign(person: str) -> str:
    """What stays of a person's id: who has it can find the receipt, and it leads nowhere else."""
    return hashlib.sha256(person.encode()).hexdigest()


def receipts(session: Session, person: str) -> list[dict[str, Any]]:
    """The receipts for a person's id."""
    found = session.scalars(select(Receipt).where(Receipt.person == sign(person)))
    return [{"id": one.id, "counts": one.counts, "files": one.files, "since": one.since} for one in found]


def _judged(
    session: Session, table: type[Judgement] | type[Ranking], person: str, messages: Sequence[str]
) -> int:
    count = _rows(session.execute(delete(table).where(table.person == person)))
    for ids in _parts(messages):
        count += _rows(session.execute(delete(table).where(table.message.in_(ids))))
    return count


def _emptied(session: Session, which: ColumnElement[bool]) -> int:
    """Empty these messages, of which nothing stays but their place."""
    nothing = {"content": "", "more": {}, "digest": "", "person": None, "ids": None, "logprobs": None}
    return _rows(session.execute(update(Message).where(which).values(**nothing, deleted=True)))


def _messages(session: Session, messages: Sequence[str]) -> int:
    """Delete these, which answer only each other."""
    for ids in _parts(messages):
        session.execute(update(Message).where(Message.id.in_(ids)).values(parent=None))
    count = 0
    for ids in _parts(messages):
        session.execute(delete(Piece).where(Piece.message.in_(ids)))
        count += _rows(session.execute(delete(Message).where(Message.id.in_(ids))))
    return count


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]


def _rows(done: Any) -> int:
    assert isinstance(done, CursorResult)
    return done.rowcount
