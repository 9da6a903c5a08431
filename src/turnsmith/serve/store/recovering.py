"""What a process that was killed left behind: messages that were being drawn keep what had come of them."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from turnsmith.serve.store.tables import Message, Piece, Writer
from turnsmith.serve.store.talks import asked, chained
from turnsmith.types import Message as Said


def left_behind(session: Session, *, before: float) -> int:
    """End the messages of writers whose last sign is older than `before`; how many there were."""
    dead = select(Writer.id).where(Writer.beat < before)
    unknown = Message.writer.in_(dead) | Message.writer.not_in(select(Writer.id))
    found = session.scalars(select(Message.id).where(Message.state == "coming", unknown)).all()
    for message in found:
        end(session, message, state="cut")
    session.execute(delete(Writer).where(Writer.beat < before))
    return len(found)


def end(session: Session, message: str, *, state: str) -> None:
    """Make one text of the pieces of a message that is not drawn any further, if it is there. What an earlier
    end made of it, by a process that took its writer for dead, stands before them."""
    pieces = select(Piece.text).where(Piece.message == message).order_by(Piece.number)
    begun = session.scalar(select(Message.content).where(Message.id == message))
    content = "".join([begun or "", *session.scalars(pieces)])
    digest = chained(asked(session, message) or "", Said("assistant", content))
    values = {"content": content, "state": state, "digest": digest, "writer": None}
    session.execute(update(Message).where(Message.id == message).values(values))
    session.execute(delete(Piece).where(Piece.message == message))
