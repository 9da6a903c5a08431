"""Word problems whose answer is one number."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.numbers import answer
from turnsmith.evaluation.rows import Row, rows, text
from turnsmith.evaluation.suite import Bench, Subject, answered
from turnsmith.registry import task
from turnsmith.types import Conversation, Json, Message, Reply, Sampling, is_list

KEYS = (("question", "answer"), ("query", "response"), ("source", "target"), ("problem", "solution"))


@task("maths", asks="replies", files=("file",))
class Maths:
    """Share of problems of which a greedy reply comes to the right number, exactly.

    The number of a reply: the first one behind the last `####`; else the last one in the last `\\boxed{}`;
    else the last one that it says. Commas between groups of three, currencies and zeros at the end do not
    count, and fractions are numbers. A reply without a number is wrong, and counted; so is what was cut off,
    which is judged by the same rules.

    file: GSM8K's rows with `question` and `answer`, or such pairs named query and response, source and target
    (lists of one too), or problem and solution; the right number is found by the rules above. ask: is put
    behind each problem. count: how many, from the first. max_new: replies are cut after so many tokens.
    """

    title = "Word problems"
    note = (
        "Whether the number that a greedy reply comes to is the right one. A reply without a number is "
        "wrong; how many there are, and how many were cut off before they ended, is counted beside."
    )
    metrics = (
        Metric("right answers", "right", "share", "higher", of="problems"),
        Metric("no answer", "none", "share", "lower", of="problems"),
        Metric("replies cut off", "cut", "share", "lower", of="problems"),
    )

    def __init__(
        self,
        *,
        file: str,
        count: int | None = None,
        ask: str = "Think step by step, and end on #### and the answer as a number.",
        max_new: int = 512,
    ) -> None:
        self.problems = [_problem(row, place) for place, row in rows(file, count)]
        self.ask = ask
        self.sampling = Sampling(temperature=0.0, max_new=max_new)
        self.title = f"{Maths.title}: {Path(file).name}"

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        behind = f"\n\n{self.ask}" if self.ask else ""
        asked = {
            str(number): Conversation((Message("user", f"{problem}{behind}"),))
            for number, (problem, _) in enumerate(self.problems, start=1)
        }
        items = [
            Item(id, "", {}, {"prompt": problem, "reference": str(right)})
            for id, (problem, right) in zip(asked, self.problems, strict=True)
        ]
        return answered(subject, asked, self.sampling, items, _judged)


def _judged(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
    said = answer(reply.message.content)
    values = {
        "right": float(said == Fraction(str(item.shown["reference"]))),
        "none": float(said is None),
        "cut": float(reply.finish == "length"),
    }
    return values, {"text": reply.message.content, "said": None if said is None else str(said)}


def _problem(row: Row, place: str) -> tuple[str, Fraction]:
    """The problem, and the number that its published answer comes to."""
    for asked, told in KEYS:
        if asked in row and told in row:
            plain = {key: _alone(row[key]) for key in (asked, told)}
            right = answer(text(plain, told, place))
            if right is None:
                raise DataError(f"{place}: {told!r} holds no number: {plain[told]!r:.60}")
            return text(plain, asked, place), right
    known = "; ".join(", ".join(pair) for pair in KEYS)
    raise DataError(
        f"{place}: no problems are known with the keys {', '.join(map(str, row))}; known are {known}"
    )


def _alone(value: object) -> object:
    """What a list of one holds."""
    return value[0] if is_list(value) and len(value) == 1 else value
