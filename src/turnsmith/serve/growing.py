"""How a tree of messages is grown by people: its states, and what each of them may be asked to do next.

Everything here is a function of values: a tree goes in, and the tree as it is then comes out. Nothing is
kept, and nobody is asked; that is for those who keep trees and talk to people.

Source: LAION-AI/Open-Assistant, backend/oasst_backend/tree_manager.py and config.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from statistics import fmean
from typing import Literal, NamedTuple

from turnsmith.data.votes import ranked_pairs
from turnsmith.errors import DataError, UsageError

State = Literal[
    "initial_prompt_review",
    "prompt_lottery_waiting",
    "growing",
    "backlog_ranking",
    "ranking",
    "ready_for_scoring",
    "ready_for_export",
    "aborted_low_grade",
    "halted_by_moderator",
    "scoring_failed",
]
OVER: tuple[State, ...] = ("ready_for_export", "aborted_low_grade", "halted_by_moderator", "scoring_failed")
WAITING: tuple[State, ...] = ("prompt_lottery_waiting", "backlog_ranking")  # for somebody to start them
Speaker = Literal["prompter", "assistant"]
Kind = Literal["review", "reply_as_prompter", "reply_as_assistant", "rank"]
# How much likelier one thing to do is than another where both are open; those of Open-Assistant.
WEIGHTS = {"rank": 10, "review": 5, "reply": 2}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a tree needs to go on.

    goal: accepted messages of a grown tree. depth: replies on one path at most. children: replies to one
    message at most; prompter_replies: of a prompter to one answer. reviews: of each message; acceptance: the
    least mean of their scores with which it stays. rankings: of the answers to one message. lonely: how often
    a message with an answer, but fewer than `few`, is preferred where a reply is asked for. lottery: whether
    an accepted first message waits to be drawn. rank_prompters: whether what prompters reply is ranked too.
    Raises UsageError where a number is out of range, or no tree of this depth could reach the goal.
    """

    goal: int = 12
    depth: int = 3
    children: int = 3
    prompter_replies: int = 1
    reviews: int = 3
    acceptance: float = 0.6
    rankings: int = 3
    lonely: float = 0.75
    few: int = 2
    lottery: bool = False
    rank_prompters: bool = False

    def __post_init__(self) -> None:
        for name in ("goal", "children", "prompter_replies", "reviews", "rankings"):
            if getattr(self, name) < 1:
                raise UsageError(f"rules: {name} is {getattr(self, name)}, and has to be 1 or more")
        for name in ("acceptance", "lonely"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"rules: {name} is {getattr(self, name)}, and has to be from 0 to 1")
        if self.goal > self.most:
            raise UsageError(
                f"rules: a tree of depth {self.depth} has room for {self.most} messages, and the goal is "
                f"{self.goal}: no tree would ever be grown"
            )

    @property
    def most(self) -> int:
        """Messages that a tree has room for.

        >>> Rules(goal=1).most  # 1, its 3 answers, a reply to each, and 3 answers to each of these
        16
        """
        level = found = 1
        for depth in range(self.depth):
            level *= self.children if depth % 2 == 0 else min(self.children, self.prompter_replies)
            found += level
        return found


class Review(NamedTuple):
    """How good somebody finds a message: from 0, not at all, to 1."""

    by: str
    score: float


class Ranking(NamedTuple):
    """In which order somebody puts the replies to a message, the best first; several in one place tie."""

    by: str
    order: tuple[str | tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A message. parent: what it replies to; None of the first. rank: 0 for the best among its siblings.
    author: None where it is nobody who could be asked. synthetic: written by a model; such a message came
    with its tree and needs no review."""

    id: str
    parent: str | None
    role: Speaker
    reviews: tuple[Review, ...] = ()
    deleted: bool = False
    rank: int | None = None
    author: str | None = None
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """Messages in the order in which they came, the first without a parent. rankings: by the message whose
    replies they are of. Raises DataError where the messages are no tree."""

    state: State
    nodes: tuple[Node, ...]
    rankings: Mapping[str, tuple[Ranking, ...]] = field(default_factory=dict[str, tuple[Ranking, ...]])

    def __post_init__(self) -> None:
        roles: dict[str | None, Speaker] = {None: "assistant"}
        for number, node in enumerate(self.nodes):
            if node.id in roles:
                raise DataError(f"two messages of a tree have the id {node.id!r}")
            if node.parent not in roles or (node.parent is None) != (number == 0):
                raise DataError(
                    f"message {node.id!r} replies to {node.parent!r}, which is not before it in its tree"
                )
            if node.role == roles[node.parent]:
                raise DataError(f"message {node.id!r} is by the {node.role}, as is what it replies to")
            roles[node.id] = node.role
        if not self.nodes:
            raise DataError("a tree has a first message at least")


class Task(NamedTuple):
    """What somebody may be asked: to review or to answer `message`, or to rank the `replies` to it. Of
    messages to answer, replies are those that there are."""

    kind: Kind
    message: str
    replies: tuple[str, ...] = ()


# ----------------------------------------------------------------------------------------- states


def advanced(tree: Tree, rules: Rules) -> Tree:
    """The tree in the last state that what is known of it leads to. One that is over, or waits to be started,
    stays as it is; one whose first message was deleted is halted."""
    while tree.state not in (*OVER, *WAITING):
        after = _next(tree, rules)
        if after is tree:
            break
        tree = after
    return tree


def started(tree: Tree, rules: Rules) -> Tree:
    """A tree that waited, advanced: one that was drawn grows, one of the backlog is ranked, or aborted where
    it has nothing to rank. Raises UsageError where it did not wait."""
    if tree.state not in WAITING:
        raise UsageError(f"only trees that wait can be started, and this one is {tree.state}")
    if tree.state == "prompt_lottery_waiting":
        return advanced(replace(tree, state="growing"), rules)
    found = bool(_sets(tree, rules))
    return advanced(replace(tree, state="ranking" if found else "aborted_low_grade"), rules)


def halted(tree: Tree) -> Tree:
    """The tree, ended by a moderator. Raises UsageError where it is over already."""
    if tree.state in OVER:
        raise UsageError(f"this tree is {tree.state}: it is over, and cannot be halted")
    return replace(tree, state="halted_by_moderator")


def retried(tree: Tree, rules: Rules) -> Tree:
    """A tree whose scoring failed, ranked again where rankings are missing, else scored anew. Raises
    UsageError for any other."""
    if tree.state != "scoring_failed":
        raise UsageError(f"only trees whose scoring failed can be tried again, and this one is {tree.state}")
    return advanced(replace(tree, state="ranking"), rules)


def consensus(tree: Tree) -> Tree:
    """A tree that is ready for scoring with the rank of each reply that was ranked, and ready for export.

    The rank is the reply's place in the order of `ranked_pairs` over all rankings of its siblings; deleted
    replies, and those that nobody ranked, have none. Where a ranking has a message twice, or one that is no
    reply to the message it was asked of, scoring has failed and all ranks stay. A tree in another state stays
    as it is.
    """
    if tree.state != "ready_for_scoring":
        return tree
    there = {node.id for node in _there(tree)}
    ranks: dict[str, int] = {}
    for parent, rankings in tree.rankings.items():
        replies = {node.id for node in tree.nodes if node.parent == parent}
        named = {name for one in rankings for name in _flat(one)}
        if named - replies or any(len(_flat(one)) > len({*_flat(one)}) for one in rankings):
            return replace(tree, state="scoring_failed")
        orders = [[_kept(place, there) for place in one.order] for one in rankings]
        ranks |= {id: rank for rank, id in enumerate(ranked_pairs(orders).order)}
    nodes = tuple(replace(node, rank=ranks.get(node.id)) for node in tree.nodes)
    return replace(tree, state="ready_for_export", nodes=nodes)


def _next(tree: Tree, rules: Rules) -> Tree:
    """The tree one state on, or itself."""
    there = _there(tree)
    if not there:
        return replace(tree, state="halted_by_moderator")
    if tree.state == "initial_prompt_review":
        verdict = _verdict(there[0], rules)
        if verdict is None:
            return tree
        on: State = "prompt_lottery_waiting" if rules.lottery else "growing"
        return replace(tree, state=on if verdict else "aborted_low_grade")
    if tree.state == "growing":
        verdicts = [_verdict(node, rules) for node in there]
        grown = verdicts.count(True) >= rules.goal and None not in verdicts
        return replace(tree, state="ranking") if grown else tree
    if tree.state == "ranking":
        missing = any(_missing(tree, parent, rules) for parent in _sets(tree, rules))
        return tree if missing else replace(tree, state="ready_for_scoring")
    return consensus(tree)


# ------------------------------------------------------------------------------------------ tasks


def tasks(tree: Tree, rules: Rules, by: str) -> list[Task]:
    """All that this person may be asked now, in the order of the messages.

    Nobody reviews their own message or ranks where one of theirs is among the replies, and nobody reviews,
    ranks or answers the same message twice, whatever became of the first time.
    """
    if tree.state in ("initial_prompt_review", "growing"):
        return [*_reviews(tree, rules, by), *(_replies(tree, rules, by) if tree.state == "growing" else ())]
    return list(_rankings(tree, rules, by)) if tree.state == "ranking" else []


def chosen(tasks: Sequence[Task], rules: Rules, rng: Random) -> Task:
    """One of the tasks: first what is to be done, by `WEIGHTS`, then evenly among those. Of messages to reply
    to, with the probability `rules.lonely`, those come first that a prompter said and that have an answer,
    but fewer than `rules.few`. Raises UsageError where there is no task."""
    if not tasks:
        raise UsageError("there is no task to choose from")
    kinds = sorted({_work(one) for one in tasks})
    (kind,) = rng.choices(kinds, [WEIGHTS[one] for one in kinds])
    open = [one for one in tasks if _work(one) == kind]
    lonely = [one for one in open if one.kind == "reply_as_assistant" and 0 < len(one.replies) < rules.few]
    return rng.choice(lonely if lonely and rng.random() < rules.lonely else open)


def _work(task: Task) -> str:
    return task.kind.partition("_")[0]


def _reviews(tree: Tree, rules: Rules, by: str) -> Iterator[Task]:
    there = _there(tree)
    # While a tree grows, the first message lacks reviews only where somebody's were deleted.
    for node in there[:1] if tree.state == "initial_prompt_review" else there:
        done = by == node.author or any(one.by == by for one in node.reviews)
        if _verdict(node, rules) is None and not done:
            yield Task("review", node.id)


def _replies(tree: Tree, rules: Rules, by: str) -> Iterator[Task]:
    """Messages to reply to: as many as the tree lacks, those under review counted in, and no deeper or wider
    than it may be."""
    there = _there(tree, rules)
    if len(there) >= rules.goal:
        return
    depth: dict[str | None, int] = {None: -1}
    for node in there:
        depth[node.id] = depth[node.parent] + 1
        asked = node.role == "prompter"
        most = rules.children if asked else min(rules.children, rules.prompter_replies)
        replies = tuple(one.id for one in there if one.parent == node.id)
        done = any(one.parent == node.id and one.author == by for one in tree.nodes)
        if _verdict(node, rules) and depth[node.id] < rules.depth and len(replies) < most and not done:
            yield Task("reply_as_assistant" if asked else "reply_as_prompter", node.id, replies)


def _rankings(tree: Tree, rules: Rules, by: str) -> Iterator[Task]:
    for parent, replies in _sets(tree, rules).items():
        own = any(node.author == by for node in tree.nodes if node.id in replies)
        done = any(one.by == by for one in tree.rankings.get(parent, ()))
        if _missing(tree, parent, rules) and not own and not done:
            yield Task("rank", parent, replies)


# ------------------------------------------------------------------------------------------ details


def _there(tree: Tree, rules: Rules | None = None) -> list[Node]:
    """The messages that were not deleted, nor anything before them; with rules, not turned down either."""
    found: dict[str | None, Node] = {}
    for node in tree.nodes:
        out = node.deleted or (rules is not None and _verdict(node, rules) is False)
        if not out and (node.parent is None or node.parent in found):
            found[node.id] = node
    return list(found.values())


def _verdict(node: Node, rules: Rules) -> bool | None:
    """Whether a message is accepted; None while reviews are missing."""
    if node.synthetic:
        return True
    if len(node.reviews) < rules.reviews:
        return None
    return fmean(one.score for one in node.reviews) >= rules.acceptance


def _sets(tree: Tree, rules: Rules) -> dict[str, tuple[str, ...]]:
    """The accepted replies that are to be ranked, by what they reply to: two or more."""
    found: dict[str, tuple[str, ...]] = {}
    for node in _there(tree, rules):
        if (
            node.parent is not None
            and _verdict(node, rules)
            and (node.role == "assistant" or rules.rank_prompters)
        ):
            found[node.parent] = (*found.get(node.parent, ()), node.id)
    return {parent: replies for parent, replies in found.items() if len(replies) > 1}


def _missing(tree: Tree, parent: str, rules: Rules) -> bool:
    return len(tree.rankings.get(parent, ())) < rules.rankings


def _flat(ranking: Ranking) -> list[str]:
    return [name for place in ranking.order for name in ((place,) if isinstance(place, str) else place)]


def _kept(place: str | tuple[str, ...], there: set[str]) -> tuple[str, ...]:
    return tuple(name for name in ((place,) if isinstance(place, str) else place) if name in there)
