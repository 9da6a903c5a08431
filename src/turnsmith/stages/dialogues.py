"""Stages that have models talk to each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.rollout import converse as rollout
from turnsmith.rollout.converse import Dialogue, Opening, Speaker
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Chat, Conversation, Example, Message, Sampling

USER, MODEL = "user", "model"  # names of the speakers, in their order


@stage("converse", chats=("by", "user"), source="arXiv:2305.14233")
def converse(
    data: Sequence[Example],
    *,
    by: Chat,
    user: Chat,
    to: str = "text",
    made: str = "text",
    seen: str = "user",
    turns: int = 3,
    least: int | None = None,
    system: str = (
        "You are a person who talks to an AI assistant; what it says comes to you as the user's messages. "
        "Stay this person and never answer as an assistant. React to what was said last and say in one or "
        "two sentences what you would say next. Do not thank it and do not end the conversation."
    ),
    profile: str | None = None,
    closing: tuple[str, ...] = (),
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new: int = 256,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """From the opening of each conversation, let the model `by` talk to the model `user`, who plays a user.

    The opening is what stands before the assistant's first answer; a system text in it is for `by` alone.
    turns: answers of `by`; with `least` their number is drawn from `least` to `turns`. system: what `user` is
    told; profile: a key of the metadata whose text is put behind it. closing: texts of `user` that end a
    dialogue. Examples get the parts `made`, as `by` sees the dialogue, and `seen`, as `user` does, both with
    the ids that each sampled.
    A dialogue that ends sooner is kept up to the last answer that says something, and counted; without one,
    and without an opening, an example is left out and counted. Answers cut at `max_new` tokens stay.
    """
    least = turns if least is None else least
    if not 1 <= least <= turns:
        raise UsageError(f"converse: least is {least} and turns {turns}: 1 <= least <= turns is needed")
    kept: list[tuple[Example, Opening]] = []
    for example in data:
        start = opening(example, to, profile)
        if start is None:
            counts["have no opening that could be answered"] += 1
        else:
            kept.append((example, start))
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new=max_new)
    speakers = {
        USER: Speaker(user, system, sampling=sampling, closing=closing),
        MODEL: Speaker(by, sampling=sampling),
    }
    numbers = [2 * rng.randint(least, turns) - 1 for _ in kept]
    dialogues = rollout.converse(speakers, [start for _, start in kept], turns=numbers, seed=0)
    for (example, _), dialogue in zip(kept, dialogues, strict=True):
        if dialogue.ending != "turns":
            counts[f"ended early: {dialogue.reason or dialogue.ending}"] += 1
        whole = _answered(dialogue)
        if whole.turns:
            counts.update({f"messages cut at {max_new} tokens": len(whole.cut)} if whole.cut else {})
            parts = {made: whole.view(MODEL), seen: whole.view(USER)}
            yield Example(parts, example.values, example.meta)
        else:
            counts["were never answered"] += 1


def opening(example: Example, to: str, profile: str | None) -> Opening | None:
    """What the dialogue of an example starts from; None where a user has not spoken last, or has tools.

    Raises DataError where there is no such conversation, or no such profile.
    """
    given = conversation_of(example, to)
    roles = [message.role for message in given.messages]
    answers = [i for i in range(1, len(roles)) if roles[i - 1 : i + 1] == ["user", "assistant"]]
    messages = given.upto(answers[0]).messages if answers else given.messages
    if given.tools or not messages or messages[-1].role != "user":
        return None
    said = tuple(replace(message, name=None) for message in messages if message.role != "system")
    if any(message.role not in ("user", "assistant") for message in said):
        return None
    private = {MODEL: tuple(message for message in messages if message.role == "system")}
    if profile is not None:
        text = example.meta.get(profile)
        if not isinstance(text, str):
            raise DataError(f"example {example.id!r}: the profile {profile!r} is {text!r}, and no text")
        private[USER] = (Message("system", text),)
    return Opening(Conversation(said), private)


def _answered(dialogue: Dialogue) -> Dialogue:
    """The dialogue up to the last answer of the model that says something, or to its opening."""
    end = len(dialogue.said.messages) - (dialogue.ending in ("empty", "calls"))
    told = [place for place in dialogue.answers(MODEL) if place < end]
    return dialogue.before(told[-1] + 1 if told else len(dialogue.opening.said.messages))
