"""Figures of items by how often each item counts, so that an interval can be had for each.

A reducer takes arrays (n,), one for each value that it needs of an item, and `times`, (B, n): how often each
item counts in each of B resamples; once each where absent. It gives (B,) figures: nan where a resample has
none, e.g. AUROC of one class. `value_of` gives the figure of the items as they are and raises where it is
nan, with the reason. An item that counts twice is two items, so ties between its copies are ties.

The functions at the end make the values of one item out of texts: n-gram counts, ROUGE, joint goals.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BINS = 15  # of calibration; Guo et al. 2017, sect. 2
ORDERS = (1, 2, 3, 4)  # of BLEU's n-grams


@dataclass(frozen=True, slots=True)
class Reducer:
    """A reducer as it was registered. inputs: the values that it needs, in order; fixed: those that belong to
    the item, which two models must share. none: why there may be no figure."""

    figure: Callable[..., Array]
    inputs: tuple[str, ...]
    fixed: tuple[str, ...]
    none: str


REDUCERS: dict[str, Reducer] = {}
Function = Callable[..., Array]


def reducer(name: str, *, none: str, fixed: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Register a reducer: `(value, ..., times) -> figures`. Its parameters before `times` name the values."""

    def keep(function: Function) -> Function:
        inputs = tuple(inspect.signature(function).parameters)[:-1]
        REDUCERS[name] = Reducer(function, inputs, fixed, none)
        return function

    return keep


def value_of(name: str, *values: Sequence[float] | Array) -> float:
    """The figure of items that count once each. Raises ValueError with the reason where there is none.

    >>> value_of("auroc", [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    found = float(REDUCERS[name].figure(*(np.asarray(one, float) for one in values))[0])
    if np.isnan(found):
        raise ValueError(f"{name} has no figure: {REDUCERS[name].none}")
    return found


def _counted(values: Array, times: Array | None) -> Array:
    if not values.size or values.ndim != 1:
        raise ValueError(f"need one value for each of at least one item, not {values.shape}")
    return np.ones((1, len(values))) if times is None else times


def _over(top: Array, bottom: Array) -> Array:
    """A quotient, nan where the divisor is 0."""
    return np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom != 0)


def _labels(values: Array) -> Array:
    if not np.isin(values, (0.0, 1.0)).all():
        wrong = values[~np.isin(values, (0.0, 1.0))][0]
        raise ValueError(f"a label must be 0 or 1, not {wrong:g}")
    return values


# ---------------------------------------------------------------------------------------- means


@reducer("mean", none="there is no item")
def mean(value: Array, times: Array | None = None) -> Array:
    """The mean of the values. Of ROUGE, pass@k and joint goals of items, whose figure is their mean."""
    times = _counted(value, times)
    return _over(times @ value, times.sum(1))


@reducer("ratio", none="the sizes sum to 0")
def ratio(value: Array, size: Array, times: Array | None = None) -> Array:
    """The sum of the values over the sum of the sizes; sizes may differ between models."""
    times = _counted(value, times)
    return _over(times @ value, times @ size)


@reducer("accuracy", none="there is no item", fixed=("gold",))
def accuracy(said: Array, gold: Array, times: Array | None = None) -> Array:
    """The share of items whose class was said. Classes are numbers."""
    return mean((said == gold).astype(float), times)


@reducer("jga", none="there is no turn")
def jga(joint: Array, times: Array | None = None) -> Array:
    """Joint goal accuracy: the share of turns whose whole state was right; see `joint_goal`.

    Source: Henderson et al. 2014 (DSTC2), sect. 5; as in MultiWOZ.
    """
    return mean(_labels(joint), times)


@reducer("brier", none="there is no item", fixed=("label",))
def brier(probability: Array, label: Array, times: Array | None = None) -> Array:
    """The mean of (probability - label)**2, labels 0 or 1. Source: Brier 1950, for two classes."""
    return mean((_probabilities(probability) - _labels(label)) ** 2, times)


def _probabilities(values: Array) -> Array:
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"a probability must lie between 0 and 1, not {values.min():g} to {values.max():g}")
    return values


@reducer("ece", none="there is no item")
def ece(confidence: Array, right: Array, times: Array | None = None) -> Array:
    """Expected calibration error over 15 bins of equal width, ((m - 1)/15, m/15]; 0 is in the first.

    The sum over bins of their share of the items times |share that was right - mean confidence|. Items of
    few bins look less calibrated than they are, since noise counts as error: an interval is of this figure,
    not of the error of an endless sample. Source: Guo et al. 2017, arXiv:1706.04599 eq. 3.
    """
    times = _counted(confidence, times)
    bins = np.maximum(np.ceil(_probabilities(confidence) * BINS) - 1, 0)
    apart = _labels(right) - confidence
    every = [np.abs(times[:, here] @ apart[here]) for here in (bins == place for place in np.unique(bins))]
    return _over(np.sum(every, 0), times.sum(1))


# ------------------------------------------------------------------------------ classes and ranks


@reducer("f1", none="nothing is of class 1, neither said nor in truth", fixed=("gold",))
def f1(said: Array, gold: Array, times: Array | None = None) -> Array:
    """F1 of class 1 of the classes 0 and 1: 2 TP / (2 TP + FP + FN). nan where nothing is of class 1."""
    return _f1(_labels(said), _labels(gold), 1.0, _counted(said, times))


@reducer("precision", none="there is no item", fixed=("gold",))
def precision(said: Array, gold: Array, times: Array | None = None) -> Array:
    """Of what was said to be of class 1, the share that is: TP / (TP + FP). 0 where nothing was, as F1 is."""
    kept, right = _counted(said, times), _labels(said) * _labels(gold)
    return kept @ right / np.maximum(kept @ said, 1.0)


@reducer("recall", none="nothing is of class 1", fixed=("gold",))
def recall(said: Array, gold: Array, times: Array | None = None) -> Array:
    """Of what is of class 1, the share that was said to be: TP / (TP + FN). nan where nothing is."""
    kept, right = _counted(said, times), _labels(said) * _labels(gold)
    return _over(kept @ right, kept @ gold)


@reducer("f1-micro", none="there is no item", fixed=("gold",))
def f1_micro(said: Array, gold: Array, times: Array | None = None) -> Array:
    """F1 of counts summed over all classes. With one class for each item it is the accuracy."""
    return accuracy(said, gold, times)


@reducer("f1-macro", none="there is no item", fixed=("gold",))
def f1_macro(said: Array, gold: Array, times: Array | None = None) -> Array:
    """The mean of F1 over the classes that occur, said or in truth."""
    times = _counted(said, times)
    each = np.array([_f1(said, gold, one, times) for one in np.union1d(said, gold)])
    return _over(np.nansum(each, 0), (~np.isnan(each)).sum(0).astype(float))


def _f1(said: Array, gold: Array, one: float, times: Array) -> Array:
    both = times @ ((said == one) & (gold == one)).astype(float)
    return _over(2 * both, times @ (said == one).astype(float) + times @ (gold == one).astype(float))


@reducer("auroc", none="all items are of one class", fixed=("label",))
def auroc(score: Array, label: Array, times: Array | None = None) -> Array:
    """The chance that an item of class 1 scores higher than one of class 0; a tie counts half.

    Source: Mann & Whitney 1947; Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    ones, noughts = _by_score(score, _labels(label), _counted(score, times))
    below = np.cumsum(noughts, 1) - noughts
    won = (ones * (below + noughts / 2)).sum(1)
    return _over(won, ones.sum(1) * noughts.sum(1))


@reducer("auprc", none="no item is of class 1", fixed=("label",))
def auprc(score: Array, label: Array, times: Array | None = None) -> Array:
    """Average precision: the sum over thresholds of (recall - recall before) * precision.

    Items that tie are taken in together. Source: Davis & Goadrich 2006, without interpolation.
    """
    ones, noughts = (side[:, ::-1] for side in _by_score(score, _labels(label), _counted(score, times)))
    right, said = np.cumsum(ones, 1), np.cumsum(ones + noughts, 1)
    precision = np.divide(right, said, out=np.zeros_like(right), where=said > 0)
    return _over((ones * precision).sum(1), ones.sum(1))


@reducer("auprc-gain", none="no item is of class 1", fixed=("label", "other"))
def auprc_gain(score: Array, other: Array, label: Array, times: Array | None = None) -> Array:
    """The average precision of a score less that of another score of the same items."""
    return auprc(score, label, times) - auprc(other, label, times)


def _by_score(score: Array, label: Array, times: Array) -> tuple[Array, Array]:
    """(B, K) how many items of class 1 and of class 0 have each of K scores, lowest first."""
    ones, noughts = (_grouped(score, times * (label == one)) for one in (1.0, 0.0))
    return ones, noughts


def _grouped(values: Array, times: Array) -> Array:
    """(B, K) how often each of the K distinct values occurs, lowest first."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    return np.add.reduceat(times[:, order], starts, axis=1)


@reducer("pearson", none="one of the two is constant")
def pearson(score: Array, other: Array, times: Array | None = None) -> Array:
    """Pearson's correlation."""
    times = _counted(score, times)
    return _correlation(np.broadcast_to(score, times.shape), np.broadcast_to(other, times.shape), times)


@reducer("spearman", none="one of the two is constant")
def spearman(score: Array, other: Array, times: Array | None = None) -> Array:
    """Spearman's rank correlation: Pearson's of the ranks, tied items having their mean rank."""
    times = _counted(score, times)
    return _correlation(_ranks(score, times), _ranks(other, times), times)


def _ranks(values: Array, times: Array) -> Array:
    """(B, n) the mean rank of each item's value in each resample."""
    counts = _grouped(values, times)
    middle = np.cumsum(counts, 1) - counts / 2
    return middle[:, np.unique(values, return_inverse=True)[1]]


def _correlation(x: Array, y: Array, times: Array) -> Array:
    total = times.sum(1, keepdims=True)
    least = [1e-24 * (times * one * one).sum(1) for one in (x, y)]  # what rounding leaves of a constant
    x, y = (one - (times * one).sum(1, keepdims=True) / total for one in (x, y))
    both, first, second = ((times * a * b).sum(1) for a, b in ((x, y), (x, x), (y, y)))
    varied = (first > least[0]) & (second > least[1])
    return np.where(varied, _over(both, np.sqrt(first * second)), np.nan)


@reducer("kendall", none="one of the two is constant")
def kendall(score: Array, other: Array, times: Array | None = None) -> Array:
    """Kendall's tau-b: concordant less discordant pairs over sqrt(pairs untied in one * untied in the other).

    All pairs are looked at: n**2 memory. Source: Kendall 1945, doi:10.1093/biomet/33.3.239.
    """
    times = _counted(score, times)
    x, y = (np.sign(one[:, None] - one[None, :]) for one in (score, other))
    same, first, second = (((times @ table) * times).sum(1) for table in (x * y, x * x, y * y))
    return _over(same, np.sqrt(first * second))


# -------------------------------------------------------------------------------- texts and samples


def pass_at(samples: Array, right: Array, k: int) -> Array:
    """(n,) for each problem the unbiased chance that one of k samples is right; pass@k is the mean.

    samples: how many were drawn; right: how many of them were. 1 - C(n - c, k) / C(n, k). Raises ValueError
    where fewer than k were drawn. Source: Chen et al. 2021, arXiv:2107.03374 eq. 1.

    >>> pass_at(np.array([4.0]), np.array([1.0]), 2).tolist()
    [0.5]
    """
    if k < 1 or (samples < k).any():
        raise ValueError(
            f"pass@{k} needs at least {max(k, 1)} samples of each problem, not {samples.min():g}"
        )
    if ((right < 0) | (right > samples)).any():
        raise ValueError("more samples are right than were drawn, or fewer than 0")
    none = np.ones(len(samples))
    for step in range(k):  # C(n - c, k) / C(n, k) = product of (n - c - i) / (n - i)
        none *= np.maximum(samples - right - step, 0) / (samples - step)
    return 1 - none


def joint_goal(said: Mapping[str, str | None], gold: Mapping[str, str | None]) -> float:
    """1 where both states have the same values in the same slots, else 0; None and "" mean no value.

    Values are compared as they are: what spelling counts as the same is the task's to decide.
    """
    there = ({slot: value for slot, value in state.items() if value} for state in (said, gold))
    return float(next(there) == next(there))


@reducer("bleu", none="no reply is as long as four tokens")
def bleu(
    words: Array,
    reference: Array,
    match_1: Array,
    match_2: Array,
    match_3: Array,
    match_4: Array,
    times: Array | None = None,
) -> Array:
    """Corpus BLEU-4, 0 to 100, out of the counts of `bleu_counts` of each item.

    Orders without any match are smoothed: the m-th of them counts 1 / 2**m matches (`exp`, sacreBLEU's
    default). Where not even a word matches it is 0, as defined. nan where the replies have no 4-gram at all.
    Source: Papineni et al. 2002, doi:10.3115/1073083.1073135; Post 2018, arXiv:1804.08771.
    """
    times = _counted(words, times)
    matches = np.stack([times @ one for one in (match_1, match_2, match_3, match_4)], 1)
    totals = np.stack([times @ np.maximum(words - order + 1, 0) for order in ORDERS], 1)
    missing = matches == 0
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, 1), matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / totals).mean(1) + np.minimum(0, 1 - (times @ reference) / (times @ words))
    found = np.where(missing[:, 0], 0.0, 100 * np.exp(logs))
    return np.where(totals[:, -1] > 0, found, np.nan)


def bleu_counts(said: str, references: Sequence[str]) -> dict[str, float]:
    """What `bleu` needs of an item: tokens of the reply and of the reference of nearest length, matches.

    A match of an n-gram counts as often as the reference that has it most often has it. An empty reply has
    no tokens and makes the whole shorter than its references. Raises ValueError without a reference.
    """
    if not references or not all(_international(one) for one in references):
        raise ValueError(f"BLEU needs a reference with words: {list(references)!r}")
    tokens, others = _international(said), [_international(one) for one in references]
    nearest = min((abs(len(one) - len(tokens)), len(one)) for one in others)[1]
    found = {"words": float(len(tokens)), "reference": float(nearest)}
    for order in ORDERS:
        most: Counter[tuple[str, ...]] = Counter()
        for one in others:
            most |= grams(one, order)
        found[f"match_{order}"] = float((grams(tokens, order) & most).total())
    return found


def grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each n-gram occurs."""
    return Counter(tuple(words[at : at + order]) for at in range(len(words) - order + 1))


def _international(text: str) -> list[str]:
    """Tokens by the rules of `13a`: NIST's mteval-v13a, with which BLEU is usually given."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    text = f" {unescape(text) if '&' in text else text} "
    text = re.sub(r"([{-~\[-` -&(-+:-@/])", r" \1 ", text)
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)  # stops and commas, not inside of numbers
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    return re.sub(r"([0-9])(-)", r"\1 \2 ", text).split()


def rouge(said: str, references: Sequence[str], kind: str) -> float:
    """ROUGE-1, -2 or -L of an item as F-measure, 0 to 1, the best over the references; kind: `1`, `2`, `L`.

    Words are runs of letters and digits in lower case, without stemming. An empty reply has recalled nothing:
    0. Raises ValueError where a reference has nothing to recall (no word, or for ROUGE-2 one word).
    Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries", eq. 1 to 4, beta 1.

    >>> rouge("the cat sat", ["the cat sat down"], "1")
    0.8571428571428571
    """
    if kind not in ("1", "2", "L"):
        raise ValueError(f"there are ROUGE 1, 2 and L, not {kind!r}")
    words = _words(said)
    return max(_rouge(words, _words(one), kind, one) for one in references)


def _rouge(said: Sequence[str], wanted: Sequence[str], kind: str, reference: str) -> float:
    order = 2 if kind == "2" else 1
    both = _common(said, wanted) if kind == "L" else (grams(said, order) & grams(wanted, order)).total()
    whole, recalled = len(said) - order + 1, len(wanted) - order + 1
    if recalled < 1:
        raise ValueError(f"ROUGE-{kind} has nothing to recall in the reference {reference!r}: leave it out")
    return 2 * both / (max(whole, 0) + recalled)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = row
        row = [0]
        for at, second in enumerate(other):
            row.append(before[at] + 1 if word == second else max(before[at + 1], row[at]))
    return row[-1]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
