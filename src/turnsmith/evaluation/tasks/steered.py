"""How well a model's replies follow the rating that is asked for, and the advice that a critic gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from turnsmith.data.critique import BEST, Critique
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.stages.answers import prompt
from turnsmith.stages.interactions import condition, criticised, told
from turnsmith.types import Chat, Conversation, Failure, Json, Message, Reply, Sampling

RATINGS = range(1, BEST + 1)


@task("steered", data=True, parts=(), chats=("critic",), asks="replies", source="arXiv:2311.10081 sec. 4")
class Steered:
    """Mean rating of the replies that are asked for under each rating from 1 to 4, and without one; how often
    the critic's rating is the one that was asked for; and what the critic's advice gains.

    on: the data; a prompt is the conversation without what the assistant says last. critic and template: as
    of the stages `interactions` and `under_critique`. critiques: what is said beside each rating, e.g. `{"4":
    "It does all that was asked."}`. The second turn is asked for under the best rating, as the first was,
    behind the critic's advice; where the first needed none it stands for the second. temperature: 0 is
    greedy. A prompt that could not be answered or judged throughout fails.
    """

    title = "Replies as they are asked for"
    note = (
        "Each prompt is answered under the condition of each rating, and a critic rates the replies. The "
        "second turn has the critic's advice on the first, both under the best rating."
    )
    metrics = (
        *(Metric(f"rating under {one}", f"under {one}", "rating", "higher", of="prompts") for one in RATINGS),
        Metric("rating unasked", "unasked", "rating", "higher", of="prompts"),
        Metric("rating under 4 less under 1", "gap", "rating", "higher", of="prompts"),
        Metric("rated as asked", "as asked", "share", "higher", of="prompts"),
        Metric("rating at the second turn", "second", "rating", "higher", of="prompts"),
        Metric("second turn less first", "gain", "rating", "higher", of="prompts"),
    )

    def __init__(
        self,
        *,
        on: str,
        critic: Chat,
        template: str = "{said}\n(The next reply is rated {condition})",
        critiques: Mapping[str, str] | None = None,
        temperature: float = 1.0,
        max_new: int = 64,
    ) -> None:
        self.on, self.critic, self.template = on, critic, template
        self.critiques = critiques or {}
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = bench.examples(self.on)
        asked = [prompt(example, "text") for example in examples]
        found = {str(one): self._round(subject, asked, one, one) for one in RATINGS}
        found["unasked"] = self._round(subject, asked, None, 0)
        first = found[str(BEST)]
        again = [
            place
            for place, (reply, judged) in enumerate(first)
            if isinstance(reply, Reply) and judged is not None and judged.advice
        ]
        advised = [_advised(asked[place], *first[place]) for place in again]
        second = dict(zip(again, self._round(subject, advised, BEST, BEST + 1), strict=True))
        found["second"] = [second.get(place, one) for place, one in enumerate(first)]
        return [
            _item(example.id, {name: ones[place] for name, ones in found.items()})
            for place, example in enumerate(examples)
        ]

    def _round(
        self, subject: Subject, asked: Sequence[Conversation], rating: int | None, seed: int
    ) -> list[tuple[Reply | Failure, Critique | None]]:
        """The replies under a rating, or without one, each with what the critic says."""
        if not asked:
            return []
        said = "" if rating is None else condition(rating, self.critiques.get(str(rating), ""))
        given = [told(one, said, "" if rating is None else self.template) for one in asked]
        replies = subject.chat(given, sampling=self.sampling, seed=seed)
        sound = [place for place, one in enumerate(replies) if isinstance(one, Reply)]
        whole = [_answered(asked[place], replies[place]) for place in sound]
        judged = dict(zip(sound, criticised(self.critic, whole, Counter()), strict=True))
        return [(reply, judged.get(place)) for place, reply in enumerate(replies)]


def _answered(asked: Conversation, reply: Reply | Failure) -> Conversation:
    assert isinstance(reply, Reply)
    return asked.then(reply.message)


def _advised(asked: Conversation, reply: Reply | Failure, judged: Critique | None) -> Conversation:
    assert judged is not None
    return _answered(asked, reply).then(Message("user", judged.advice))


def _item(id: str, found: Mapping[str, tuple[Reply | Failure, Critique | None]]) -> Item:
    reasons = [one.reason for one, _ in found.values() if isinstance(one, Failure)]
    ratings = {name: float(one.rating) for name, (_, one) in found.items() if one is not None}
    if reasons or len(ratings) < len(found):
        return Item(id, "", {}, failed=reasons[0] if reasons else "could not be judged")
    under = {str(one): ratings[str(one)] for one in RATINGS}
    values = {
        **{f"under {one}": rating for one, rating in under.items()},
        "unasked": ratings["unasked"],
        "gap": under[str(BEST)] - under["1"],
        "as asked": sum(rating == float(one) for one, rating in under.items()) / BEST,
        "second": ratings["second"],
        "gain": ratings["second"] - under[str(BEST)],
    }
    shown: dict[str, Json] = {f"rating {name}": rating for name, rating in ratings.items()}
    best, _ = found[str(BEST)]
    assert isinstance(best, Reply)
    return Item(id, "", values, {**shown, "text": best.message.content}, finish=best.finish)
