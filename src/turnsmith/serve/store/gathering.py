"""Training data out of what was said and judged: rows in formats that `turnsmith data` reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean
from typing import Any, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from turnsmith.data.votes import ranked_pairs
from turnsmith.serve.store.tables import Judgement, Message, Person, Ranking, Tree
from turnsmith.types import Json

Kind = Literal["sft", "pairs", "kto", "rankings", "ratings"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Consent = Literal["given", "assumed"]
AT_ONCE = 200  # trees in memory
MIDDLE = 3.0  # of scales from 1 to 5: what is above is good
FIELDS = {"user": "prompter", "assistant": "assistant"}  # roles as OpenAssistant names them


@dataclass
class Node:
    """A reply or question with what was thought of it. scale: means over people, by criterion; better:
    corrected replies, the newest last."""

    row: Message
    parent: Node | None = None
    replies: list[Node] = field(default_factory=list["Node"])
    votes: list[float] = field(default_factory=list[float])
    scales: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    better: list[str] = field(default_factory=list[str])
    rankings: list[list[list[str]]] = field(default_factory=list[list[list[str]]])

    @property
    def score(self) -> float | None:
        """From -1 to 1: the mean of votes, and of scales around their middle; None where nobody judged."""
        found = [fmean(self.votes)] if self.votes else []
        found += [(fmean(values) - MIDDLE) / 2 for values in self.scales.values()]
        return fmean(found) if found else None

    @property
    def path(self) -> list[Node]:
        """From the root to here."""
        return [*(self.parent.path if self.parent else []), self]

    @property
    def usable(self) -> bool:
        """Whether it is whole, so that what goes on from it may be learnt."""
        return self.row.state == "whole" and not self.row.deleted and self.row.flagged is None


@dataclass
class Gathered:
    """Rows, whose words are in them, and what was left out and why."""

    rows: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    people: set[str] = field(default_factory=set[str])
    left: Counter[str] = field(default_factory=Counter[str])
    until: float = 0.0


def gathered(session: Session, kind: Kind, *, consent: Consent = "given", since: float = 0.0) -> Gathered:
    """Rows of this kind. since: only trees that somebody judged after it.

    consent: `given` takes words of people who said yes alone; `assumed` those of people who were never
    asked too, and never of those who said no. sft: threads to replies that were judged good, or were
    corrected; other replies in them weigh nothing, and each learns once. pairs: for each question two of its
    replies, or a corrected one and the one it corrects. kto: each reply that was judged, with a label.
    rankings: trees with ranks from ranked pairs, without system texts, and without trees in which tools are
    called. ratings: each reply that was rated, with its means.
    """
    found = Gathered()
    refused = _refused(session, consent)
    for tree, nodes in _trees(session, since):
        words = {tree.person, *(node.row.person for node in nodes if node.row.person)}
        if words & refused:
            found.left["conversations of people who did not consent"] += 1
            continue
        rows = list(ROWS[kind](tree, nodes))
        found.rows += rows
        found.people |= words if rows else set()
        found.left["conversations with nothing of this kind"] += not rows
    found.until = max(
        [since, *session.scalars(select(Judgement.since)), *session.scalars(select(Ranking.since))]
    )
    return found


def _refused(session: Session, consent: Consent) -> set[str]:
    wanted = Person.consent.is_not(True) if consent == "given" else Person.consent.is_(False)
    return set(session.scalars(select(Person.id).where(wanted)))


def _trees(session: Session, since: float) -> Iterator[tuple[Tree, list[Node]]]:
    """Trees that were judged, the oldest first, with their nodes, parents before replies."""
    judged = (
        select(Message.tree).join(Judgement, Judgement.message == Message.id).where(Judgement.since > since)
    )
    ranked = select(Message.tree).join(Ranking, Ranking.message == Message.id).where(Ranking.since > since)
    asked = select(Tree.id).where(Tree.id.in_(judged.union(ranked))).order_by(Tree.since, Tree.id)
    ids = session.scalars(asked).all()
    for start in range(0, len(ids), AT_ONCE):
        part = ids[start : start + AT_ONCE]
        messages = session.scalars(select(Message).where(Message.tree.in_(part)).order_by(Message.since))
        by: dict[str, list[Message]] = {id: [] for id in part}
        for message in messages:
            by[message.tree].append(message)
        judgements = _judgements(session, part)
        for id in part:
            yield session.get_one(Tree, id), _nodes(by[id], *judgements)


def _judgements(session: Session, trees: Sequence[str]) -> tuple[list[Judgement], list[Ranking]]:
    inside = select(Message.id).where(Message.tree.in_(trees))
    judged = select(Judgement).where(Judgement.message.in_(inside)).order_by(Judgement.since)
    ranked = select(Ranking).where(Ranking.message.in_(inside)).order_by(Ranking.since)
    return list(session.scalars(judged)), list(session.scalars(ranked))


def _nodes(messages: Sequence[Message], judged: Sequence[Judgement], ranked: Sequence[Ranking]) -> list[Node]:
    nodes = {message.id: Node(message) for message in messages}
    for node in nodes.values():
        if node.row.parent in nodes:
            node.parent = nodes[node.row.parent]
            node.parent.replies.append(node)
    for one in judged:
        if node := nodes.get(one.message):
            _noted(node, one)
    for one in ranked:
        if node := nodes.get(one.message):
            node.rankings.append(one.order)
    return list(nodes.values())


def _noted(node: Node, one: Judgement) -> None:
    if one.kind == "vote" and one.value is not None:
        node.votes.append(one.value)
    elif one.kind == "scale" and one.value is not None:
        node.scales.setdefault(one.name, []).append(one.value)
    elif one.kind == "correction" and one.text is not None:
        node.better.append(one.text)


# ------------------------------------------------------------------------------------- rows by kind


def _said(node: Node, **more: Json) -> dict[str, Json]:
    return {"role": node.row.role, "content": node.row.content, **node.row.more, **more}


def _prompt(node: Node) -> list[dict[str, Json]] | None:
    """What a reply answers; None where some of it is no longer there, or there is nothing."""
    above = node.path[:-1]
    return [_said(one) for one in above] if above and all(one.usable for one in above) else None


def _replies(nodes: Sequence[Node]) -> Iterator[tuple[Node, list[dict[str, Json]]]]:
    """Replies that are whole, with what they answer."""
    for node in nodes:
        if node.row.role == "assistant" and node.usable and (prompt := _prompt(node)):
            yield node, prompt


def _beside(tree: Tree, node: Node) -> dict[str, Json]:
    tools: dict[str, Json] = {"tools": tree.tools} if tree.tools else {}
    return {**tools, "id": node.row.id, "tree": tree.id, "model": node.row.model}


def _sft(tree: Tree, nodes: Sequence[Node]) -> Iterator[dict[str, Json]]:
    replies = {node.row.id: node for node, _ in _replies(nodes)}
    good = {id for id, node in replies.items() if (node.score or 0) > 0 and not node.better}
    over = {one.row.id for id in good for one in replies[id].path[:-1]}  # a longer thread has them
    learnt: set[str] = set()
    for id, node in replies.items():
        if node.better:
            silent = [_weighed(one, set()) for one in node.path[:-1]]
            answer: dict[str, Json] = {"role": "assistant", "content": node.better[-1]}
            yield {"messages": [*silent, answer], **_beside(tree, node)}
        elif id in good and id not in over:
            now = {one.row.id for one in node.path} & good - learnt
            learnt |= now
            yield {"messages": [_weighed(one, now) for one in node.path], **_beside(tree, node)}


def _weighed(node: Node, learn: set[str]) -> dict[str, Json]:
    silent = node.row.role == "assistant" and node.row.id not in learn
    return _said(node, **({"weight": 0} if silent else {}))


def _pairs(tree: Tree, nodes: Sequence[Node]) -> Iterator[dict[str, Json]]:
    for node, prompt in _replies(nodes):
        if node.better:
            better: dict[str, Json] = {"role": "assistant", "content": node.better[-1]}
            yield {"prompt": prompt, "chosen": [better], "rejected": [_said(node)], **_beside(tree, node)}
    for asked in nodes:
        there = {one.row.id: one for one, _ in _replies(asked.replies)}
        for chosen, rejected, margin in _preferred(asked, there):
            prompt = [_said(one) for one in asked.path]
            both = {"chosen": [_said(there[chosen])], "rejected": [_said(there[rejected])]}
            yield {"prompt": prompt, **both, "margin": margin, **_beside(tree, there[chosen])}


def _preferred(asked: Node, there: Mapping[str, Node]) -> Iterator[tuple[str, str, float]]:
    """Pairs of replies with margins: by majorities of rankings, as far as these say something, else by what
    the replies were judged for themselves. Replies that say the same are no pair."""
    margins = ranked_pairs([_among(order, there) for order in asked.rankings]).margins
    for one, other in combinations(there, 2):
        gap: float = margins.get((one, other), 0)
        ours, theirs = there[one].score, there[other].score
        if not gap and ours is not None and theirs is not None:
            gap = ours - theirs
        if gap and there[one].row.content.strip() != there[other].row.content.strip():
            yield (one, other, gap) if gap > 0 else (other, one, -gap)


def _among(order: Sequence[Sequence[str]], there: Mapping[str, Node]) -> list[list[str]]:
    return [kept for group in order if (kept := [id for id in group if id in there])]


def _kto(tree: Tree, nodes: Sequence[Node]) -> Iterator[dict[str, Json]]:
    for node, prompt in _replies(nodes):
        score = node.score if node.score is not None else -1.0 if node.better else 0.0
        if score:
            yield {"messages": [*prompt, _said(node)], "label": score > 0, **_beside(tree, node)}
        if node.better:
            better: dict[str, Json] = {"role": "assistant", "content": node.better[-1]}
            beside = {**_beside(tree, node), "id": f"{node.row.id}-corrected"}
            yield {"messages": [*prompt, better], "label": True, **beside}


def _ratings(tree: Tree, nodes: Sequence[Node]) -> Iterator[dict[str, Json]]:
    for node, prompt in _replies(nodes):
        if node.scales:
            means: dict[str, Json] = {name: fmean(values) for name, values in sorted(node.scales.items())}
            yield {"messages": [*prompt, _said(node)], "ratings": means, **_beside(tree, node)}


def _rankings(tree: Tree, nodes: Sequence[Node]) -> Iterator[dict[str, Json]]:
    ranks: dict[str, int] = {}
    for asked in nodes:
        there = {one.row.id: one for one, _ in _replies(asked.replies)}
        order = ranked_pairs([_among(given, there) for given in asked.rankings]).order
        ranks |= {id: place for place, id in enumerate(order)} if len(order) > 1 else {}
    if any(node.row.role == "tool" or node.row.more for node in nodes):
        return  # the format has a place for texts of two speakers, and for nothing else
    above = [node for node in nodes if node.row.role == "user"]
    roots = [node for node in above if node.parent is None or node.parent.row.role == "system"]
    for root in roots if ranks else []:
        about = {"message_tree_id": tree.id, "tree_state": tree.state or "ready_for_export"}
        yield {**about, "prompt": _nested(root, ranks)}


def _nested(node: Node, ranks: Mapping[str, int]) -> dict[str, Json]:
    row = node.row
    about: dict[str, Any] = {
        "message_id": row.id,
        "parent_id": row.parent if node.parent and node.parent.row.role in FIELDS else None,
        "text": row.content,
        "role": FIELDS.get(row.role, row.role),
        "deleted": not node.usable,
        "model_name": row.model,
    }
    rank = {"rank": ranks[row.id]} if row.id in ranks else {}
    return {**about, **rank, "replies": [_nested(one, ranks) for one in node.replies]}


ROWS = {"sft": _sft, "pairs": _pairs, "kto": _kto, "rankings": _rankings, "ratings": _ratings}
