"""Trees as they are read: messages with their replies, and what was thought of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from turnsmith.serve.store.judging import Absent
from turnsmith.serve.store.tables import Judgement, Message, Piece, Ranking, Tree

MOST = 100  # conversations in one list
COLUMNS = ("role", "content", "model", "state", "finish", "seconds", "flagged", "rank", "deleted", "since")


def listed(
    session: Session, person: str | None, *, most: int, before: float | None, tag: str | None = None
) -> list[dict[str, Any]]:
    """The newest conversations, of one person or of all; before: only older ones; tag: only those that a
    client calls so."""
    asked = select(Tree).order_by(Tree.since.desc()).limit(min(most, MOST))
    asked = asked if person is None else asked.where(Tree.person == person)
    asked = asked if before is None else asked.where(Tree.since < before)
    asked = asked if tag is None else asked.where(Tree.tag == tag)
    trees = session.scalars(asked).all()
    roots = select(Message.tree, Message.content).where(
        Message.tree.in_([tree.id for tree in trees]), Message.role == "user"
    )
    openings: dict[str, str] = {}
    for tree, content in session.execute(roots.order_by(Message.since)):
        openings.setdefault(tree, content)
    return [{**_about(tree), "opening": openings.get(tree.id, "")[:200]} for tree in trees]


def tree(session: Session, id: str, person: str | None) -> dict[str, Any]:
    """A conversation, each message with its replies. person: whose it must be; None for anybody's. Raises
    Absent."""
    found = session.get(Tree, id)
    if found is None or person not in (None, found.person):
        raise Absent(f"no conversation {id!r:.60} is there")
    messages = session.scalars(select(Message).where(Message.tree == id).order_by(Message.since)).all()
    ids = [message.id for message in messages]
    judged = _by(session.scalars(select(Judgement).where(Judgement.message.in_(ids))), _judgement, person)
    ranked = _by(session.scalars(select(Ranking).where(Ranking.message.in_(ids))), _ranking, person)
    pieces: dict[str, str] = {}
    for piece in session.scalars(select(Piece).where(Piece.message.in_(ids)).order_by(Piece.number)):
        pieces[piece.message] = pieces.get(piece.message, "") + piece.text
    rows = {
        one.id: {
            "id": one.id,
            **{name: getattr(one, name) for name in COLUMNS},
            **one.more,
            "content": pieces.get(one.id, one.content),
            "made": {**one.made, "seed": one.seed} if one.model else None,
            "judgements": judged.get(one.id, []),
            "rankings": ranked.get(one.id, []),
            "replies": [],
        }
        for one in messages
    }
    return {**_about(found), "tools": found.tools, "messages": _nested(messages, rows)}


def _nested(messages: Sequence[Message], rows: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The roots, with all others under what they answer."""
    roots = []
    for one in messages:
        (rows[one.parent]["replies"] if one.parent else roots).append(rows[one.id])
    return roots


def _about(tree: Tree) -> dict[str, Any]:
    return {
        "id": tree.id,
        "tag": tree.tag,
        "state": tree.state,
        "language": tree.language,
        "since": tree.since,
    }


def _by(
    found: Any, told: Callable[[Any], dict[str, Any]], person: str | None
) -> dict[str, list[dict[str, Any]]]:
    """What was found, by message; what others thought only for who may see everything."""
    by: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        if person in (None, one.person):
            by.setdefault(one.message, []).append(told(one))
    return by


def _judgement(one: Judgement) -> dict[str, Any]:
    name = {} if one.kind == "comment" else {"name": one.name}
    said = {"value": one.value} if one.text is None else {"text": one.text}
    return {"kind": one.kind, "person": one.person, **name, **said, "since": one.since}


def _ranking(one: Ranking) -> dict[str, Any]:
    return {"person": one.person, "order": one.order, "blind": one.blind, "since": one.since}
