"""Replies to held-out conversations, to be read side by side."""

from __future__ import annotations

from turnsmith import seeds
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject, answered
from turnsmith.registry import task
from turnsmith.types import Conversation, Json, Reply, Sampling


@task("replies", data=True, asks="replies")
class Replies:
    """Sampled replies at a point of held-out conversations, beside what was really said there.

    on: the data. count: how many conversations. turns: the reply is the one after so many messages, at most.
    """

    title = "Replies to held-out conversations"
    note = (
        "One sampled reply per conversation before and after, with the same random numbers; none is picked."
    )
    metrics: tuple[Metric, ...] = ()

    def __init__(
        self,
        *,
        on: str,
        count: int = 12,
        turns: int = 5,
        max_new: int = 64,
        temperature: float = 0.7,
        top_p: float = 0.95,
    ) -> None:
        self.on = on
        self.count = count
        self.turns = turns
        self.sampling = Sampling(temperature=temperature, top_p=top_p, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = list(bench.examples(self.on))
        seeds.stream("replies").shuffle(examples)
        found = [(x, point) for x in examples if (point := self._point(x.parts.get("text")))]
        subject.lost["left out: no reply within the turns"] += len(examples) - len(found)
        chosen = found[: self.count]
        asked = {x.id: conversation.upto(place) for x, (conversation, place) in chosen}
        items: list[Item] = []
        for example, (conversation, place) in chosen:
            said: list[Json] = [{"role": m.role, "text": m.content} for m in asked[example.id].messages]
            reference = conversation.messages[place].content
            items.append(Item(example.id, "", {}, {"prompt": said, "reference": reference}))
        return answered(subject, asked, self.sampling, items, _shown)

    def _point(self, conversation: object) -> tuple[Conversation, int] | None:
        """The last assistant message within the first `turns` + 1 messages."""
        if not isinstance(conversation, Conversation):
            return None
        places = conversation.upto(self.turns + 1).answers
        return (conversation, places[-1]) if places else None


def _shown(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
    return {}, {"text": reply.message.content, "ended": reply.finish == "stop"}
