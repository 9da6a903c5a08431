"""Dialogues from a list of topics alone: subtopics, personas, and a dialogue of each two of them
(DiaSynth)."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from turnsmith.data.formats.summarised import to_summarise
from turnsmith.data.overlap import rouge_l
from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Chat, Conversation, Example, Failure, Json, Message, Role, Sampling, is_list

SUBTOPICS = (
    "Name {count} subtopics of {topic!r} that people talk about, each as unlike the others as can be. "
    "Say them as one list in square brackets, each in quotes, and nothing else."
)
PERSONAS = (
    "Describe {count} people who are likely to talk about {topic!r}, each in one sentence, and each as "
    "unlike the others as can be. Say them as one list in square brackets, each in quotes, and nothing else."
)
WRITER = "You are an expert in writing dialogues as people really have them, on {topic}."
DIALOGUE = (
    "Write a dialogue on {sub!r} between two people.\nA: {one}\nB: {other}\n{thinking}"
    "Do not have them say who they are. Put the dialogue between <dialogue> and </dialogue>, one line for "
    "each utterance, which begins with `A:` or `B:`."
)
THINKING = (
    "First settle these ten things between <cot> and </cot>, with reasons, and how they bear on each other: "
    "age and gender, familiarity, emotional state, formality, duration, medium, topic, location, agreement "
    "or disagreement, and fillers, slang and pauses.\n"
)
LINE = re.compile(r"\s*[*_#\-\s]*([^\W\d_][^:\n]{0,30}?|[AB])[*_#\s]*:[*_\s]*(\S.*)")
ITEM = re.compile(r"\s*(?:\d+[.)]|[-*\u2022])\s*(\S.*?)\s*")
BETWEEN = r"<{tag}>(.*?)(?:</{tag}>|\Z)"
ROLES: tuple[Role, Role] = ("user", "assistant")
ALIKE = "alike"
THOUSANDTHS = "thousandths of ROUGE-L with the nearest other one, on average"


@dataclass(frozen=True, slots=True)
class _Pair:
    """Who is to talk about what."""

    topic: str
    sub: str
    one: str
    other: str


@stage("diasynth", chats=("by",), source="arXiv:2409.19020 sec. 3; ntuspeechlab/DiaSynth; prompts of our own")
def diasynth(
    data: Sequence[Example],
    *,
    by: Chat,
    topics: tuple[str, ...],
    sub_topics: int = 6,
    personas: int = 6,
    shots: int = 4,
    apart: float = 0.5,
    reason: bool = True,
    temperature: float = 0.2,
    max_new: int = 1024,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Make dialogues on the topics: the model `by` names so many subtopics of each, and so many people
    for each of these, and writes one dialogue for each two of them.

    data: dialogues that are shown as examples, so many as `shots` says, drawn once; they are not handed on.
    apart: a subtopic or persona whose ROUGE-L with an earlier one of its list is as high is left out; above 1
    keeps all. reason: whether the model settles ten characteristics of the dialogue before it writes.
    temperature: of dialogues; lists are drawn at 0.1. The first who speaks has the user's role. Examples have
    topic, subtopic, personas and `thought` in their metadata, and `tagged`, false where the dialogue did not
    stand between its marks and all of the reply was read. Whatever is left out is counted.
    Raises UsageError for numbers out of range or without a topic.
    """
    if not topics or min(sub_topics, personas) < 1 or shots < 0 or apart < 0:
        raise UsageError(
            f"diasynth: topics {list(topics)}, sub_topics {sub_topics}, personas {personas}, shots {shots}, "
            f"apart {apart}: one topic or more, lists of one or more, the others not below 0"
        )
    shown = "\n\n".join(spoken(one) for one in rng.sample(list(data), min(shots, len(data))))
    pairs = _cast(by, topics, sub_topics, personas, apart, counts)
    sampling = Sampling(temperature=temperature, max_new=max_new)
    asked = [_asked(pair, shown, reason=reason) for pair in pairs]
    replies = by(asked, sampling=sampling) if asked else []
    for number, (pair, reply) in enumerate(zip(pairs, replies, strict=True)):
        if isinstance(reply, Failure):
            counts[f"could not be answered: {reply.reason}"] += 1
            continue
        said, thought, tagged = parsed(reply.message.content)
        dialogue = read(said)
        if dialogue is None:
            counts["could not be read as a dialogue of two"] += 1
            continue
        counts.update({} if tagged else {"stood without their marks": 1})
        meta: dict[str, Json] = {
            "topic": pair.topic,
            "subtopic": pair.sub,
            "personas": [pair.one, pair.other],
        }
        meta |= {"id": f"diasynth-{number}", "thought": thought, "tagged": tagged}
        yield Example({"text": dialogue}, {}, meta)


@stage("summarised", chats=("by",), source="arXiv:2409.19020 sec. 3; ntuspeechlab/DiaSynth")
def summarised(
    data: Sequence[Example],
    *,
    by: Chat,
    shots: tuple[tuple[str, str], ...] = (),
    part: str = "text",
    temperature: float = 0.3,
    max_new: int = 256,
    counts: Counter[str],
) -> Iterator[Example]:
    """Have the model `by` summarise each dialogue; what comes is a chat in which that is asked.

    shots: dialogues with their summaries, which the model is shown as earlier turns, and which are no part of
    what comes. What could not be answered, or says nothing, is left out and counted.
    """
    earlier = [
        message
        for dialogue, summary in shots
        for message in (*to_summarise(dialogue).messages, Message("assistant", summary))
    ]
    requests = [to_summarise(spoken(example, part)) for example in data]
    asked = [Conversation((*earlier, *request.messages)) for request in requests]
    replies = by(asked, sampling=Sampling(temperature=temperature, max_new=max_new)) if asked else []
    for example, request, reply in zip(data, requests, replies, strict=True):
        if isinstance(reply, Failure):
            counts[f"could not be answered: {reply.reason}"] += 1
        elif not reply.message.content.strip():
            counts["say nothing"] += 1
        else:
            said = Message("assistant", reply.message.content.strip())
            yield Example({"text": request.then(said)}, example.values, example.meta)


@stage("alike", source="ntuspeechlab/DiaSynth, diversity.py")
def alike(
    data: Sequence[Example], *, first: int = 200, part: str = "text", counts: Counter[str]
) -> Iterator[Example]:
    """Give each of the first examples the value `alike`, its greatest ROUGE-L with another of them: less
    is more diverse. What comes after these is handed on as it is; the mean is told in thousandths.

    One example alone has 0, since there is nothing that it could be like. The time grows with the square of
    `first`.
    """
    texts = [spoken(example, part) for example in data[:first]]
    most = [0.0] * len(texts)
    for one, other in combinations(range(len(texts)), 2):
        common = rouge_l(texts[one], texts[other])
        most[one], most[other] = max(most[one], common), max(most[other], common)
    counts.update({THOUSANDTHS: round(1000 * sum(most) / len(most))} if len(most) > 1 else {})
    for place, example in enumerate(data):
        values = {**example.values, ALIKE: most[place]} if place < len(most) else example.values
        yield Example(example.parts, values, example.meta)


def listed(text: str) -> list[str] | None:
    """The texts of the first list in square brackets, else the lines that have a number or a bullet; None
    where there is neither.

    A bracket inside an item does not end the list: of all places where it may end, the first counts up to
    which it is a list of texts.

    >>> listed('Here: ["a [b] c", "d"] and [1]'), listed('["a",'), listed("1. a\\n2) b")
    (['a [b] c', 'd'], None, ['a', 'b'])
    """
    start = text.find("[")
    for end in (found.end() for found in re.finditer(r"\]", text)):
        if start < 0 or end <= start:
            continue
        try:
            items: object = ast.literal_eval(text[start:end])
        except (ValueError, SyntaxError):
            continue
        if is_list(items) and items and all(isinstance(item, str) and item.strip() for item in items):
            return [str(item).strip() for item in items]
    return [found.group(1) for found in map(ITEM.fullmatch, text.splitlines()) if found] or None


def differing(items: Iterable[str], apart: float) -> list[str]:
    """The items in their order, without those whose ROUGE-L with one that was kept is `apart` or more."""
    kept: list[str] = []
    for item in items:
        if all(rouge_l(item, other) < apart for other in kept):
            kept.append(item)
    return kept


def parsed(text: str) -> tuple[str, str, bool]:
    """The dialogue, the thoughts before it, and whether the dialogue stood between its marks; where it
    did not, all that is no thought is the dialogue. Neither has marks in it."""
    thought = re.search(BETWEEN.format(tag="cot"), text, re.DOTALL | re.IGNORECASE)
    said = re.search(BETWEEN.format(tag="dialogue"), text, re.DOTALL | re.IGNORECASE)
    rest = text.replace(thought.group(0), "") if thought else text
    return _bare(said.group(1) if said else rest), _bare(thought.group(1) if thought else ""), bool(said)


def read(text: str) -> Conversation | None:
    """The lines `NAME: WORDS` of two speakers, the first as the user; None where there are not two.

    Lines of one speaker that follow each other are one message; a line without a speaker goes on from the one
    before, and what stands before the first is passed over.

    >>> [(one.role, one.content) for one in read("A: Hi\\nB: Yes?\\nWell?\\nB: Go on.").messages]
    [('user', 'Hi'), ('assistant', 'Yes?\\nWell?\\nGo on.')]
    """
    names: list[str] = []
    said: list[Message] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        found = LINE.fullmatch(line)
        if found and found.group(1) not in names:
            names.append(found.group(1))
        if len(names) > len(ROLES):
            return None
        if not found and not said:
            continue
        role, words = (ROLES[names.index(found.group(1))], found.group(2)) if found else (said[-1].role, line)
        if said and said[-1].role == role:
            said[-1] = Message(role, f"{said[-1].content}\n{words}")
        else:
            said.append(Message(role, words))
    return Conversation(tuple(said)) if len(said) > 1 else None


def spoken(example: Example, part: str = "text") -> str:
    """A dialogue as lines of `A:` and `B:`, who speaks first being A."""
    messages = conversation_of(example, part).messages
    first = messages[0].role if messages else "user"
    return "\n".join(f"{'A' if one.role == first else 'B'}: {one.content}" for one in messages)


def _cast(
    by: Chat, topics: Sequence[str], sub_topics: int, personas: int, apart: float, counts: Counter[str]
) -> list[_Pair]:
    """Each two of the people who talk about each subtopic."""
    subs = _lists(by, SUBTOPICS, topics, sub_topics, apart, "subtopics", counts)
    named = [(topic, sub) for topic, items in zip(topics, subs, strict=True) for sub in items]
    people = _lists(by, PERSONAS, [sub for _, sub in named], personas, apart, "personas", counts)
    return [
        _Pair(topic, sub, one, other)
        for (topic, sub), cast in zip(named, people, strict=True)
        for one, other in combinations(cast, 2)
    ]


def _lists(
    by: Chat, text: str, topics: Sequence[str], count: int, apart: float, what: str, counts: Counter[str]
) -> list[list[str]]:
    """A list for each topic, empty where none could be read."""
    asked = [Conversation((Message("user", text.format(count=count, topic=topic)),)) for topic in topics]
    found: list[list[str]] = []
    for reply in by(asked, sampling=Sampling(temperature=0.1, max_new=512)) if asked else ():
        items = None if isinstance(reply, Failure) else listed(reply.message.content)
        counts.update({f"lists of {what} that could not be read": 1} if items is None else {})
        named = (items or [])[:count]
        found.append(differing(named, apart))
        counts.update({f"{what} like an earlier one": left} if (left := len(named) - len(found[-1])) else {})
    return found


def _asked(pair: _Pair, shown: str, *, reason: bool) -> Conversation:
    thinking = THINKING if reason else ""
    text = DIALOGUE.format(sub=pair.sub, one=pair.one, other=pair.other, thinking=thinking)
    examples = f"Dialogues of the kind:\n\n{shown}\n\n" if shown else ""
    system = Message("system", WRITER.format(topic=pair.topic))
    return Conversation((system, Message("user", examples + text)))


def _bare(text: str) -> str:
    return re.sub(r"</?(?:cot|dialogue)>", "", text, flags=re.IGNORECASE).strip()
