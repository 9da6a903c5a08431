"""Boxes as text, and how well those that are said lie on those in truth.

A box is (left, top, right, bottom), each from 0 to 1 of the image's width or height, from the upper left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

Box: TypeAlias = "tuple[float, float, float, float]"
NUMBER = r"\s*(-?\d*\.?\d+)\s*"
SAID = re.compile(rf"\[{NUMBER},{NUMBER},{NUMBER},{NUMBER}\]")


def say(boxes: Sequence[Box]) -> str:
    """The boxes as text, each number with 2 decimals. Source: uzh-dqbm-cmi/RadVLM, create_instructions.py.

    >>> say([(0.1, 0.2, 0.304, 0.4), (0, 0, 1, 1)])
    '[0.10, 0.20, 0.30, 0.40] and [0.00, 0.00, 1.00, 1.00]'
    """
    return listed([f"[{', '.join(f'{number:.2f}' for number in box)}]" for box in boxes])


def listed(texts: Sequence[str]) -> str:
    """Joined by commas, with "and" before the last.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def read(text: str) -> list[Box]:
    """Every `[a, b, c, d]` in the text, in order.

    >>> read("at [0.10, 0.20, 0.30, 0.40] and [0,0,1,1], not [1, 2]")
    [(0.1, 0.2, 0.3, 0.4), (0.0, 0.0, 1.0, 1.0)]
    """
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in SAID.findall(text)]


def area(box: Box) -> float:
    """0 of a box whose sides are turned round."""
    left, top, right, bottom = box
    return max(right - left, 0.0) * max(bottom - top, 0.0)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union; 0 where neither box has an area.

    >>> overlap((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    left, top = max(one[0], other[0]), max(one[1], other[1])
    both = area((left, top, min(one[2], other[2]), min(one[3], other[3])))
    union = area(one) + area(other) - both
    return both / union if union > 0 else 0.0


def average_precision(said: Sequence[Box], true: Sequence[Box], *, least: float = 0.5) -> float:
    """The average precision of the boxes of one image, in the order in which they are said.

    A box is right where it overlaps a true box, which no earlier one has taken, by at least `least`: the one
    that it overlaps most. Precision at a recall is the highest at that recall or a higher one. 0 where there
    is no box on either side. Source: uzh-dqbm-cmi/RadVLM, compute_metrics_tasks.py; the mean over images is
    its mAP.
    """
    if not said or not true:
        return 0.0
    left = list(range(len(true)))
    right: list[bool] = []
    for box in said:
        best = max(left, key=lambda at: overlap(box, true[at]), default=None)
        hit = best is not None and overlap(box, true[best]) >= least
        right.append(hit)
        if hit and best is not None:
            left.remove(best)
    precision = [sum(right[: place + 1]) / (place + 1) for place in range(len(right))]
    envelope = [max(precision[place:]) for place in range(len(precision))]
    return sum(one for one, hit in zip(envelope, right, strict=True) if hit) / len(true)


def mean_overlap(said: Sequence[Box], true: Sequence[Box]) -> float:
    """How much of what is said and what is true is covered: overlaps of pairs, the best pair first and each
    box in one, over the larger number of boxes. A box that is missing or too many counts as 0; 0 where there
    is no box on either side.
    """
    pairs = sorted(
        ((overlap(one, other), i, j) for i, one in enumerate(said) for j, other in enumerate(true)),
        reverse=True,
    )
    total, ones, others = 0.0, set[int](), set[int]()
    for both, i, j in pairs:
        if i not in ones and j not in others:
            total += both
            ones.add(i)
            others.add(j)
    return total / max(len(said), len(true), 1)
