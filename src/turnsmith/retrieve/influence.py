"""The quantised influence measure: how far the levels of one vector tell the levels of another.

Each coordinate of an embedding is taken as one sample, so n is the number of coordinates, and the vectors are
told by levels of their own ranges. Source: arXiv:2402.17081 and the code that was published with it, which
divides by the standard deviation where the influence score divides by its square.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from turnsmith.errors import DataError, UsageError

Vectors: TypeAlias = "NDArray[np.float64]"
Over = Literal["deviation", "variance"]
LEVELS = 16  # the default of the published code, called 4-bit there


def quantised(vectors: Vectors, *, levels: int = LEVELS) -> NDArray[np.int64]:
    """The level, 0 to levels - 1, of each coordinate within its own vector's range, to the nearest one.

    vectors: (..., d). Gives (..., d). Of a tie the even level counts. Offset and positive scale of a vector
    do not matter. Raises UsageError for fewer than two levels, DataError where a vector is constant, which
    has no range, or holds something else than numbers.

    >>> quantised(np.array([0.0, 1.0, 2.0, 3.0]), levels=4).tolist()
    [0, 1, 2, 3]
    """
    if levels < 2:
        raise UsageError(f"influence: levels is {levels}: two or more can be told apart")
    least, most = vectors.min(-1, keepdims=True), vectors.max(-1, keepdims=True)
    bad = np.asarray(~np.isfinite(vectors).all(-1))
    if bad.any():
        raise DataError(f"influence: {_where(bad)} holds what is no number")
    bad = np.asarray(least == most)[..., 0]
    if bad.any():
        raise DataError(
            f"influence: {_where(bad)} is constant, and has no levels to compare: is the text that it stands "
            "for empty?"
        )
    return np.rint((vectors - least) / (most - least) * (levels - 1)).astype(np.int64)


def influence(
    query: Vectors, rows: Vectors, *, levels: int = LEVELS, over: Over = "deviation"
) -> NDArray[np.float64]:
    """The quantised influence measure of the query on each row: (R,), at least 0, higher where it is nearer.

    query: (d,). rows: (R, d). x and y being their levels, the coordinates are grouped by x; with n_j members
    in group j, of mean m_j in y, and m and s the mean and the deviation (over n) of all of y, it is
    sum_j n_j^2 (m_j - m)^2 / (n s), or over n s^2, `variance`, as the influence score has it. It does not see
    signs: a row and its negative have the same influence, up to ties of rounding, so whoever needs the
    direction has to look at a correlation too. It is not symmetric, and of few coordinates a row of wider
    spread may have more of it than the query has on itself. With as many levels as coordinates the groups are
    single points, and nothing of the query is left in it. Raises as `quantised`.

    >>> influence(np.array([0.0, 0.0, 1.0, 1.0]), np.array([[0.0, 1.0, 2.0, 3.0]]), levels=4).round(6)
    array([1.788854])
    """
    groups, counts, y = _grouped(query, rows, levels)
    means = y.mean(1, keepdims=True)
    apart = y @ groups.T - counts * means  # n_j (m_j - m): (R, G)
    spread = y.std(1) if over == "deviation" else y.var(1)
    return (apart**2).sum(1) / (len(query) * spread)


def dagger(query: Vectors, rows: Vectors, *, levels: int = LEVELS) -> Vectors:
    """The dagger transform: for each coordinate, the mean level of the row over the query's group of it.

    query: (d,). rows: (R, d). Gives (R, d): what the query's levels tell of the row, without its noise.
    Raises as `quantised`.

    >>> dagger(np.array([0.0, 0.0, 1.0, 1.0]), np.array([[0.0, 1.0, 2.0, 3.0]]), levels=4)
    array([[0.5, 0.5, 2.5, 2.5]])
    """
    groups, counts, y = _grouped(query, rows, levels)
    return (y @ groups.T / counts) @ groups


def _grouped(query: Vectors, rows: Vectors, levels: int) -> tuple[Vectors, Vectors, Vectors]:
    """Which coordinates are in which group (G, d), how many (G,), and the levels of the rows (R, d)."""
    x, y = quantised(query, levels=levels), quantised(rows, levels=levels).astype(np.float64)
    there, place = np.unique(x, return_inverse=True)
    groups = (np.arange(len(there))[:, None] == place).astype(np.float64)
    return groups, groups.sum(1), y


def _where(bad: NDArray[np.bool_]) -> str:
    """Which vector is meant: the first bad row, or the one vector."""
    return f"row {int(bad.argmax())}" if bad.ndim else "the vector"
