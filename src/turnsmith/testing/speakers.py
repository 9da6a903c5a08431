"""What every agent and every scorer keeps. A check takes one with its options filled in, and conversations:
for an agent ones that it is to answer, for a scorer ones to judge, with the examples that they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from turnsmith.types import Chat, Conversation, Example, Failure, Reply, Sampling, Score, Scorer

# ----------------------------------------------------------------------------------------- agents


def each_is_answered(agent: Chat, conversations: Sequence[Conversation]) -> None:
    """One reply or failure for each, in a list; to none there are none."""
    assert len(agent(conversations, sampling=Sampling(max_new=8), seed=1)) == len(conversations)
    assert list(agent([])) == []


def replies_are_the_assistants(agent: Chat, conversations: Sequence[Conversation]) -> None:
    """Whoever speaks is the assistant of its own view; a failure says why."""
    for reply in agent(conversations):
        if isinstance(reply, Failure):
            assert reply.reason
        else:
            assert isinstance(reply, Reply)
            assert reply.message.role == "assistant"
            assert reply.usage.prompt >= 0
            assert reply.usage.completion >= 0


def the_same_seed_gives_the_same_replies(agent: Chat, conversations: Sequence[Conversation]) -> None:
    """Nothing of an earlier call is left: what is on the shelf stands for what would be said again."""
    assert agent(conversations, seed=5) == agent(conversations, seed=5)


AgentCheck = Callable[[Chat, Sequence[Conversation]], None]
AGENT: tuple[AgentCheck, ...] = (
    each_is_answered,
    replies_are_the_assistants,
    the_same_seed_gives_the_same_replies,
)

# ---------------------------------------------------------------------------------------- scorers


def each_is_judged(
    scorer: Scorer, conversations: Sequence[Conversation], examples: Sequence[Example]
) -> None:
    """A finite number for each, or None; of none there are none. Something can be judged."""
    scores = scorer(conversations, examples)
    assert len(scores) == len(conversations)
    assert all(score is None or math.isfinite(score) for score in scores)
    assert any(score is not None for score in scores)
    assert list(scorer([], [])) == []


def a_score_is_the_same_in_any_place_and_company(
    scorer: Scorer, conversations: Sequence[Conversation], examples: Sequence[Example]
) -> None:
    """Backwards and alone, as far as rounding goes."""
    scores = list(scorer(conversations, examples))
    back = list(scorer(conversations[::-1], examples[::-1]))
    alone = [scorer([one], [example])[0] for one, example in zip(conversations, examples, strict=True)]
    for score, *others in zip(scores, back[::-1], alone, strict=True):
        assert all(_near(score, other) for other in others)


def _near(score: Score, other: Score) -> bool:
    if score is None or other is None:
        return score is other
    return math.isclose(score, other, rel_tol=1e-4, abs_tol=1e-4)


ScorerCheck = Callable[[Scorer, Sequence[Conversation], Sequence[Example]], None]
SCORER: tuple[ScorerCheck, ...] = (each_is_judged, a_score_is_the_same_in_any_place_and_company)
