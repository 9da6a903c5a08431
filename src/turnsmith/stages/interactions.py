"""Stages around feedback in words: interactions in which a critic speaks, and replies learnt under what was
said of them (DRESS)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Literal

from turnsmith.data.critique import BEST, REQUEST, Critique, critique_of, rating_of
from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.stages.answers import prompt
from turnsmith.stages.conditioned import put
from turnsmith.stages.parts import conversation_of
from turnsmith.stages.prompts import TOPICS
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Reply, Sampling

WISHED = ("small", "old", "good", "new", "long", "warm", "great", "common", "simple", "famous")
MOST = 15  # words that a sentence may have


@stage("wishes")
def wishes(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` questions that ask for one sentence, of at most 15 words, with a certain word in it: what
    the agent `examiner` can judge."""
    yield from data
    topics = TOPICS.split()
    for number in range(count):
        topic, word = topics[number % len(topics)], rng.choice(WISHED)
        text = (
            f"Tell me about {topic} in one sentence of at most {MOST} words that has the word '{word}' in it."
        )
        asked = Conversation((Message("user", text),))
        yield Example({"text": asked}, {}, {"id": f"wish-{number}", "topic": topic})


@stage("interactions", chats=("by", "critic"), source="arXiv:2311.10081 sec. 3")
def interactions(
    data: Sequence[Example],
    *,
    by: Chat,
    critic: Chat,
    turns: int = 2,
    temperature: float = 1.0,
    max_new: int = 64,
    part: str = "text",
    counts: Counter[str],
) -> Iterator[Example]:
    """Have `by` answer, `critic` judge the answer, and `by` try again with the critic's advice as the next
    message of the user, up to `turns` times.

    critic: a chat, such as a large model or the agent `examiner`; it is sent the conversation and a request
    for a rating from 1 to 4, a critique and advice. Replies have `rating` and `critique` among their fields.
    A dialogue ends where there is no advice. Of what could not be answered or judged, and of what a critic
    said in no form that can be read, the turns before it stay; all such are counted.
    """
    if turns < 1:
        raise UsageError(f"interactions: turns is {turns}: one at least")
    sampling = Sampling(temperature=temperature, max_new=max_new)
    said = [prompt(example, part) for example in data]
    going = list(range(len(data)))
    for turn in range(turns):
        replies = by([said[at] for at in going], sampling=sampling, seed=turn) if going else []
        sound = zip(going, _sound(replies, "answers", counts), strict=True)
        answered = {at: reply.message for at, reply in sound if reply}
        judged = criticised(critic, [said[at].then(one) for at, one in answered.items()], counts)
        going = []
        for (at, message), one in zip(answered.items(), judged, strict=True):
            if one is None:
                continue
            fields = {**message.fields, "rating": one.rating, "critique": one.text}
            said[at] = said[at].then(replace(message, fields=fields))
            if one.advice:
                said[at] = said[at].then(Message("user", one.advice))
                going.append(at)
    for example, text in zip(data, said, strict=True):
        if text.answers:
            yield example.replaced(**{part: text.upto(text.answers[-1] + 1)})
        else:
            counts["have no judged answer"] += 1


@stage("under_critique", source="arXiv:2311.10081 sec. 3.3")
def under_critique(
    data: Sequence[Example],
    *,
    template: str = "{said}\n(The next reply is rated {condition})",
    turns: Literal["each", "last"] = "each",
    least: int = 1,
    part: str = "text",
    counts: Counter[str],
) -> Iterator[Example]:
    """Make of each rated reply an example, in which it is learnt under its rating and critique.

    The condition stands in the message that the reply answers, and nowhere else: what was said before is as
    it was said, and does not learn. template: what that message becomes, with `{said}` and `{condition}`,
    which is `4 of 4: critique`, or `4 of 4` where nothing was criticised; an empty template gives no
    condition. turns: every reply, or the last of each conversation alone; the paper leaves open which.
    least: replies rated lower are left out, as rejection sampling does. What is left out is counted, replies
    without a rating apart. Raises DataError where a rating is not a whole number from 1 to 4.
    """
    for example in data:
        text = conversation_of(example, part)
        for number, place in enumerate(text.answers[-1:] if turns == "last" else text.answers):
            given = text.messages[place].fields.get("rating")
            if given is None:
                counts["replies without a rating"] += 1
                continue
            rating = rating_of(given, f"message {place} of example {example.id!r}")
            if rating < least:
                counts[f"replies rated below {least}"] += 1
                continue
            critique = str(text.messages[place].fields.get("critique", ""))
            made = _told(text.upto(place), condition(rating, critique), template)
            reply = replace(text.messages[place], fields={}, weight=None)
            meta = {**example.meta, "id": f"{example.id}/{number}", "rating": rating}
            yield Example({part: made.then(reply)}, example.values, meta)


def condition(rating: int, critique: str = "") -> str:
    """How a rating and a critique are said.

    >>> condition(3, "Too long."), condition(4)
    ('3 of 4: Too long.', '4 of 4')
    """
    return f"{rating} of {BEST}" + (f": {critique.strip()}" if critique.strip() else "")


def told(conversation: Conversation, condition: str, template: str) -> Conversation:
    """The conversation with the condition in its last message, which has to be a user's; as it is where the
    template is empty."""
    if not template:
        return conversation
    if not conversation.messages or conversation.messages[-1].role != "user":
        raise DataError("a condition stands in the message of a user that is answered, and here is none")
    return conversation.upto(-1).then(put(conversation.messages[-1], condition, template))


def criticised(
    critic: Chat, conversations: Sequence[Conversation], counts: Counter[str]
) -> list[Critique | None]:
    """What the critic says of the last reply of each conversation; None, counted, where that is nothing."""
    asked = [one.then(Message("user", REQUEST)) for one in conversations]
    replies = critic(asked, sampling=Sampling(temperature=0.0)) if asked else []
    found: list[Critique | None] = []
    for reply in _sound(replies, "critiques", counts):
        try:
            found.append(None if reply is None else critique_of(reply.message.content))
        except DataError:
            counts["critiques that cannot be read"] += 1
            found.append(None)
    return found


def _told(before: Conversation, condition: str, template: str) -> Conversation:
    """What stands before a reply, of which nothing learns and nothing is told but how the reply is rated."""
    plain = tuple(replace(one, fields={}, weight=0.0, spans=()) for one in before.messages)
    return told(replace(before, messages=plain), condition, template)


def _sound(replies: Sequence[Reply | Failure], what: str, counts: Counter[str]) -> list[Reply | None]:
    counts.update(f"{what} that did not come: {one.reason}" for one in replies if isinstance(one, Failure))
    return [None if isinstance(one, Failure) else one for one in replies]
