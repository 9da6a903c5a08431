"""Trees that people grow, kept: what each is asked to do next, and what comes of what they did."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from turnsmith.errors import UsageError
from turnsmith.serve import growing
from turnsmith.serve.growing import OVER, WAITING, Node, Review, Rules
from turnsmith.serve.store.judging import Absent, rank, seen
from turnsmith.serve.store.tables import Judgement, Message, Ranking, Tree, fresh
from turnsmith.serve.store.talks import chained, storable
from turnsmith.types import Message as Said

REVIEW = "review"  # the kind of judgement, which `judging` gives nobody by another way
LOOKED = 200  # trees that are looked through for something to do, the oldest first
REPLY = {"user": "reply_as_assistant", "assistant": "reply_as_prompter"}  # to a message of which role


def planted(session: Session, person: str, text: str, language: str | None = None) -> str:
    """A new tree with its first message; its id."""
    row = {"id": fresh(), "person": person, "tools": [], "state": "initial_prompt_review"}
    session.execute(insert(Tree).values(**row, language=language, since=time.time()))
    _written(session, row["id"], None, person, "user", text)
    return row["id"]


def replied(session: Session, person: str, message: str, text: str, rules: Rules) -> str:
    """A person's reply to a message, under its id. Raises Absent for a message that is not there, UsageError
    where nobody is to reply to it, or somebody else was quicker."""
    found = seen(session, person, message, all_trees=True)
    _open(session, found.tree, person, REPLY[found.role], message, rules)
    role = "assistant" if found.role == "user" else "user"
    id = _written(session, found.tree, message, person, role, text)
    advance(session, found.tree, rules)
    return id


def reviewed(session: Session, person: str, message: str, score: float, rules: Rules) -> None:
    """A person's review of a message, from 0 to 1. Raises as `replied` does."""
    if not 0 <= score <= 1:
        raise UsageError("a review is a number from 0 to 1")
    found = seen(session, person, message, all_trees=True)
    _open(session, found.tree, person, "review", message, rules)
    row = {"message": message, "person": person, "kind": REVIEW, "name": "", "value": score}
    session.execute(insert(Judgement).values(**row, id=fresh(), since=time.time()))
    advance(session, found.tree, rules)


def ranked(session: Session, person: str, message: str, order: Sequence[Sequence[str]], rules: Rules) -> None:
    """A person's order of the replies to a message. Raises as `replied` does."""
    found = seen(session, person, message, all_trees=True)
    _open(session, found.tree, person, "rank", message, rules)
    rank(session, person, message, order, blind=True, all_trees=True)
    advance(session, found.tree, rules)


def task(session: Session, person: str, rules: Rules, rng: Random) -> dict[str, Any] | None:
    """What a person is asked to do next, with all that stands before it; None where there is nothing."""
    over = select(Tree.id).where(Tree.state.is_not(None), Tree.state.not_in([*OVER, *WAITING]))
    ids = session.scalars(over.order_by(Tree.since).limit(LOOKED)).all()
    tasks = [one for id in ids for one in growing.tasks(loaded(session, id), rules, person)]
    if not tasks:
        return None
    chosen = growing.chosen(tasks, rules, rng)
    return {
        "kind": chosen.kind,
        "message": chosen.message,
        "conversation": _path(session, chosen.message),
        "replies": [_shown(session.get_one(Message, id)) for id in chosen.replies],
    }


def moderated(session: Session, tree: str, what: str, rules: Rules) -> str:
    """Halt a tree, start one that waits, or score again one whose scoring failed; its state. Raises Absent
    where it is not there, UsageError where that cannot be done to it."""
    now = loaded(session, tree)
    deeds = {
        "halt": growing.halted,
        "start": lambda one: growing.started(one, rules),
        "retry": lambda one: growing.retried(one, rules),
    }
    return _kept(session, tree, deeds[what](now))


def grows(session: Session, message: str) -> bool:
    """Whether a message is of a tree that people are asked to grow."""
    state = select(Tree.state).join(Message, Message.tree == Tree.id).where(Message.id == message)
    return session.scalar(state) is not None


def advance(session: Session, tree: str, rules: Rules) -> str:
    """Bring a tree to the state that what is known of it leads to; its state."""
    return _kept(session, tree, growing.advanced(loaded(session, tree), rules))


def loaded(session: Session, tree: str) -> growing.Tree:
    """A tree as it is. Raises Absent where no such tree is grown."""
    state = session.scalar(select(Tree.state).where(Tree.id == tree))
    if state is None:
        raise Absent(f"no tree {tree!r:.60} is grown")
    messages = session.scalars(select(Message).where(Message.tree == tree).order_by(Message.since)).all()
    inside = select(Message.id).where(Message.tree == tree)
    reviews: dict[str, list[Review]] = {}
    said = select(Judgement).where(Judgement.message.in_(inside), Judgement.kind == REVIEW)
    for one in session.scalars(said.order_by(Judgement.since)):
        reviews.setdefault(one.message, []).append(Review(one.person, one.value or 0.0))
    orders: dict[str, list[growing.Ranking]] = {}
    for one in session.scalars(select(Ranking).where(Ranking.message.in_(inside)).order_by(Ranking.since)):
        order = tuple(group[0] if len(group) == 1 else tuple(group) for group in one.order)
        orders.setdefault(one.message, []).append(growing.Ranking(one.person, order))
    nodes = tuple(_node(one, reviews.get(one.id, [])) for one in messages)
    return growing.Tree(state, nodes, {id: tuple(found) for id, found in orders.items()})  # pyright: ignore[reportArgumentType]


def _node(one: Message, reviews: Sequence[Review]) -> Node:
    role = "prompter" if one.role == "user" else "assistant"
    return Node(
        one.id, one.parent, role, tuple(reviews), one.deleted, one.rank, one.person, one.model is not None
    )


def _open(session: Session, tree: str, person: str, kind: str, message: str, rules: Rules) -> None:
    """Raises UsageError where a person is not, or no longer, to do this."""
    open_tasks = growing.tasks(loaded(session, tree), rules, person)
    if not any((one.kind, one.message) == (kind, message) for one in open_tasks):
        raise UsageError(f"this is not, or no longer, to be done ({kind} of {message}): ask for another task")


def _written(session: Session, tree: str, parent: str | None, person: str, role: str, text: str) -> str:
    if not text.strip():
        raise UsageError("a message has a text")
    before = session.scalar(select(Message.digest).where(Message.id == parent)) if parent else tree
    said = Said("assistant" if role == "assistant" else "user", storable(text, "the message"))
    row = {"id": fresh(), "tree": tree, "parent": parent, "role": role, "content": text, "person": person}
    digest = chained(before or tree, said)
    session.execute(insert(Message).values(**row, digest=digest, more={}, made={}, since=time.time()))
    return row["id"]


def _kept(session: Session, tree: str, now: growing.Tree) -> str:
    session.execute(update(Tree).where(Tree.id == tree).values(state=now.state))
    for node in now.nodes:
        changed = (Message.id == node.id) & Message.rank.is_distinct_from(node.rank)
        session.execute(update(Message).where(changed).values(rank=node.rank))
    return now.state


def _path(session: Session, message: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    at: str | None = message
    while at:
        one = session.get_one(Message, at)
        found.append(_shown(one))
        at = one.parent
    return found[::-1]


def _shown(one: Message) -> dict[str, Any]:
    return {"id": one.id, "role": one.role, "content": one.content}
