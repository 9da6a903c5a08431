"""Conversations as requests send them, kept as trees: what was there before is found again, what is new is
added, and several replies to one message are beside each other."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from turnsmith.data.messages import say
from turnsmith.errors import DataError, UsageError
from turnsmith.serve.store.tables import Message, Person, Piece, Tree, fresh
from turnsmith.types import Conversation, Json
from turnsmith.types import Message as Said

LONGEST = 200  # characters of a name
MARK = "\ufffd"  # in place of what a database cannot hold


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: the name of a key, and the user that requests with it name. Both may be empty."""

    key: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """How a reply is made. model: as it is served. weights, adapter, template: fingerprints; adapter is None
    for whole models. sampling: as it was asked for."""

    model: str
    weights: str | None = None
    adapter: str | None = None
    template: str | None = None
    sampling: Mapping[str, Json] = field(default_factory=dict[str, Json])
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a reply came out. state: `whole`, or `cancelled` where who asked went away. flagged: why it was
    withheld."""

    said: Said
    finish: str | None
    seconds: float
    state: str = "whole"
    flagged: str | None = None


def person(session: Session, who: Who) -> str:
    """The id of who asks, who is made known where that is new."""
    if max(len(who.key), len(who.user)) > LONGEST:
        raise UsageError(f"a user's name has {LONGEST} characters at most")
    given = (Person.key == who.key) & (Person.name == storable(who.user, "user"))
    if found := session.scalar(select(Person.id).where(given)):
        return found
    row = {"id": fresh(), "key": who.key, "name": who.user, "since": time.time()}
    session.execute(insert(Person).values(row))
    return row["id"]


def begun(
    session: Session,
    who: Who,
    conversation: Conversation,
    made: Made,
    *,
    ids: Sequence[str],
    writer: str | None,
    tag: str | None = None,
) -> None:
    """Keep what was said so far, and a reply under each of `ids`, which is now being drawn. tag: by which a
    client tells conversations apart that begin alike."""
    asking = person(session, who)
    tree, parent = _kept(session, asking, conversation, tag)
    row = {
        "tree": tree,
        "parent": parent,
        "digest": "",
        "role": "text" if conversation.messages[-1].role == "text" else "assistant",
        "content": "",
        "more": {},
        "since": time.time(),
        "state": "coming",
        "writer": writer,
        "model": made.model,
        "weights": made.weights,
        "adapter": made.adapter,
        "template": made.template,
        "made": dict(made.sampling),
        "seed": made.seed,
    }
    session.execute(insert(Message), [{**row, "id": id} for id in ids])


def came(session: Session, pieces: Sequence[tuple[str, int, str]]) -> None:
    """Keep what has come of replies: their ids, numbers that grow, and the texts. What was deleted meanwhile
    is not kept."""
    there = set(session.scalars(select(Message.id).where(Message.id.in_({id for id, _, _ in pieces}))))
    rows = [{"message": id, "number": at, "text": clean(text)} for id, at, text in pieces if id in there]
    if rows:
        session.execute(insert(Piece), rows)


def ended(session: Session, id: str, how: Ended) -> None:
    """Keep a reply as it came out, in place of its pieces. Nothing where it was deleted meanwhile."""
    before = asked(session, id)
    if before is None:
        return
    said, content = how.said, clean(how.said.content)
    values: dict[str, Any] = {
        "digest": chained(before, said),
        "content": content,
        "more": _more(said),
        "seconds": how.seconds,
        "state": how.state,
        "writer": None,
        "finish": how.finish,
        "flagged": how.flagged,
        "ids": None if said.ids is None else list(said.ids),
        "logprobs": None if said.logprobs is None else [round(one, 6) for one in said.logprobs],
    }
    session.execute(update(Message).where(Message.id == id).values(values))
    session.execute(delete(Piece).where(Piece.message == id))


def asked(session: Session, id: str) -> str | None:
    """The digest of what a reply answers; None where the reply is not there."""
    parent = select(Message.parent).where(Message.id == id).scalar_subquery()
    return session.scalar(select(Message.digest).where(Message.id == parent))


def chained(before: str, said: Said) -> str:
    """A digest of a message and of all before it. What clients change when they send a reply back counts for
    nothing: spaces around it, thoughts, and the ids of calls."""
    calls = [[call.name, call.arguments] for call in said.calls]
    images = [image.digest for image in said.images]
    parts = [before, said.role, said.name, said.content.strip(), calls, images]
    text = json.dumps(parts, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()


def storable(text: str, where: str) -> str:
    """The text. Raises DataError where no database can hold it."""
    if text != clean(text):
        raise DataError(f"{where} has a NUL or half of a surrogate pair, which is no text: leave it out")
    return text


def clean(text: str) -> str:
    """The text with a mark in place of what no database can hold: NUL, and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().replace("\x00", MARK) if not _plain(text) else text


def _plain(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def _kept(session: Session, asking: str, conversation: Conversation, tag: str | None) -> tuple[str, str]:
    """The tree and the last message, once all that was said is there."""
    digests = [hashlib.sha256(json.dumps([asking, tag, list(conversation.tools)]).encode()).hexdigest()]
    for said in conversation.messages:
        digests.append(chained(digests[-1], said))
    there = _there(session, digests[1:])
    tree, parent = None, None
    rows: list[dict[str, Any]] = []
    for said, digest in zip(conversation.messages, digests[1:], strict=True):
        if digest in there:
            tree, parent = there[digest]
            continue
        tree = tree or _planted(session, asking, conversation, tag)
        rows.append({**_row(said, asking), "id": fresh(), "tree": tree, "parent": parent, "digest": digest})
        parent = rows[-1]["id"]
    if rows:
        session.execute(insert(Message), rows)
    assert tree is not None  # a conversation that can be answered has a message
    assert parent is not None
    return tree, parent


def _there(session: Session, digests: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Which of these are kept, with tree and id; of equal ones the newest, which a client goes on from."""
    columns = select(Message.digest, Message.tree, Message.id)
    found = session.execute(columns.where(Message.digest.in_(digests)).order_by(Message.since))
    return {digest: (tree, id) for digest, tree, id in found}


def _planted(session: Session, asking: str, conversation: Conversation, tag: str | None) -> str:
    row = {"id": fresh(), "person": asking, "tag": tag, "tools": list(conversation.tools)}
    session.execute(insert(Tree).values(**row, since=time.time()))
    return row["id"]


def _row(said: Said, asking: str) -> dict[str, Any]:
    row = {"role": said.role, "content": storable(said.content, "a message"), "more": _more(said)}
    return {**row, "person": asking, "since": time.time(), "made": {}}


def _more(said: Said) -> dict[str, Any]:
    """What OpenAI's form has beside role and text. Content in parts, with images, stands in it too."""
    found = say(said)
    return {key: value for key, value in found.items() if key not in ("role", "content") or said.images}
