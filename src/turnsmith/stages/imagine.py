"""Dialogues that a generator imagines from the description of a task alone, good ones and bad ones."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Role, Sampling

REASON = (
    "Consider this task of a conversational agent: {task}\n\nWhich traits of the human it talks to decide "
    "what the agent should say? Name {traits} of them, one a line, each with values as different from each "
    "other as people are, in this form:\ntrait: value; value; value"
)
IMAGINE = (
    "Write a conversation between an agent and a human. The task of the agent: {task}\nThe human: {persona}\n"
    "The conversation ends {outcome}. The agent does not know who it talks to before it has found out; the "
    "human tells of themselves only what is asked. The human speaks first. Write each utterance on a line of "
    "its own, which begins with `Human:` or `Agent:`, and nothing else."
)
CRITIQUE = (
    "Criticise this conversation. Does all that the human says fit who they are ({persona})? Does the agent "
    "gather information before it acts on it, and does the human wait to be asked? Does what was said lead "
    "to the end, which is that it ends {outcome}?"
)
REVISE = (
    "Write the conversation anew, with these faults mended. It still ends {outcome}. Keep to the form: lines "
    "that begin with `Human:` or `Agent:`, and nothing else."
)
JUDGE = (
    "This is a conversation between an agent and a human. The task of the agent: {task}\n"
    "The human: {persona}\n\n{dialogue}\n\nDid the agent do well at its task? Answer with yes or no."
)
OUTCOMES = {True: "well: the agent does its task", False: "badly: the agent fails at its task"}
SPEAKERS: dict[str, Role] = {"human": "user", "agent": "assistant"}
LINE = re.compile(r"\W*(human|agent)\W*?:\W*(.*)", re.IGNORECASE)
TRAIT = re.compile(r"[^\w]*(?:\d+[.)]\s*)?(\w[^:]*):(.+)")


@dataclass(frozen=True, slots=True)
class _Draft:
    """A dialogue under way. talk: what the generator was asked and said for it so far."""

    task: str
    persona: str
    good: bool
    talk: Conversation
    dialogue: Conversation
    critique: str = ""

    def asked(self, text: str) -> Conversation:
        """The talk with one more request, its braces filled in."""
        outcome = OUTCOMES[self.good]
        filled = text.format(task=self.task, persona=self.persona, outcome=outcome)
        return self.talk.then(Message("user", filled))


@stage("imagined", chats=("by", "judge"), source="arXiv:2311.05584 sec. 4; prompts of our own")
def imagined(
    data: Sequence[Example],
    *,
    by: Chat,
    task: str,
    count: int,
    judge: Chat | None = None,
    personas: tuple[str, ...] = (),
    traits: int = 3,
    revisions: int = 1,
    good: float = 0.5,
    temperature: float = 1.0,
    max_new: int = 1024,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Add `count` dialogues for a task, imagined by the model `by`: it reasons about people, then writes,
    criticises and revises.

    task: what the agent is for, in words. Without `personas` the model names so many `traits` of people, and
    the combinations of their values are the personas; each comes as often as any other, as nearly as the
    count allows. good: the share of dialogues that are asked to end well, in their revisions too; their value
    `reward` is 1, that of the others 0. revisions: how often a dialogue is criticised and written anew; one
    that cannot be read leaves the dialogue as it was. judge: a model that is asked of the last version
    whether the agent did well; where it says otherwise than was asked for, or neither yes nor no, the
    dialogue is left out. Whatever is left out is counted.
    Examples have persona, task and critique in their metadata; a user's message comes first. A generator has
    to follow instructions over pages: one of 7B and more, or one behind an endpoint, whose replies are kept.
    Raises UsageError for numbers out of range, DataError where the model names no traits.
    """
    if count < 1 or traits < 1 or revisions < 0 or not 0 <= good <= 1:
        raise UsageError(
            f"imagined: count {count} and traits {traits} have to be 1 or more, revisions {revisions} 0 or "
            f"more, and good {good} a share"
        )
    yield from data
    sampling = Sampling(temperature=temperature, max_new=max_new)
    people = list(personas) or _people(by, REASON.format(task=task, traits=traits), sampling)
    rng.shuffle(people)
    outcomes = [number < round(good * count) for number in range(count)]
    rng.shuffle(outcomes)
    cast = [(people[number % len(people)], outcome) for number, outcome in enumerate(outcomes)]
    drafts = _written(by, task, cast, sampling, counts)
    for _ in range(revisions):
        drafts = _revised(by, drafts, sampling, counts)
    if judge is not None:
        drafts = _agreed(judge, drafts, counts)
    for number, draft in enumerate(drafts):
        meta = {"persona": draft.persona, "task": task, "critique": draft.critique}
        values = {"reward": float(draft.good)}
        yield Example({"text": draft.dialogue}, values, {"id": f"imagined-{number}", **meta})


def read(text: str) -> Conversation | None:
    """The dialogue in lines of `Human:` and `Agent:`, the agent's as the assistant's; None where there is
    none that a human begins and an agent answers.

    A line without a speaker goes on from the one before; what stands before the first is passed over.

    >>> [message.content for message in read("Human: Hi\\nAgent: Hello.\\nWho are you?").messages]
    ['Hi', 'Hello.\\nWho are you?']
    """
    said: list[Message] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        found = LINE.fullmatch(line)
        role, words = (SPEAKERS[found.group(1).lower()], found.group(2)) if found else (None, line)
        if said and role in (None, said[-1].role):
            said[-1] = replace(said[-1], content=f"{said[-1].content}\n{words}".strip())
        elif role is not None:
            said.append(Message(role, words))
    begun = [message.role for message in said[:2]] == ["user", "assistant"]
    return Conversation(tuple(said)) if begun and all(message.content for message in said) else None


def _people(by: Chat, asked: str, sampling: Sampling) -> list[str]:
    """All combinations of the values of the traits that the generator names."""
    (reply,) = by([Conversation((Message("user", asked),))], sampling=sampling)
    text = reply.reason if isinstance(reply, Failure) else reply.message.content
    named: list[list[str]] = []
    for found in filter(None, map(TRAIT.fullmatch, map(str.strip, text.splitlines()))):
        trait, *values = (each.strip(" .*_") for each in (found.group(1), *found.group(2).split(";")))
        named.append([f"{trait}: {value}" for value in values if value])
    named = [values for values in named if values]
    if isinstance(reply, Failure) or not named:
        raise DataError(
            f"imagined: asked for traits of people as lines of `trait: value; value`, the generator said "
            f"{text[:200]!r}: take a stronger one, or say who the people are in `personas`"
        )
    return [", ".join(values) for values in itertools.product(*named)]


def _written(
    by: Chat, task: str, cast: Sequence[tuple[str, bool]], sampling: Sampling, counts: Counter[str]
) -> list[_Draft]:
    """First versions, of those that could be read."""
    none = Conversation(())
    drafts = [_Draft(task, persona, good, none, none) for persona, good in cast]
    asked = [draft.asked(IMAGINE) for draft in drafts]
    found: list[_Draft] = []
    for draft, talk, text in zip(drafts, asked, _replies(by, asked, sampling, counts), strict=True):
        dialogue = None if text is None else read(text)
        if text is not None and dialogue is not None:
            found.append(replace(draft, talk=talk.then(Message("assistant", text)), dialogue=dialogue))
        elif text is not None:
            counts["could not be read as a dialogue"] += 1
    return found


def _revised(by: Chat, drafts: Sequence[_Draft], sampling: Sampling, counts: Counter[str]) -> list[_Draft]:
    """The drafts after one critique each, written anew where that could be read."""
    asked = [draft.asked(CRITIQUE) for draft in drafts]
    criticised: list[_Draft] = []
    for draft, talk, text in zip(drafts, asked, _replies(by, asked, sampling, counts), strict=True):
        if text is not None:
            criticised.append(replace(draft, talk=talk.then(Message("assistant", text)), critique=text))
    asked = [draft.asked(REVISE) for draft in criticised]
    found: list[_Draft] = []
    for draft, talk, text in zip(criticised, asked, _replies(by, asked, sampling, counts), strict=True):
        dialogue = None if text is None else read(text)
        if text is not None and dialogue is None:
            counts["stay as they were: their revision could not be read"] += 1
        if text is not None:
            made = talk.then(Message("assistant", text))
            found.append(replace(draft, talk=made, dialogue=dialogue or draft.dialogue))
    return found


def _agreed(judge: Chat, drafts: Sequence[_Draft], counts: Counter[str]) -> list[_Draft]:
    """The drafts of which the judge says that they went as they were meant to."""
    names = {role: speaker.capitalize() for speaker, role in SPEAKERS.items()}
    asked: list[Conversation] = []
    for draft in drafts:
        said = "\n".join(f"{names[one.role]}: {one.content}" for one in draft.dialogue.messages)
        text = JUDGE.format(task=draft.task, persona=draft.persona, dialogue=said)
        asked.append(Conversation((Message("user", text),)))
    found: list[_Draft] = []
    for draft, text in zip(drafts, _replies(judge, asked, Sampling(temperature=0), counts), strict=True):
        verdict = None if text is None else re.match(r"\W*(yes|no)\b", text.lower())
        if text is not None and verdict is None:
            counts["could not be judged"] += 1
        elif verdict is not None and (verdict.group(1) == "yes") != draft.good:
            counts["did not end as they were meant to"] += 1
        elif verdict is not None:
            found.append(draft)
    return found


def _replies(
    chat: Chat, asked: Sequence[Conversation], sampling: Sampling, counts: Counter[str]
) -> list[str | None]:
    """What the chat says to each; None, and counted, where it could not answer."""
    found: list[str | None] = []
    for reply in chat(asked, sampling=sampling) if asked else ():
        if isinstance(reply, Failure):
            counts[f"could not be answered: {reply.reason}"] += 1
        found.append(None if isinstance(reply, Failure) else reply.message.content)
    return found
