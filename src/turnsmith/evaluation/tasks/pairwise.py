"""How many pairs of answers a judge puts in order, and at how many prompts it puts all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.evaluation.tasks.ranked import RANK, judgements
from turnsmith.registry import task
from turnsmith.scorers.reward_model import RewardModel
from turnsmith.stages.parts import worth_of
from turnsmith.types import Example, Scorer


@task(
    "pairwise",
    data=True,
    parts=("replies",),
    scorers=("by", "baseline"),
    source="arXiv:2502.10391 sec. 5 (MM-RLHF-RewardBench: ACC and ACC+)",
)
class Pairwise:
    """Of pairs of differently ranked answers to one prompt, how many a judge puts in order (ACC), and at how
    many prompts it puts all of them (ACC+).

    on: data with the part `replies`, of several conversations, and the value `rank`, lower for what is
    better. by: a scorer that judges in the model's place, e.g. `critic`; by default the model itself does, by
    the scorer `reward_model`. baseline: another one, to be set beside it. Equal judgements count half of a
    pair. A prompt fails of which an answer cannot be judged, or whose answers are all of one rank.
    """

    title = "Pairs of answers in order"
    note = "Who knows nothing puts half of the pairs in order. A prompt counts where all of its pairs are."
    metrics = (
        Metric("pairs in order", "right", "share", "higher", size="pairs", of="prompts"),
        Metric("all pairs in order", "all", "share", "higher", of="prompts"),
        Metric("pairs, above the baseline's", "gain", "difference", "higher", size="pairs", of="prompts"),
        Metric("prompts, above the baseline's", "all_gain", "difference", "higher", of="prompts"),
    )

    def __init__(self, *, on: str, by: Scorer | None = None, baseline: Scorer | None = None) -> None:
        self.on, self.by, self.baseline = on, by, baseline
        if baseline is None:
            self.metrics = type(self).metrics[:2]

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = bench.examples(self.on)
        own = judgements(self.by or RewardModel(by=subject.name), examples)
        beside = judgements(self.baseline, examples) if self.baseline else own
        return [_item(*one) for one in zip(examples, own, beside, strict=True)]


def _item(example: Example, own: Sequence[float] | None, beside: Sequence[float] | None) -> Item:
    rank = worth_of(example, "replies", RANK)
    if own is None or beside is None:
        return Item(example.id, "", {}, failed="could not be judged")
    if len(set(rank)) == 1:
        return Item(example.id, "", {}, failed="its answers are all of one rank")
    right, other = in_order(own, rank), in_order(beside, rank)
    values = {
        "right": sum(right),
        "pairs": float(len(right)),
        "all": float(min(right) == 1),
        "gain": sum(right) - sum(other),
        "all_gain": float(min(right) == 1) - float(min(other) == 1),
    }
    return Item(example.id, "", values, {"judged": list(own), RANK: list(rank)})


def in_order(judged: Sequence[float], rank: Sequence[float]) -> list[float]:
    """Of each pair of different rank 1 where the better one is judged higher, 0 where lower, and 1/2 else.

    >>> in_order([3.0, 1.0, 1.0], [0, 1, 2]), in_order([0.0, 1.0], [1, 1])
    ([1.0, 1.0, 0.5], [])
    """
    found: list[float] = []
    for one, other in combinations(range(len(rank)), 2):
        better, worse = (one, other) if rank[one] < rank[other] else (other, one)
        if rank[one] != rank[other]:
            found.append(0.5 + 0.5 * ((judged[better] > judged[worse]) - (judged[better] < judged[worse])))
    return found
