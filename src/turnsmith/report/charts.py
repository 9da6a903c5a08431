"""Charts as SVG text: curves over steps, differences with intervals, before and after beside chance, shares.

Colours are classes that the page's style sheet fills, so that a chart follows light, dark and paper. Every
coordinate is finite whatever the values are: what is no number is a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from turnsmith.report.words import figure, finite

Value = float | None  # None: a gap
MOST = 600  # points of a line; of more, the least and the greatest of each stretch are drawn


@dataclass(frozen=True, slots=True)
class Scale:
    """Values `low` to `high` on coordinates `start` to `stop`; start > stop runs the other way."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The coordinate of a value; values outside stay at the edge."""
        if self.high <= self.low:
            return (self.start + self.stop) / 2
        part = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return round(self.start + part * (self.stop - self.start), 1)


@dataclass(frozen=True, slots=True)
class Line:
    """One quantity over steps. style: `thin`, `line` or `dots`. name: for the legend."""

    name: str
    style: str
    steps: Sequence[float]
    values: Sequence[Value]


def span(values: Sequence[Value], *, zero: bool = False) -> tuple[float, float]:
    """The range to draw: from 0 where the least is not far from it or `zero` asks for it, never empty.

    >>> span([1.0, 4.0, None]), span([3.0, 4.0]), span([2.0, 2.0]), span([])
    ((0.0, 4.0), (3.0, 4.0), (1.0, 3.0), (0.0, 1.0))
    """
    there = [value for value in values if finite(value) is not None and value is not None]
    if zero:
        there.append(0.0)
    if not there:
        return 0.0, 1.0
    low, high = min(there), max(there)
    if low >= 0 and low < 0.4 * high:
        return 0.0, high
    if low == high:
        room = abs(low) / 2 or 1.0
        return low - room, high + room
    return low, high


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round values within a range, 1, 2 or 5 times a power of ten apart.

    >>> ticks(0, 1), ticks(2.9, 4.3), ticks(-0.31, 0.02)
    ([0.0, 0.5, 1.0], [3.0, 3.5, 4.0], [-0.3, -0.2, -0.1, 0.0])
    """
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10):
        apart = factor * power
        first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
        if last - first < most:
            break
    return [round(number * apart, 12) + 0.0 for number in range(first, last + 1)]


def thinned(steps: Sequence[float], values: Sequence[Value]) -> list[tuple[float, Value]]:
    """At most about MOST points of a line; peaks and gaps stay."""
    points = list(zip(steps, values, strict=True))
    if len(points) <= MOST:
        return points
    size = math.ceil(len(points) / (MOST / 2))
    kept: list[tuple[float, Value]] = []
    for at in range(0, len(points), size):
        stretch = points[at : at + size]
        there = [(value, step) for step, value in stretch if value is not None]
        if len(there) < len(stretch):
            kept.append((stretch[0][0], None))
        if there:
            ends = {min(there), max(there)}
            kept += sorted(((step, value) for value, step in ends), key=lambda point: point[0])
    return kept


def smoothed(values: Sequence[Value], width: int) -> list[Value]:
    """Means over `width` values around each; gaps are left out of the means and stay gaps.

    >>> smoothed([1.0, 2.0, None, 4.0], 3)
    [1.5, 1.5, None, 4.0]
    """
    found: list[Value] = []
    for at, value in enumerate(values):
        near = [v for v in values[max(0, at - width // 2) : at + width // 2 + 1] if v is not None]
        found.append(None if value is None else sum(near) / len(near))
    return found


def curve(
    lines: Sequence[Line], *, title: str, width: int = 320, height: int = 170, zero: bool = False
) -> Markup:
    """Lines over steps, with axes. zero: the values' axis starts at 0."""
    low, high = span([value for line in lines for value in line.values], zero=zero)
    first = min((step for line in lines for step in line.steps), default=0.0)
    last = max((step for line in lines for step in line.steps), default=1.0)
    marks = ticks(low, high)
    left = 12 + 6.4 * max((len(figure(mark)) for mark in marks), default=2)
    x, y = Scale(first, last, left, width - 8), Scale(low, high, height - 22, 8)
    parts = [_grid(mark, y(mark), left, width - 8) for mark in marks]
    foot = height - 22
    parts += [
        Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(
            x(mark), foot + 15, _anchor(x(mark), width), figure(mark)
        )
        for mark in _whole(first, last)
    ]
    parts += [_drawn(line, x, y) for line in lines]
    return drawing(width, height, f"{title}: {_said(lines)}", parts, "curve")


def _grid(mark: float, at: float, left: float, right: float) -> Markup:
    return Markup(
        '<line class="grid" x1="{l}" x2="{r}" y1="{y}" y2="{y}"/>'
        '<text class="tick" x="{t}" y="{b}" text-anchor="end">{m}</text>'
    ).format(l=round(left, 1), r=right, y=at, t=round(left - 5, 1), b=round(at + 4, 1), m=figure(mark))


def _whole(first: float, last: float) -> list[float]:
    """Ticks of steps: whole numbers, the first and last step among them."""
    inner = [mark for mark in ticks(first, last) if mark == int(mark)]
    room = (last - first) / 7
    return sorted({first, last, *(mark for mark in inner if first + room < mark < last - room)})


def _anchor(x: float, width: float) -> str:
    return "end" if x > width - 24 else "middle"


def _drawn(line: Line, x: Scale, y: Scale) -> Markup:
    """Stretches between gaps; a point by itself is a dot."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for step, value in thinned(line.steps, line.values):
        if value is None or finite(value) is None:
            stretches.append([])
        else:
            stretches[-1].append((x(step), y(value)))
    parts: list[Markup] = []
    for stretch in stretches:
        if line.style == "dots" or len(stretch) == 1:
            parts += [
                Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>').format(_dot(line), *at) for at in stretch
            ]
        elif stretch:
            points = " ".join(f"{a},{b}" for a, b in stretch)
            parts.append(Markup('<polyline class="{}" points="{}"/>').format(line.style, points))
    return Markup("").join(parts)


def _dot(line: Line) -> str:
    return "dots" if line.style == "dots" else "point"


def _said(lines: Sequence[Line]) -> str:
    """The chart in words, for those who cannot see it."""
    said: list[str] = []
    for line in lines:
        there = [(s, v) for s, v in zip(line.steps, line.values, strict=True) if v is not None]
        if there:
            (first, start), (last, end) = there[0], there[-1]
            ends = f"{figure(start)} at step {figure(first)}, {figure(end)} at step {figure(last)}"
            values = [v for _, v in there]
            said.append(f"{line.name} {ends}, least {figure(min(values))}, greatest {figure(max(values))}")
    return "; ".join(said) or "nothing to draw"


def forest(
    low: Value, middle: Value, high: Value, scale: Scale, *, verdict: str, text: str, height: int = 26
) -> Markup:
    """A difference with its interval beside the line of no difference; the mark's shape tells the verdict."""
    width, y = round(max(scale.start, scale.stop) + 6), height / 2
    parts = [_upright(mark, scale, height) for mark in ticks(scale.low, scale.high)]
    if scale.low <= 0 <= scale.high:
        parts.append(_upright(0.0, scale, height, "zero"))
    if low is not None and high is not None:
        parts.append(
            Markup('<path class="span {v}" d="M{a} {y}H{b}M{a} {t}V{f}M{b} {t}V{f}"/>').format(
                v=verdict, a=scale(low), b=scale(high), y=y, t=y - 3.5, f=y + 3.5
            )
        )
    if middle is not None:
        parts.append(_mark(scale(middle), y, verdict))
    return drawing(width, height, text, parts, "forest")


def _upright(mark: float, scale: Scale, height: int, kind: str = "grid") -> Markup:
    return Markup('<line class="{k}" x1="{x}" x2="{x}" y1="0" y2="{h}"/>').format(
        k=kind, x=scale(mark), h=height
    )


def _mark(x: float, y: float, verdict: str) -> Markup:
    """Better: a disc. Worse: a diamond. Anything else: an open circle."""
    if verdict == "worse":
        return Markup('<path class="mark worse" d="M{} {}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>').format(x, y - 5.5)
    return Markup('<circle class="mark {}" cx="{}" cy="{}" r="4.2"/>').format(verdict, x, y)


def axis(scale: Scale, *, better: str | None = None) -> Markup:
    """The tick labels of a column of charts, and on which side better is: always the right."""
    width = round(max(scale.start, scale.stop) + 6)
    parts = [
        Markup('<text class="tick" x="{}" y="11" text-anchor="{}">{}</text>').format(
            scale(mark), "start" if scale(mark) < 14 else _anchor(scale(mark), width + 8), figure(mark)
        )
        for mark in ticks(scale.low, scale.high)
    ]
    zero = scale(0)
    if better and width - zero > 60:
        right = Markup('<text class="side" x="{}" y="25" text-anchor="end">better →</text>')
        parts.append(right.format(width - 2))
    if better and zero > 60:
        parts.append(Markup('<text class="side" x="2" y="25">← worse</text>'))
    return drawing(width, 30 if better else 15, "", parts, "axis")


def dumbbell(
    before: Value, after: Value, chance: Value, scale: Scale, *, text: str, height: int = 20
) -> Markup:
    """Before (open) and after (filled) on one line, with a dashed tick at what guessing gives."""
    width, y = round(max(scale.start, scale.stop) + 6), height / 2
    parts = [_upright(mark, scale, height) for mark in ticks(scale.low, scale.high)]
    if chance is not None:
        parts.append(_upright(chance, scale, height, "chance"))
    if before is not None and after is not None:
        parts.append(
            Markup('<line class="bridge" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                scale(before), scale(after), y=y
            )
        )
    for name, value in (("before", before), ("after", after)):
        if value is not None:
            parts.append(Markup('<circle class="{}" cx="{}" cy="{}" r="3.6"/>').format(name, scale(value), y))
    return drawing(width, height, text, parts, "dumbbell")


def bar(values: Sequence[float], *, text: str) -> Markup:
    """Shares of a whole, side by side, in the order of the classes part0, part1 ..."""
    whole = sum(values) or 1.0
    parts: list[Markup] = []
    at = 0.0
    for number, value in enumerate(values):
        wide = max(0.0, 600 * value / whole - 1.5)
        parts.append(
            Markup('<rect class="part{}" x="{}" y="0" width="{}" height="12"/>').format(
                number % 6, round(at, 1), round(wide, 1)
            )
        )
        at += 600 * value / whole
    return drawing(600, 12, text, parts, "bar")


def drawing(width: int, height: int, text: str, parts: Sequence[Markup], kind: str) -> Markup:
    """An image with a description, or, without one, an ornament that screen readers pass over."""
    role = Markup('role="img" aria-label="{}"').format(text) if text else Markup('aria-hidden="true"')
    stretch = Markup(' preserveAspectRatio="none"') if kind == "bar" else Markup("")
    return Markup('<svg class="{}" viewBox="0 0 {} {}"{} {}>{}</svg>').format(
        kind, width, height, stretch, role, Markup("").join(parts)
    )
