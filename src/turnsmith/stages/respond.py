"""Stages that have a model answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from turnsmith.registry import stage
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Chat, Conversation, Example, Failure, Json, Sampling


@stage("respond", chats=("by",), source="arXiv:2401.01335 sec. 4")
def respond(
    data: Sequence[Example],
    *,
    by: Chat,
    to: str = "text",
    real: str = "chosen",
    made: str = "rejected",
    turn: int = -1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new: int = 256,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    stop: tuple[str, ...] = (),
    schema: dict[str, Json] | None = None,
    counts: Counter[str],
) -> Iterator[Example]:
    """Pair an answer of each conversation with one that the model `by` writes to the same prompt.

    turn: which of the assistant's answers, 0 the first and -1 the last; what follows it is left out.
    temperature to schema: of the draws, as a `Sampling` has them; not every model has all of them. Examples
    get the parts `real` and `made`. An answer that says nothing is kept: it is a valid loser. Conversations
    without such an answer, and those that the model cannot answer, are left out and counted.
    """
    asked: list[tuple[Example, Conversation, int]] = []
    for example in data:
        conversation = conversation_of(example, to)
        places = conversation.answers
        if -len(places) <= turn < len(places):
            asked.append((example, conversation, places[turn]))
        else:
            counts[f"have no answer number {turn}"] += 1
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_new=max_new,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        stop=stop,
        schema=schema,
    )
    replies = by([conversation.upto(place) for _, conversation, place in asked], sampling=sampling)
    for (example, conversation, place), reply in zip(asked, replies, strict=True):
        if isinstance(reply, Failure):
            counts[f"could not be answered: {reply.reason}"] += 1
            continue
        said = conversation.upto(place + 1)
        if reply.message.content.strip() == said.messages[-1].content.strip():
            counts["pairs of equal answers, which teach nothing"] += 1
        parts = {real: said, made: conversation.upto(place).then(reply.message)}
        yield Example(parts, example.values, example.meta)
