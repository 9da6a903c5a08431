"""Stages that have a model answer several times, have the answers judged, and choose among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.sample.chat import samples
from turnsmith.stages.parts import conversation_of, several_of, worth_of
from turnsmith.types import Chat, Conversation, Example, Failure, Reply, Sampling, Scorer, Value


@stage("answers", chats=("by",), scorers=("reward",), source="arXiv:2203.02155 sec. 3.5")
def answers(
    data: Sequence[Example],
    *,
    by: Chat,
    reward: Scorer,
    to: str = "text",
    n: int = 4,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new: int = 128,
    stop: tuple[str, ...] = (),
    counts: Counter[str],
) -> Iterator[Example]:
    """Let the model `by` answer each prompt `n` times, and have every answer judged.

    A prompt is the conversation `to` without what the assistant says last. stop: texts that end an answer,
    such as the header of a next turn; what was drawn up to there is kept as ids, and the text ends before it.
    Nothing but the answer learns, whatever the assistant has said before.
    Examples get the part `replies`, of several conversations, and for each of these the values `reward`,
    `cut`, 1 where it is as long as `max_new` allows and did not end, and `tokens`, how many were drawn.
    What could not be answered or judged is left out and counted.
    """
    if n < 1:
        raise UsageError(f"answers: n is {n}: each prompt needs one answer at least")
    asked = [prompt(example, to) for example in data]
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, max_new=max_new, stop=stop)
    drawn = samples(by, asked, n, sampling=sampling)
    made: list[list[Example]] = []
    for example, conversation, replies in zip(data, asked, drawn, strict=True):
        made.append([])
        for reply in replies:
            if isinstance(reply, Failure):
                counts[f"answers that did not come: {reply.reason}"] += 1
            else:
                made[-1].append(answered(example, conversation, reply))
    flat = [one for ones in made for one in ones]
    scores = iter(reward([conversation_of(one, "text") for one in flat], flat))
    for example, ones in zip(data, made, strict=True):
        judged = [(one, score) for one in ones if (score := next(scores)) is not None]
        counts.update({"answers that could not be judged": left} if (left := len(ones) - len(judged)) else {})
        counts.update({f"answers cut at {max_new} tokens": cut} if (cut := _count(judged, "cut")) else {})
        if judged:
            values: dict[str, Value] = {name: _numbers(judged, name) for name in ("cut", "tokens")}
            values["reward"] = tuple(score for _, score in judged)
            replies = tuple(conversation_of(one, "text") for one, _ in judged)
            yield Example({"replies": replies}, {**example.values, **values}, example.meta)


def prompt(example: Example, part: str) -> Conversation:
    """What is asked in a conversation: all of it, or what stands before the assistant's words at its end."""
    found = conversation_of(example, part)
    return found.upto(-1) if found.messages and found.messages[-1].role == "assistant" else found


def answered(example: Example, asked: Conversation, reply: Reply) -> Example:
    """An answer as a scorer is given it: an example with the part `text`, of which nothing but the answer
    learns, and what is known of the answer among its values, `cut` and `tokens`."""
    values = {"cut": float(reply.finish == "length"), "tokens": float(len(reply.message.ids or ()))}
    said = tuple(replace(message, weight=0.0, spans=()) for message in asked.messages)
    text = replace(asked, messages=(*said, reply.message))
    return Example({"text": text}, {**example.values, **values}, example.meta)


@stage("each_answer")
def each_answer(data: Sequence[Example], *, of: str = "replies", to: str = "text") -> Iterator[Example]:
    """Make each of the several conversations `of` an example of its own, with its own values."""
    for example in data:
        for number, one in enumerate(several_of(example, of)):
            meta = {**example.meta, "id": f"{example.id}/{number}"}
            yield Example({to: one}, _own(example, number), meta)


@stage("best_answer", source="arXiv:2112.09332 sec. 3.2")
def best_answer(
    data: Sequence[Example], *, of: str = "replies", value: str = "reward", to: str = "text"
) -> Iterator[Example]:
    """Keep of the several conversations `of` the one with the highest `value`; of equals the first."""
    for example in data:
        best, _ = _ends(example, of, value)
        yield Example({to: several_of(example, of)[best]}, _own(example, best), example.meta)


@stage("best_and_worst", source="arXiv:2305.18290 sec. 4")
def best_and_worst(
    data: Sequence[Example],
    *,
    of: str = "replies",
    value: str = "reward",
    least: float = 0.0,
    counts: Counter[str],
) -> Iterator[Example]:
    """Pair of the several conversations `of` the one with the highest `value`, as `chosen`, with the one with
    the lowest, as `rejected`.

    least: pairs whose values are no further apart than this are left out and counted. Examples keep the
    values `value_chosen` and `value_rejected`, named after the value.
    """
    for example in data:
        best, worst = _ends(example, of, value)
        first, last = (_own(example, number)[value] for number in (best, worst))
        assert isinstance(first, float)
        assert isinstance(last, float)
        if first - last <= least:
            counts[f"prompts whose best and worst answers are no more than {least:g} apart"] += 1
            continue
        several = several_of(example, of)
        plain = {name: one for name, one in example.values.items() if not isinstance(one, tuple)}
        values = {**plain, f"{value}_chosen": first, f"{value}_rejected": last}
        yield replace(example, parts={"chosen": several[best], "rejected": several[worst]}, values=values)


def _own(example: Example, number: int) -> dict[str, Value]:
    """The values of one of an example's several conversations."""
    return {name: one[number] if isinstance(one, tuple) else one for name, one in example.values.items()}


def _ends(example: Example, part: str, value: str) -> tuple[int, int]:
    """Which of the several conversations have the highest and the lowest value."""
    worth = worth_of(example, part, value)
    places = range(len(worth))
    return max(places, key=worth.__getitem__), min(places, key=worth.__getitem__)


def _numbers(judged: Sequence[tuple[Example, float]], name: str) -> tuple[float, ...]:
    found = [one.values[name] for one, _ in judged]
    return tuple(value for value in found if isinstance(value, float))


def _count(judged: Sequence[tuple[Example, float]], name: str) -> int:
    return int(sum(_numbers(judged, name)))
