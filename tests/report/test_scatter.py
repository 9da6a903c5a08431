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


def test_names_cover_neither_points_nor_each_other_and_those_ahead_stand_at_their_points():
    """Eleven points almost in one place, and one ahead of them beside it."""
    crowd = [point(f"method {number}", 1 + number / 1e3, 1) for number in range(11)]
    drawn = str(scatter([*crowd, point("ahead", 0.9, 1.01)], ["ahead"], across="x", up="y"))
    dots = [(float(a), float(b)) for a, b in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    names = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(start|end)">(method|ahead)', drawn)
    boxes = []
    for across, up, anchor, name in names:
        wide = 5.6 * (len(name) + 3 * (name == "method"))
        left = float(across) - (wide if anchor == "end" else 0)
        boxes.append((left, left + wide, float(up) - 4, name))
    assert len(boxes) == 12
    for at, (left, right, line, _) in enumerate(boxes):
        covered = [
            one for one in boxes[:at] if left < one[1] and right > one[0] and abs(line - one[2]) < 11.9
        ]
        assert covered == []
        assert not any(left < x < right and abs(line - y) < 6 for x, y in dots)
    (line,) = (line for _, _, line, name in boxes if name == "ahead")
    assert abs(line - dots[-1][1]) < 13
