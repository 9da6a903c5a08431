"""Whether a model that judges answers puts them into the order in which people do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.reducers import value_of
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.scorers.reward_model import RewardModel
from turnsmith.stages.parts import several_of, worth_of
from turnsmith.types import Example, Scorer

CHANCE = 0.5  # that of two answers the better one is put first by who knows nothing
RANK = "rank"  # the value under which people's ranks stand


@task(
    "ranked",
    data=True,
    parts=("replies",),
    scorers=("by", "baseline"),
    source="LAION-AI/Open-Assistant, model_training/metrics.py",
)
class Ranked:
    """Of answers to one prompt that people have ranked: how often the best is judged above the worst, and
    Kendall's and Spearman's correlation of all, a mean over prompts.

    on: data with the part `replies`, of several conversations, and the value `rank`, 0 for the best, as the
    stage `tree_sets` makes them. by: a scorer that judges in the model's place; by default the model itself
    does, by the scorer `reward_model`. baseline: another one, e.g. `words`, which goes by length alone, to be
    set beside it. Equal judgements count half of an order, and 0 in the correlations. A prompt fails of which
    an answer cannot be judged, or whose answers are all of one rank.
    """

    title = "Order of ranked answers"
    note = (
        "People have ranked answers to one prompt. Who knows nothing puts the best above the worst half the "
        "time, and has correlations of 0."
    )
    metrics = (  # what lies above something is no share: it may be below 0
        Metric("best above worst", "ahead", "share", "higher", of="prompts", chance=True),
        Metric("best above worst, above chance", "lead", "difference", "higher", of="prompts"),
        Metric("Kendall", "kendall", "correlation", "higher", of="prompts"),
        Metric("Spearman", "spearman", "correlation", "higher", of="prompts"),
        Metric("the baseline's best above worst", "baseline", "share", "higher", of="prompts"),
        Metric("best above worst, above the baseline's", "gain", "difference", "higher", of="prompts"),
    )

    def __init__(self, *, on: str, by: Scorer | None = None, baseline: Scorer | None = None) -> None:
        self.on, self.by, self.baseline = on, by, baseline
        if baseline is None:
            self.metrics = type(self).metrics[:4]

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = bench.examples(self.on)
        own = judgements(self.by or RewardModel(by=subject.name), examples)
        beside = judgements(self.baseline, examples) if self.baseline else [None] * len(examples)
        return [_item(*one, self.baseline is not None) for one in zip(examples, own, beside, strict=True)]


def judgements(judge: Scorer, examples: Sequence[Example]) -> list[list[float] | None]:
    """Of each example the numbers of its answers; None where one of them could not be judged."""
    flat = [(one, example) for example in examples for one in several_of(example, "replies")]
    said = iter(judge([one for one, _ in flat], [example for _, example in flat]))
    found: list[list[float] | None] = []
    for example in examples:
        numbers = [next(said) for _ in several_of(example, "replies")]
        known = [number for number in numbers if number is not None]
        found.append(known if len(known) == len(numbers) else None)
    return found


def _item(example: Example, own: list[float] | None, beside: list[float] | None, both: bool) -> Item:
    rank = worth_of(example, "replies", RANK)
    if own is None or (both and beside is None):
        return Item(example.id, "", {}, failed="could not be judged")
    if len(set(rank)) == 1:
        return Item(example.id, "", {}, failed="its answers are all of one rank")
    ahead = in_order(own, rank)
    values = {
        "ahead": ahead,
        "chance": CHANCE,
        "lead": ahead - CHANCE,
        "kendall": kendall(own, rank),
        "spearman": spearman(own, rank),
    }
    if beside is not None:
        values |= {"baseline": in_order(beside, rank), "gain": ahead - in_order(beside, rank)}
    replies = several_of(example, "replies")
    texts = [one.messages[-1].content for one in replies]
    return Item(example.id, "", values, {"judged": own, RANK: list(rank), "text": texts[own.index(max(own))]})


def in_order(judged: Sequence[float], rank: Sequence[float]) -> float:
    """1 where the first of the best rank is judged above the first of the worst, 0 where below, else 1/2.

    >>> in_order([2.0, 3.0, 1.0], [0, 1, 2]), in_order([1.0, 1.0], [0, 1])
    (1.0, 0.5)
    """
    best, worst = judged[rank.index(min(rank))], judged[rank.index(max(rank))]
    return CHANCE if best == worst else float(best > worst)


def kendall(judged: Sequence[float], rank: Sequence[float]) -> float:
    """Pairs of different rank in the right order less those in the wrong one, over all of them.

    >>> kendall([3.0, 1.0, 2.0], [0, 1, 2])
    0.3333333333333333
    """
    pairs = [(i, j) for i, j in combinations(range(len(rank)), 2) if rank[i] != rank[j]]
    signs = [
        ((judged[i] > judged[j]) - (judged[i] < judged[j])) * (1 if rank[i] < rank[j] else -1)
        for i, j in pairs
    ]
    return sum(signs) / len(pairs)


def spearman(judged: Sequence[float], rank: Sequence[float]) -> float:
    """The correlation of judgements' ranks with people's; 0 where all judgements are equal."""
    if len(set(judged)) == 1:
        return 0.0
    return value_of("spearman", judged, [-one for one in rank])
