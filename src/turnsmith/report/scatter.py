"""Points in a plane with intervals both ways, and which of them no other beats by both measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from turnsmith.report.charts import Scale, drawing, span, ticks
from turnsmith.report.words import figure

Range = tuple[float, float, float]  # a figure and the ends of its interval
WIDTH, HEIGHT, LEFT, FOOT = 460, 330, 58, 44
LETTER, LINE, DOT = 5.6, 12, 6  # how wide a letter of a name is, how high a line, and half of a point


@dataclass(frozen=True, slots=True)
class Point:
    """A method by two measures: across and up."""

    name: str
    across: Range
    up: Range


def front(points: Sequence[Point], across: str, up: str) -> list[str]:
    """The names of the points that no other is as good as by both measures and better than by one.

    across, up: which end is better, `lower` or `higher`.

    >>> front([Point("a", (1, 1, 1), (5, 5, 5)), Point("b", (2, 2, 2), (6, 6, 6)),
    ...        Point("c", (0, 0, 0), (4, 4, 4))], "higher", "lower")
    ['a', 'b', 'c']
    >>> front([Point("a", (1, 1, 1), (5, 5, 5)), Point("b", (2, 2, 2), (5, 5, 5))], "higher", "lower")
    ['b']
    """

    def place(point: Point) -> tuple[float, float]:
        return (
            point.across[0] * (-1 if across == "lower" else 1),
            point.up[0] * (-1 if up == "lower" else 1),
        )

    def beaten(one: Point) -> bool:
        x, y = place(one)
        others = [place(other) for other in points if other is not one]
        return any(a >= x and b >= y and (a > x or b > y) for a, b in others)

    return [point.name for point in points if not beaten(point)]


def scatter(points: Sequence[Point], ahead: Sequence[str], *, across: str, up: str) -> Markup:
    """The points with bars for intervals, those named in `ahead` filled. across, up: what the axes say."""
    x = _scale([value for point in points for value in point.across], LEFT, WIDTH - 14)
    y = _scale([value for point in points for value in point.up], HEIGHT - FOOT, 14)
    parts = [
        *(_across(mark, x(mark)) for mark in ticks(x.low, x.high)),
        *(_up(mark, y(mark)) for mark in ticks(y.low, y.high)),
        *(_drawn(point, x, y, point.name in ahead) for point in points),
        *_names(points, ahead, x, y),
        Markup('<text class="side" x="{}" y="{}" text-anchor="end">{}</text>').format(
            WIDTH - 14, HEIGHT - 6, across
        ),
        Markup('<text class="side" x="14" y="{}" transform="rotate(-90 14 {})">{}</text>').format(
            HEIGHT - FOOT, HEIGHT - FOOT, up
        ),
    ]
    said = "; ".join(f"{p.name}: {figure(p.across[0])} across, {figure(p.up[0])} up" for p in points)
    return drawing(WIDTH, HEIGHT, f"{across} against {up}. {said}", parts, "scatter")


def _scale(values: Sequence[float], start: float, stop: float) -> Scale:
    low, high = span(list(values), zero=True)
    room = 0.08 * (high - low)
    return Scale(low - room, high + room, start, stop)


def _across(mark: float, at: float) -> Markup:
    return Markup(
        '<line class="{k}" x1="{x}" x2="{x}" y1="14" y2="{b}"/>'
        '<text class="tick" x="{x}" y="{t}" text-anchor="middle">{m}</text>'
    ).format(k=_kind(mark), x=at, b=HEIGHT - FOOT, t=HEIGHT - FOOT + 15, m=figure(mark))


def _up(mark: float, at: float) -> Markup:
    return Markup(
        '<line class="{k}" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>'
        '<text class="tick" x="{t}" y="{f}" text-anchor="end">{m}</text>'
    ).format(k=_kind(mark), a=LEFT, b=WIDTH - 14, y=at, t=LEFT - 5, f=round(at + 4, 1), m=figure(mark))


def _kind(mark: float) -> str:
    return "grid" if mark else "zero"


def _drawn(point: Point, x: Scale, y: Scale, ahead: bool) -> Markup:
    return Markup(
        '<path class="bar" d="M{l} {u}H{r}M{a} {b}V{t}"/><circle class="{k}" cx="{a}" cy="{u}" r="5"/>'
    ).format(
        l=x(point.across[1]), r=x(point.across[2]), b=y(point.up[1]), t=y(point.up[2]),
        a=x(point.across[0]), u=y(point.up[0]), k="front" if ahead else "behind",
    )  # fmt: skip


def _names(points: Sequence[Point], ahead: Sequence[str], x: Scale, y: Scale) -> list[Markup]:
    """The names beside their points, on the side where there is room: those ahead first, each on the line
    nearest to its point that covers neither a point nor a name."""
    taken = [(x(one.across[0]) - DOT, x(one.across[0]) + DOT, y(one.up[0])) for one in points]
    found: list[Markup] = []
    for point in sorted(points, key=lambda one: (one.name not in ahead, y(one.up[0]))):
        at, middle = x(point.across[0]), y(point.up[0])
        right, wide = at > (LEFT + WIDTH) / 2, LETTER * len(point.name)
        start = at - 9 - wide if right else at + 9
        lines = sorted(
            (14 + LINE * n for n in range((HEIGHT - FOOT - 14) // LINE)),
            key=lambda line, to=middle: abs(line - to),
        )
        free = (
            line
            for line in [middle, *lines]
            if all(
                start > end or start + wide < begin or abs(line - other) >= LINE
                for begin, end, other in taken
            )
        )
        line = next(free, middle)
        taken.append((start, start + wide, line))
        found.append(
            Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
                round(at + (-9 if right else 9), 1),
                round(line + 4, 1),
                "end" if right else "start",
                point.name,
            )
        )
    return found
