"""Charts and the tables that hold them: finite whatever the figures are, never colour alone."""

import json
import math
import re
from xml.etree import ElementTree as ET

import pytest

from turnsmith.report import charts, curves, measures, words
from turnsmith.report.charts import Line, Scale


def metric(**others):
    return {
        "name": "loss without the stop token", "unit": "nats per token", "better": "lower", "n": 130,
        "of": "conversations", "before": 3.51, "after": 3.24, "difference": -0.27, "low": -0.31,
        "high": -0.24, "level": 0.95, "verdict": "better", "chance": None, "groups": [], **others,
    }  # fmt: skip


def coordinates(svg):
    found = re.findall(r'(?: x| y|x1|x2|y1|y2|cx|cy|r|width|height|points|d|viewBox)="([^"]*)"', svg)
    return [
        float(number)
        for text in found
        for number in re.findall(r"-?(?:nan|inf|\d+\.?\d*(?:e[-+]?\d+)?)", text)
    ]


@pytest.mark.parametrize(
    "values",
    [[], [2.0], [2.0] * 5, [0.0] * 3, [None] * 4, [1.0, None, 3.0], [None, 2.0, None],
     [math.nan, 1.0, math.inf], [1e300, -1e300], [1e-320, 0.0], [-3.0, -1.0], [1e12, 1e12 + 1],
     list(map(float, range(5000)))],
)  # fmt: skip
def test_coordinates_are_finite_whatever_the_values_are(values):
    clean = [words.finite(value) for value in values]
    svg = charts.curve([Line("loss", "line", [float(i) for i in range(len(values))], clean)], title="Loss")
    ET.fromstring(svg)
    assert all(math.isfinite(number) and abs(number) < 1000 for number in coordinates(svg))
    assert len(svg) < 40_000


def test_a_gap_is_a_gap_and_a_lonely_point_a_dot():
    line = Line("loss", "line", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, None, 3.0, None, 4.0])
    svg = charts.curve([line], title="Loss")
    assert svg.count("<polyline") == 1
    assert svg.count("<circle") == 2


def test_thinning_keeps_peaks():
    values = [0.0] * 10_000
    values[7_777] = 9.0
    kept = charts.thinned([float(i) for i in range(10_000)], values)
    assert len(kept) <= charts.MOST
    assert (7_777.0, 9.0) in kept


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_better_is_on_the_right_of_zero_whichever_way_a_figure_counts(better):
    good = -0.2 if better == "lower" else 0.2
    rows = [metric(better=better, difference=good, low=good - 0.1, high=good + 0.1), metric(better=better)]
    scale = measures._scale(rows, better)
    assert scale(good) > scale(0.0)


def test_a_table_of_one_unit_has_one_scale_in_all_tasks():
    step = {
        "tasks": [{"metrics": [metric(difference=-0.27)]}, {"metrics": [metric(difference=-0.02, low=-0.03)]}]
    }
    panels = measures.panels(step)
    assert panels[0].blocks[0].axis == panels[1].blocks[0].axis


@pytest.mark.parametrize("verdict", ["better", "worse", "undecided", "", '"><script>'])
def test_the_mark_of_a_difference_tells_the_verdict_by_shape(verdict):
    panel = measures.panels({"tasks": [{"metrics": [metric(verdict=verdict)]}]})[0]
    image = panel.blocks[0].rows[0].image
    ET.fromstring(image)
    assert ('<path class="mark worse"' in image) == (verdict == "worse")
    assert "script" not in image


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 0.0, 1e300])
def test_differences_that_cannot_be_drawn_leave_the_row(value):
    row = metric(difference=value, low=value, high=value)
    panel = measures.panels({"tasks": [{"metrics": [row, metric()]}]})[0]
    assert all(math.isfinite(n) for row in panel.blocks[0].rows for n in coordinates(row.image))


def test_scale_with_nothing_to_span_is_its_middle():
    assert Scale(1.0, 1.0, 0.0, 10.0)(1.0) == 5.0


def test_curves_read_what_is_whole_and_draw_each_metric_that_was_recorded(tmp_path):
    rows = [{"step": s, "loss": 2.0, "margin": 0.5, "note": "x"} for s in range(1, 4)]
    with (tmp_path / "metrics.jsonl").open("w") as opened:
        opened.writelines(json.dumps(row) + "\n" for row in rows)
        opened.write('7\n{"loss": 1}\n{"step": 4, "lo')
    rows = curves.rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [chart.title for chart in curves.charts(rows, [])] == ["Loss", "margin"]
    assert curves.rows(tmp_path / "absent.jsonl") == []
    assert curves.charts([], []) == []


def test_speed_is_trained_tokens_over_the_seconds_of_the_same_step():
    rows = [{"step": 1, "loss": 1.0, "supervised": 10}, {"step": 2, "loss": 1.0, "supervised": 30}]
    clock = [{"step": 2, "seconds": 2.0}]
    speed = curves.charts(rows, clock)[-1]
    assert (speed.title, speed.last) == ("Trained tokens per second", "15")


@pytest.mark.parametrize(("end", "steps"), [(None, [1, 2, 3]), (10_000, [1, 2, 3]), (30, [2, 3]), (3, [])])
def test_of_the_end_of_a_file_only_whole_rows_are_read(tmp_path, end, steps):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(f'{{"step": {step}}}\n' for step in (1, 2, 3)))  # 12 bytes each
    assert [row["step"] for row in curves.rows(file, end=end)] == steps
