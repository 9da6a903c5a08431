"""What people think of messages: votes, scales, labels, corrected replies, comments and rankings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from turnsmith.errors import DataError, UsageError
from turnsmith.serve.store.tables import Judgement, Message, Ranking, Tree, fresh
from turnsmith.serve.store.talks import LONGEST, storable

# The least and most of a kind's value; None where it has a text.
VALUES: Mapping[str, tuple[float, float] | None] = {
    "vote": (-1, 1),
    "scale": (1, 5),
    "label": (0, 1),
    "correction": None,
    "comment": None,
}


class Absent(UsageError):
    """A message or conversation that is not there, or is not to be seen by who asks."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement. name: the criterion of a scale or label, else empty. value or text: by its kind."""

    kind: str
    name: str = ""
    value: float | None = None
    text: str | None = None


def judge(session: Session, person: str, message: str, judged: Sequence[Judged], *, all_trees: bool) -> None:
    """Keep these in place of what the person thought before; comments stand beside each other.

    all_trees: whether the person may judge what others said. Raises Absent for a message that is not there,
    UsageError for one that cannot be judged so.
    """
    role = seen(session, person, message, all_trees=all_trees).role
    for one in judged:
        _check(one, role)
        name = fresh() if one.kind == "comment" else one.name
        same = {"message": message, "person": person, "kind": one.kind, "name": name}
        session.execute(delete(Judgement).filter_by(**same))
        if (one.kind, one.value) != ("vote", 0):  # a vote of 0 takes back the one before
            row = {**same, "id": fresh(), "value": one.value, "text": one.text, "since": time.time()}
            session.execute(insert(Judgement).values(row))


def rank(
    session: Session,
    person: str,
    message: str,
    order: Sequence[Sequence[str]],
    *,
    blind: bool,
    all_trees: bool,
) -> None:
    """Keep the order of replies to `message`, best first, equal ones together, in place of the person's last.

    Raises Absent for a message that is not there, UsageError for what is no order of its replies.
    """
    seen(session, person, message, all_trees=all_trees)
    given = [id for group in order for id in group]
    replies = set(session.scalars(select(Message.id).where(Message.parent == message)))
    if len(given) < 2 or len(set(given)) < len(given) or not all(order):
        raise UsageError("order: name two replies or more, each once, and no empty group")
    if strange := [id for id in given if id not in replies]:
        raise UsageError(f"order: {strange[0]!r:.60} is no reply to this message")
    session.execute(delete(Ranking).filter_by(message=message, person=person))
    row = {"message": message, "person": person, "order": [list(group) for group in order]}
    session.execute(insert(Ranking).values(**row, id=fresh(), blind=blind, since=time.time()))


def seen(session: Session, person: str, message: str, *, all_trees: bool) -> Any:
    """The message's role and tree. Raises Absent where the person may not see it."""
    columns = select(Message.role, Message.tree, Tree.person).join(Tree, Tree.id == Message.tree)
    found = session.execute(columns.where(Message.id == message, Message.deleted.is_(False))).one_or_none()
    if found is None or not (all_trees or found.person == person):
        raise Absent(f"no message {message!r:.60} is there")
    return found


def _check(one: Judged, role: str) -> None:
    if one.kind not in VALUES:
        raise UsageError(f"kind: {one.kind!r:.60} is unknown; there are {', '.join(VALUES)}")
    if (bounds := VALUES[one.kind]) is None:
        if not (one.text or "").strip() or one.value is not None:
            raise UsageError(f"a {one.kind} has a text, and no value")
        storable(one.text or "", f"the {one.kind}")
    elif one.value is None or not bounds[0] <= one.value <= bounds[1] or one.text is not None:
        raise UsageError(f"a {one.kind} has a value from {bounds[0]:g} to {bounds[1]:g}, and no text")
    if one.kind == "vote" and one.value not in (-1, 0, 1):
        raise UsageError("a vote is 1, -1, or 0 to take it back")
    if (one.kind in ("scale", "label")) != bool(one.name) or len(one.name) > LONGEST:
        raise UsageError(f"scales and labels name what they are about, in {LONGEST} characters at most")
    storable(one.name, "the name")
    if one.kind == "correction" and role != "assistant":
        raise DataError("only replies are corrected: edit the message and ask again")
