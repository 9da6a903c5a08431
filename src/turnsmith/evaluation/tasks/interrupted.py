"""How soon a model that is heard while it speaks begins to answer, and stops when it is interrupted."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from turnsmith.errors import DataError, UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject, answers
from turnsmith.registry import task
from turnsmith.rollout.converse import remembering
from turnsmith.sample.live import IDLE, Live
from turnsmith.stages.duplex import INTERRUPTIONS
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Conversation, Failure, Json, Sampling

Answering = Generator[Conversation, str, dict[str, float]]


@task("interrupted", data=True, asks="replies", source="arXiv:2406.15718 sec. 4; measures of our own")
class Interrupted:
    """The model talks in slices of time, freely, and is interrupted in its answer.

    on: chats as they are, of which the first two messages of the user are said, `words` a slice. The user
    waits after the first until the model has spoken for `after` slices, then cuts in with the second. A
    model that is silent with the last words of the question, and in the slice after them, does not answer;
    one that falls silent sooner than it is interrupted has answered, and is not interrupted. Else it has
    stopped at its first silent slice, at the latest when the user has said all. Chats with fewer questions
    are left out. count: chats, from the first.
    """

    title = "Interrupted in its answer"
    note = (
        "The model speaks freely. Slices in which it goes on after the user has begun to speak; 0 is at once."
    )
    metrics = (
        Metric("answers", "answers", "share", "higher", of="chats"),
        Metric("slices until it speaks", "begins", "slices", "lower", of="answers"),
        Metric("slices until it stops", "goes on", "slices", "lower", of="interruptions"),
        Metric("stops within a slice", "stops", "share", "higher", of="interruptions"),
    )

    def __init__(
        self,
        *,
        on: str,
        words: int = 5,
        after: int = 2,
        count: int | None = None,
        temperature: float = 0.0,
        max_new: int = 16,
    ) -> None:
        if min(words, after) < 1:
            raise UsageError(f"interrupted: words is {words} and after is {after}: both have to be 1 or more")
        self.on, self.words, self.after, self.count = on, words, after, count
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        talks: dict[str, tuple[Live, Answering]] = {}
        for example in bench.examples(self.on):
            said = conversation_of(example, "text").messages
            questions = [one.content for one in said if one.role == "user" and one.content.split()][:2]
            if len(questions) == 2 and len(talks) != self.count:
                live = Live(Conversation(tuple(one for one in said if one.role == "system")))
                cut = INTERRUPTIONS[len(talks) % len(INTERRUPTIONS)]
                talks[example.id] = live, self._talk(live, questions[0], f"{cut} {questions[1]}")
        if not talks:
            raise DataError(f"interrupted: no chat of {self.on!r} has two messages of the user")
        items = {id: Item(id, "", {}) for id in talks}
        with remembering(subject.chat):
            asked = {id: next(talk) for id, (_, talk) in talks.items()}
            while asked:
                for id, reply in answers(subject, asked, self.sampling).items():
                    if isinstance(reply, Failure):
                        items[id] = replace(items[id], failed=reply.reason)
                        del asked[id]
                        continue
                    try:
                        asked[id] = talks[id][1].send(reply.message.content)
                    except StopIteration as end:
                        items[id] = replace(items[id], values=end.value)
                        del asked[id]
        return [replace(items[id], shown=_shown(live)) for id, (live, _) in talks.items()]

    def _talk(self, live: Live, question: str, interruption: str) -> Answering:
        """One talk: yields what the model is asked, takes what it says; gives the values at the end."""
        spoke = False
        for piece in self._pieces(question):
            spoke = yield from _slice(live, piece)
        begins, told = float(not spoke), int(spoke)
        while told < self.after:
            if not (yield from _slice(live, IDLE)):
                return {"answers": 1.0, "begins": begins} if told else {"answers": 0.0}
            told += 1
        goes_on = 0
        for piece in self._pieces(interruption):
            if not (yield from _slice(live, piece)):
                break
            goes_on += 1
        return {"answers": 1.0, "begins": begins, "goes on": float(goes_on), "stops": float(goes_on < 2)}

    def _pieces(self, text: str) -> Iterator[str]:
        words = text.split()
        return (" ".join(words[start : start + self.words]) for start in range(0, len(words), self.words))


def _slice(live: Live, text: str) -> Generator[Conversation, str, bool]:
    """One slice of both; whether the model spoke."""
    asked = live.heard(text)
    assert asked is not None  # the user speaks, or the model did in the slice before
    said = yield asked
    live.spoke(said)
    return bool(said.strip())


def _shown(live: Live) -> dict[str, Json]:
    said: list[Json] = [{"role": one.role, "text": one.content} for one in live.said.messages]
    return {"prompt": said[:-1], "text": live.said.messages[-1].content}
