"""The reward of dialogues that a model holds with a partner, answer by answer."""

from __future__ import annotations

from collections.abc import Sequence

from turnsmith.errors import UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.rollout.converse import Dialogue, Opening, Speaker, converse
from turnsmith.stages.dialogues import MODEL, USER, opening
from turnsmith.types import Chat, Example, Json, Sampling, Score, Scorer


@task(
    "played",
    data=True,
    chats=("user",),
    scorers=("reward",),
    asks="replies",
    source="arXiv:2410.04612 sec. 5",
)
class Played:
    """Rewards of the model's dialogues with `user`, from the openings of held-out conversations.

    on: the data; what stands before the first answer of `to` is the opening, a system text in it is for the
    model alone. Examples without an opening are left out. user: who answers the model, another model or an
    agent. reward: judges each dialogue up to each answer, as the model sees it. turns: answers of the model.
    count: dialogues from each opening, whose mean counts. system: what `user` is told; profile: a key of the
    metadata whose text is put behind it. closing: texts of `user` that end a dialogue. A dialogue that ends
    sooner keeps the reward that it had; one in which somebody could not answer, or that could not be judged,
    fails, and with it all from its opening. Raises UsageError unless turns and count are at least 1.
    """

    title = "Rewards over dialogues"
    note = (
        "The model talks to its partner from each opening, and the dialogue is judged after every answer. A "
        "dialogue that has ended keeps its reward at the turns to come."
    )
    metrics: tuple[Metric, ...] = (
        Metric("reward at the end", "end", "reward", "higher", of="openings"),
        Metric("reward since turn 1", "since", "reward", "higher", of="openings"),
        Metric("reward at turn 1", "turn 1", "reward", "higher", of="openings"),
    )

    def __init__(
        self,
        *,
        on: str,
        user: Chat,
        reward: Scorer,
        to: str = "text",
        turns: int = 5,
        count: int = 1,
        system: str = "",
        profile: str | None = None,
        closing: tuple[str, ...] = (),
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_new: int = 128,
    ) -> None:
        if turns < 1 or count < 1:
            raise UsageError(f"played: {turns} turns of {count} dialogues: both have to be at least 1")
        self.on, self.to, self.profile, self.reward = on, to, profile, reward
        self.turns, self.count = turns, count
        self.sampling = Sampling(temperature=temperature, top_p=top_p, max_new=max_new)
        self.user = Speaker(user, system, sampling=self.sampling, closing=closing)
        later = [f"turn {turn}" for turn in range(2, turns + 1)]
        more = [Metric(f"reward at {name}", name, "reward", "higher", of="openings") for name in later]
        self.metrics = (*Played.metrics, *more)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        found = [(example, opening(example, self.to, self.profile)) for example in bench.examples(self.on)]
        starts = [(example, start) for example, start in found if start is not None]
        subject.lost["left out: no opening"] += len(found) - len(starts)
        asked: list[Opening] = [start for _, start in starts for _ in range(self.count)]
        speakers = {USER: self.user, MODEL: Speaker(subject.chat, sampling=self.sampling)}
        dialogues = converse(speakers, asked, turns=2 * self.turns - 1, seed=0)
        owners = [example for example, _ in starts for _ in range(self.count)]
        scores = _rewards(dialogues, owners, self.reward)
        items: list[Item] = []
        for number, (example, _) in enumerate(starts):
            mine = slice(number * self.count, (number + 1) * self.count)
            items.append(self._item(example.id, dialogues[mine], scores[mine]))
        return items

    def _item(self, id: str, dialogues: Sequence[Dialogue], scores: Sequence[Sequence[Score]]) -> Item:
        """The means over the dialogues from one opening; without values where one of them failed."""
        said: list[Json] = [{"role": one.role, "text": one.content} for one in dialogues[0].said.messages]
        shown: dict[str, Json] = {"prompt": said[:-1], "text": dialogues[0].said.messages[-1].content}
        missing = [one.reason for one in dialogues if one.ending == "failed"]
        known = [[score for score in ones if score is not None] for ones in scores]
        if any(len(ones) < len(judged) for ones, judged in zip(known, scores, strict=True)):
            missing.append("a dialogue could not be judged")
        if missing:
            return Item(id, "", {}, shown, failed=missing[0])
        held = [[*ones, *[ones[-1]] * (self.turns - len(ones))] for ones in known]
        means = [sum(column) / self.count for column in zip(*held, strict=True)]
        values = {f"turn {turn}": mean for turn, mean in enumerate(means, start=1)}
        values |= {"end": means[-1], "since": means[-1] - means[0]}
        answers = [(place, one.cut) for one in dialogues for place in one.answers(MODEL)]
        cut = any(place in places for place, places in answers)
        rows: list[Json] = [list(ones) for ones in known]
        return Item(id, "", values, {**shown, "rewards": rows}, finish="length" if cut else "stop")


def _rewards(dialogues: Sequence[Dialogue], examples: Sequence[Example], reward: Scorer) -> list[list[Score]]:
    """What the scorer says of each dialogue up to each answer of the model, as the model sees it; all are
    judged in one call. examples: that each dialogue began from."""
    prefixes = [[one.before(place + 1).view(MODEL) for place in one.answers(MODEL)] for one in dialogues]
    owners = [example for example, ones in zip(examples, prefixes, strict=True) for _ in ones]
    scores = iter(reward([one for ones in prefixes for one in ones], owners))
    return [[next(scores) for _ in ones] for ones in prefixes]
