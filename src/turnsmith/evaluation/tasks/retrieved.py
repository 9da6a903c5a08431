"""Whether a question in other words finds its row in a table, by each similarity of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from turnsmith.agents.rag import pairs
from turnsmith.errors import DataError, UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.retrieve.influence import Vectors
from turnsmith.retrieve.table import Similarity, ranked, similarities
from turnsmith.scorers.embedding import embedded
from turnsmith.stages.reworded import ROW
from turnsmith.types import Example

NAMES: tuple[Similarity, ...] = get_args(Similarity)


def _metrics(name: str) -> tuple[Metric, Metric]:
    return (
        Metric(f"top-1 by {name}", f"{name} first", "share", "higher", of="questions", chance=True),
        Metric(f"top-n by {name}", f"{name} found", "share", "higher", of="questions"),
    )


@task("retrieved", data=True, beside=("table",), source="arXiv:2402.17081")
class Retrieved:
    """The share of questions whose row in a table comes first, and among the first `top_n`, by the cosine,
    the dot product, the distance and the quantised influence of embeddings, the means of the model's last
    states.

    on: questions that are wordings of others, as the stage `reworded` makes them; `row` of their metadata is
    the id of the row. table: the data with the rows. levels: of the influence. further: more numbers of
    levels to measure it at. length: tokens of a text, of which further ones are left out. Raises DataError
    where a question's row is not in the table.
    """

    title = "Rows found for reworded questions"
    note = (
        "Of each question in other words, whether the row that it is a wording of is nearest, or among the "
        "nearest. Chance is 1 over the number of rows."
    )
    metrics: tuple[Metric, ...] = (
        *(metric for name in NAMES for metric in _metrics(name)),
        Metric("influence less cosine", "less cosine", "difference", "higher", of="questions"),
        Metric("influence less chance", "less chance", "difference", "higher", of="questions"),
    )

    def __init__(
        self,
        *,
        on: str,
        table: str,
        levels: int = 16,
        further: tuple[int, ...] = (),
        top_n: int = 2,
        length: int = 128,
    ) -> None:
        if min((levels, *further)) < 2 or top_n < 1:
            raise UsageError(
                f"retrieved: levels {levels}, further {further}, top_n {top_n}: levels are 2 or more, and at "
                "least one row is looked up"
            )
        self.on, self.table, self.levels, self.further = on, table, levels, further
        self.top_n, self.length = top_n, length
        more = (metric for number in further for metric in _metrics(_at(number)))
        self.metrics = (*Retrieved.metrics, *more)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        rows, asked = bench.examples(self.table), bench.examples(self.on)
        places = {example.id: place for place, example in enumerate(rows)}
        wanted = [_row(example, places, self.table) for example in asked]
        questions = [question for question, _ in pairs(asked)]
        stored = self._vectors(subject, [question for question, _ in pairs(rows)])
        items: list[Item] = []
        for example, question, place, query in zip(
            asked, questions, wanted, self._vectors(subject, questions), strict=True
        ):
            values = self._found(query, stored, place)
            values["chance"] = 1 / len(stored)
            values["less cosine"] = values["influence first"] - values["cosine first"]
            values["less chance"] = values["influence first"] - values["chance"]
            items.append(Item(example.id, "", values, {"text": question}))
        return items

    def _vectors(self, subject: Subject, texts: Sequence[str]) -> Vectors:
        found = embedded(texts, subject.scoring, subject.renderer, length=self.length)
        return found.numpy(force=True).astype(np.float64)

    def _found(self, query: Vectors, rows: Vectors, place: int) -> dict[str, float]:
        """For each similarity, whether the row at `place` is the nearest, and whether among the nearest."""
        near = {name: similarities(query, rows, by=name, levels=self.levels) for name in NAMES}
        found = {str(name): one for name, one in near.items()}
        found |= {_at(number): similarities(query, rows, levels=number) for number in self.further}
        values: dict[str, float] = {}
        for name, one in found.items():
            first = ranked(one, top_n=self.top_n)
            values |= {f"{name} first": float(first[0] == place), f"{name} found": float(place in first)}
        return values


def _at(levels: int) -> str:
    return f"influence at {levels} levels"


def _row(example: Example, places: dict[str, int], table: str) -> int:
    found = example.meta.get(ROW)
    if not isinstance(found, str) or found not in places:
        raise DataError(
            f"example {example.id!r} is a wording of the row {found!r}, which is not in {table!r}: measure "
            "on what the stage `reworded` makes of the table"
        )
    return places[found]
