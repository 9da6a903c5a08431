"""Whether a model that is heard while it speaks is silent when it should be, stops, and goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject, answered
from turnsmith.registry import task
from turnsmith.rollout.converse import remembering
from turnsmith.stages.duplex import RESUMES, STOPS
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Conversation, Example, Json, Reply, Sampling, is_list


@task("idling", data=True, asks="replies", source="arXiv:2406.15718 sec. 4; measures of our own")
class Idling:
    """Silence in dialogues that the stage `duplex` laid out in slices: idle exactly while the user
    speaks, how often an interruption is obeyed at once, and an answer taken up again.

    on: the data, from the stage `duplex`. In every slice the model is given what was really said before; what
    it says in its place is silent, or not. count: dialogues, from the first. temperature: 0 is greedy.
    max_new: tokens of a slice.
    """

    title = "Silence while the other speaks"
    note = (
        "Silence over all slices: F1, precision and recall; the share of interruptions at which the model is "
        "silent in the same slice; and that of answers that it takes up again after a side question."
    )
    metrics = (
        Metric("idle F1", "said", "share", "higher", of="slices", reduce="f1", others=("gold",)),
        Metric(
            "idle precision", "said", "share", "higher", of="slices", reduce="precision", others=("gold",)
        ),
        Metric("idle recall", "said", "share", "higher", of="slices", reduce="recall", others=("gold",)),
        Metric("stops at once", "stopped", "share", "higher", of="interruptions"),
        Metric("resumes", "resumed", "share", "higher", of="side questions"),
    )

    def __init__(
        self, *, on: str, count: int | None = None, temperature: float = 0.0, max_new: int = 16
    ) -> None:
        self.on, self.count = on, count
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        asked: dict[str, Conversation] = {}
        items: list[Item] = []
        for example in list(bench.examples(self.on))[: self.count]:
            text = conversation_of(example, "text")
            stops, resumes = (_numbers(example, name) for name in (STOPS, RESUMES))
            places = [at for at, message in enumerate(text.messages) if message.role == "assistant"]
            for number, place in enumerate(places):
                id = f"{example.id}/{number}"
                asked[id] = text.upto(place)
                shown: dict[str, Json] = {"reference": text.messages[place].content}
                shown |= {STOPS: number in stops, RESUMES: number in resumes}
                items.append(Item(id, "", {}, shown))
        for name in (STOPS, RESUMES):
            if not any(item.shown[name] for item in items):
                raise DataError(
                    f"idling: in none of the dialogues of {self.on!r} an answer {name}: lay them out by "
                    "`duplex` with kinds that are interrupted, `resumed` among them"
                )
        return _in_turn(subject, asked, self.sampling, items)


def _in_turn(
    subject: Subject, asked: Mapping[str, Conversation], sampling: Sampling, items: Sequence[Item]
) -> list[Item]:
    """The items with what is said in each slice: of all dialogues the first, then the second, and so on, so
    that what was said before is read once."""
    rounds: dict[int, list[Item]] = {}
    for item in items:
        rounds.setdefault(int(item.id.rpartition("/")[2]), []).append(item)
    found: dict[str, Item] = {}
    with remembering(subject.chat):
        for some in rounds.values():
            own = {item.id: asked[item.id] for item in some}
            found |= {item.id: item for item in answered(subject, own, sampling, some, _judged)}
    return [found[item.id] for item in items]


def _judged(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
    silent = float(not reply.message.content.strip())
    values: dict[str, float] = {"said": silent, "gold": float(not item.shown["reference"])}
    values |= {"stopped": silent} if item.shown[STOPS] else {}
    values |= {"resumed": 1 - silent} if item.shown[RESUMES] else {}
    return values, {"text": reply.message.content}


def _numbers(example: Example, name: str) -> Sequence[Json]:
    meta: Mapping[str, Json] = example.meta
    found = meta.get(name)
    if not is_list(found):
        raise DataError(f"example {example.id!r} does not say where the model {name}: use the stage `duplex`")
    return found
