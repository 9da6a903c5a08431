"""How good the reply is that a judge chooses of two: the model's, and that of another chat."""

from __future__ import annotations

from turnsmith.agents.judge import better
from turnsmith.data.overlap import rouge_l
from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Chat, Conversation, Failure, Reply, Sampling, Scorer


@task("paths", data=True, chats=("other",), scorers=("by",), asks="replies", source="arXiv:2402.17081")
class Paths:
    """ROUGE-L with the reference of the model's replies, of those of the chat `other`, and of those that the
    scorer `by` puts higher, as the agent `judge` gives them.

    on: the data, whose last answers are the references. count: how many of them, from the first. temperature:
    0 is greedy. max_new: replies are cut after so many tokens. A question that one of the two could not
    answer fails. `better one chosen` counts two that are as near to the reference as right, in chance too.
    Raises DataError where there is no answer to compare with.
    """

    title = "The better of two replies"
    note = (
        "The model and another chat answer the same questions, and a scorer, which sees no reference, "
        "chooses one of the two replies. ROUGE-L is with the reference."
    )
    metrics = (
        Metric("ROUGE-L of the chosen", "chosen", "share", "higher", of="questions"),
        Metric("ROUGE-L of the model", "own", "share", "higher", of="questions"),
        Metric("ROUGE-L of the other", "other", "share", "higher", of="questions"),
        Metric("chosen less model", "less own", "ROUGE-L", "higher", of="questions"),
        Metric("chosen less other", "less other", "ROUGE-L", "higher", of="questions"),
        Metric("better one chosen", "right", "share", "higher", of="questions", chance=True),
        Metric("other one chosen", "taken", "share", "higher", of="questions"),
    )

    def __init__(
        self,
        *,
        on: str,
        other: Chat,
        by: Scorer,
        count: int | None = None,
        temperature: float = 0.0,
        max_new: int = 48,
    ) -> None:
        self.on, self.other, self.by, self.count = on, other, by, count
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = bench.examples(self.on)[: self.count]
        asked: list[Conversation] = []
        references: list[str] = []
        for example in examples:
            text = conversation_of(example, "text")
            if not text.opening.messages:
                raise DataError(f"example {example.id!r} of {self.on!r} has no answer to compare with")
            asked.append(text.opening)
            references.append(text.messages[len(text.opening.messages)].content)
        others = self.other(asked, sampling=self.sampling, seed=0)
        own = subject.chat(asked, sampling=self.sampling, seed=0)
        chosen = better(self.by, asked, others, own)
        return [
            _item(example.id, reference, other, mine, place)
            for example, reference, other, mine, place in zip(
                examples, references, others, own, chosen, strict=True
            )
        ]


def _item(id: str, reference: str, other: Reply | Failure, own: Reply | Failure, chosen: int) -> Item:
    """chosen: 0 where the judge takes the other one's reply, 1 where the model's."""
    if isinstance(other, Failure) or isinstance(own, Failure):
        reasons = [one.reason for one in (other, own) if isinstance(one, Failure)]
        return Item(id, "", {}, {"reference": reference}, failed=reasons[0])
    said = [one.message.content for one in (other, own)]
    first, second = (rouge_l(text, reference) for text in said)
    taken = (first, second)[chosen]
    values = {
        "chosen": taken,
        "own": second,
        "other": first,
        "less own": taken - second,
        "less other": taken - first,
        "right": float(taken == max(first, second)),
        "chance": 0.5 if first != second else 1.0,
        "taken": float(chosen == 0),
    }
    shown = {"reference": reference, "text": said[chosen], "other": said[0], "own": said[1]}
    return Item(id, "", values, shown, finish=own.finish)
