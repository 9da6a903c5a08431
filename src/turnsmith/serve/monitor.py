"""What served traffic says of a model: how much is asked, how it is answered, and whether that has changed.

Windows of equal length end with the newest turn; the newest one is compared with a reference. Two means, or
two shares, differ where the interval of their difference,

    d +- sqrt(h_1^2 + h_2^2),   h = t s / sqrt(n),

lies wholly beyond a margin that is worth a look; t is Student's quantile (Donner & Zou 2012, Stat. Methods
Med. Res. 21, 347-359, sec. 2, for two means). Where all outcomes are 0 or 1, one made-up failure and one
success count in s and n, as in `evaluation/statistics.py`. What people ask has drifted where the divergence
of the words of both windows is beyond what windows have among which the same prompts are dealt at random. All
looks together ring without cause in at most 1 - `level` of all calls (Bonferroni). Turns count as
independent: of few people who ask much, intervals are too narrow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from turnsmith.data.suspicions import REFUSAL
from turnsmith.errors import UsageError
from turnsmith.evaluation.statistics import LEAST, student
from turnsmith.serve.drift import Drift, drifted

LOOKS = 6  # volume, length, refusals, cut replies, ratings, topics
LONGER = 0.1  # share of the reference's mean length
MORE = 0.02  # share of replies that are refused, or cut
DRIFT = 0.02  # bits above the mean of windows that are dealt at random
WINDOWS = 100_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply that was served. at: seconds since 1970. tokens: of the reply. refused: None where nobody has
    judged it; then a reply refuses that begins with an apology for not being able to, or the like
    (`data/suspicions.py`)."""

    at: float
    model: str
    prompt: str
    reply: str
    tokens: int
    finish: str
    rating: float | None = None
    refused: bool | None = None


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over `n` turns with its interval; low and high are None of fewer than 8."""

    n: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """The turns from `start` up to and with `end`, in seconds since 1970. length: tokens of a reply;
    refusals, cut: shares of replies that refuse, and that ended at the limit. Means are None where there is
    no turn, and ratings where none was given."""

    start: float
    end: float
    turns: int
    models: tuple[str, ...]
    length: Mean | None
    refusals: Mean | None
    cut: Mean | None
    ratings: Mean | None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. turns: in all windows. windows: the oldest first. reference: of what the newest window
    was compared with; None where there was nothing. alarms: what has changed, in sentences. retrain: whether
    replies are rated lower, or what people ask has drifted, so that a training on recent turns is due."""

    turns: int
    window_seconds: float
    windows: tuple[Window, ...]
    reference: Window | None
    drift: Drift | None
    alarms: tuple[str, ...]
    retrain: bool


def monitored(
    turns: Sequence[Turn],
    *,
    window_seconds: float,
    reference: Sequence[Turn] | None = None,
    level: float = 0.99,
    seed: int = 0,
) -> Report:
    """The turns by windows, and what of the newest one differs from the reference.

    reference: turns of a time when all was well; None: all before the newest window. level: with which
    nothing rings where nothing has changed. seed: of the random deals. Figures of fewer than 8 turns ring
    nothing. Raises UsageError where there is no turn, or a window has no length.
    """
    _refuse(turns, window_seconds, level)
    ordered = sorted(turns, key=lambda turn: turn.at)
    cut = _cut(ordered, window_seconds)
    each = 1 - (1 - level) / LOOKS
    windows = tuple(_window(start, end, inside, level) for start, end, inside in cut)
    start, newest = cut[-1][0], cut[-1][2]
    before = sorted(reference, key=lambda turn: turn.at) if reference is not None else ordered[: -len(newest)]
    if not before:
        return Report(len(turns), window_seconds, windows, None, None, (), False)
    past = _window(before[0].at, before[-1].at if reference is not None else start, before, level)
    drift = drifted([one.prompt for one in before], [one.prompt for one in newest], level=each, seed=seed)
    alarms = [
        *_volume(before, len(newest), window_seconds, each, end=past.end),
        *_length(before, newest, each),
        *_share("are refused", "refusals", _refused, before, newest, each),
        *_share("end at the limit", "cut replies", _ended, before, newest, each),
    ]
    due = [*_rated(before, newest, each), *_asked(drift)]
    trigger = ["Train anew on recent turns, and compare before the new model is served."] if due else []
    told = (*alarms, *due, *trigger)
    return Report(len(turns), window_seconds, windows, past, drift, told, bool(due))


# -------------------------------------------------------------------------------------------- windows


def _refuse(turns: Sequence[Turn], seconds: float, level: float) -> None:
    if not turns:
        raise UsageError("there is no turn to be looked at: nothing was served, or nothing was kept")
    if seconds <= 0 or not 0 < level < 1:
        raise UsageError(
            f"a window lasts {seconds} s at level {level}: both must be above 0, and the level below 1"
        )


def _cut(turns: Sequence[Turn], seconds: float) -> list[tuple[float, float, list[Turn]]]:
    """(start, end, turns) of each window, the oldest first; the newest ends with the newest turn."""
    end = turns[-1].at
    count = int((end - turns[0].at) // seconds) + 1
    if count > WINDOWS:
        raise UsageError(f"windows of {seconds} s would be {count:,}: make them longer")
    inside: list[list[Turn]] = [[] for _ in range(count)]
    for turn in turns:
        inside[-1 - int((end - turn.at) // seconds)].append(turn)
    edges = [end - number * seconds for number in range(count, -1, -1)]
    return [(edges[at], edges[at + 1], inside[at]) for at in range(count)]


def _window(start: float, end: float, turns: Sequence[Turn], level: float) -> Window:
    ratings = [turn.rating for turn in turns if turn.rating is not None]
    return Window(
        start,
        end,
        len(turns),
        tuple(sorted({turn.model for turn in turns})),
        mean([turn.tokens for turn in turns], level),
        mean([_refused(turn) for turn in turns], level),
        mean([_ended(turn) for turn in turns], level),
        mean(ratings, level),
    )


def mean(values: Sequence[float], level: float) -> Mean | None:
    """The mean with Student's interval; None where there is no value."""
    if not values:
        return None
    value, reach = fmean(values), _reach(values, level)
    return Mean(len(values), value, *((None, None) if reach is None else (value - reach, value + reach)))


def _reach(values: Sequence[float], level: float) -> float | None:
    """Half the width of the interval of the mean; None of fewer than 8 values."""
    if len(values) < LEAST:
        return None
    outcomes = all(value in (0, 1) for value in values)
    every = [*values, 0.0, 1.0] if outcomes else values
    return student(level, len(values) - 1) * stdev(every) / len(every) ** 0.5


def _refused(turn: Turn) -> float:
    return float(REFUSAL.match(turn.reply[:200]) is not None if turn.refused is None else turn.refused)


def _ended(turn: Turn) -> float:
    return float(turn.finish == "length")


# --------------------------------------------------------------------------------------------- alarms


def _changed(before: Sequence[float], now: Sequence[float], level: float, margin: float) -> float | None:
    """The difference of the means, where its interval lies wholly beyond the margin on either side."""
    reaches = [_reach(side, level) for side in (before, now)]
    if reaches[0] is None or reaches[1] is None:
        return None
    apart = fmean(now) - fmean(before)
    return apart if abs(apart) - math.hypot(reaches[0], reaches[1]) > margin else None


def _volume(before: Sequence[Turn], now: int, seconds: float, level: float, *, end: float) -> list[str]:
    """Whether the newest window has more or fewer turns than whole windows before it let expect (Student's
    prediction interval, and no narrower than that of Poisson counts); these must be 3 at least."""
    whole = int((end - before[0].at) // seconds)
    ages = [int((end - turn.at) // seconds) for turn in before]
    counts = [Counter(ages)[age] for age in range(whole)]
    if whole < 3:
        return []
    middle = fmean(counts)
    spread = max(stdev(counts), middle**0.5)
    reach = student(level, whole - 1) * spread * (1 + 1 / whole) ** 0.5
    if abs(now - middle) <= reach:
        return []
    more = "more" if now > middle else "fewer"
    return [f"Turns: {now:,} in the newest window, {more} than the {middle:,.0f} that were usual."]


def _length(before: Sequence[Turn], now: Sequence[Turn], level: float) -> list[str]:
    sides = [[float(turn.tokens) for turn in side] for side in (before, now)]
    apart = _changed(sides[0], sides[1], level, LONGER * fmean(sides[0]))
    if apart is None:
        return []
    how = "longer" if apart > 0 else "shorter"
    return [f"Replies are {how}: {fmean(sides[1]):.1f} tokens, {fmean(sides[0]):.1f} before."]


def _share(
    what: str,
    name: str,
    of: Callable[[Turn], float],
    before: Sequence[Turn],
    now: Sequence[Turn],
    level: float,
) -> list[str]:
    sides = [list(map(of, side)) for side in (before, now)]
    apart = _changed(sides[0], sides[1], level, MORE)
    if apart is None:
        return []
    how = "More" if apart > 0 else "Fewer"
    return [f"{how} replies {what}: {fmean(sides[1]):.1%} {name}, {fmean(sides[0]):.1%} before."]


def _rated(before: Sequence[Turn], now: Sequence[Turn], level: float) -> list[str]:
    """Whether replies are rated lower; that they are rated higher is no alarm."""
    sides = [[turn.rating for turn in side if turn.rating is not None] for side in (before, now)]
    apart = _changed(sides[0], sides[1], level, 0.0)
    if apart is None or apart > 0:
        return []
    return [f"Replies are rated lower: {fmean(sides[1]):.2f}, {fmean(sides[0]):.2f} before."]


def _asked(drift: Drift | None) -> list[str]:
    if drift is None or drift.divergence <= max(drift.threshold, drift.expected + DRIFT):
        return []
    more = f" Said more often: {', '.join(drift.words)}." if drift.words else ""
    far = f"its words are {drift.divergence:.3f} bits from those before"
    return [f"What people ask has drifted: {far}, where chance gives up to {drift.threshold:.3f}.{more}"]
