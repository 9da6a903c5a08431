"""Points in a plane: which are on the front, and how they are drawn."""

import re

import pytest

from turnsmith.report.scatter import Point, front, scatter


def point(name, across, up):
    return Point(name, (across, across - 0.1, across + 0.1), (up, up - 0.1, up + 0.1))


POINTS = [point("a", 1, 1), point("b", 2, 2), point("c", 0.5, 2), point("d", 2, 2)]


@pytest.mark.parametrize(
    ("across", "up", "names"),
    [
        ("lower", "lower", ["a", "c"]),
        ("higher", "higher", ["b", "d"]),  # the same point twice: neither beats the other
        ("higher", "lower", ["a", "b", "d"]),
        ("lower", "higher", ["c"]),
    ],
)
def test_the_front_is_what_no_other_point_beats(across, up, names):
    assert front(POINTS, across, up) == names


def test_no_points_have_no_front():
    assert front([], "lower", "lower") == []


def test_points_on_the_front_are_filled_and_all_are_named():
    drawn = str(scatter(POINTS[:3], ["a"], across="loss", up="KL"))
    assert len(re.findall('circle class="front"', drawn)) == 1
    assert len(re.findall('circle class="behind"', drawn)) == 2
    assert all(f">{name}</text>" in drawn for name in ("a", "b", "c", "loss", "KL"))


def test_a_larger_value_is_further_right_and_further_up():
    drawn = str(scatter(POINTS[:2], [], across="x", up="y"))
    (ax, ay), (bx, by) = re.findall(r'circle class="behind" cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert float(bx) > float(ax)
    assert float(by) < float(ay)  # SVG counts from the top


def test_a_name_is_escaped():
    assert "<script>" not in str(scatter([point("<script>", 0, 0)], [], across="x", up="y"))
