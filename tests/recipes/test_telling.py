"""Lines for a terminal."""

from turnsmith.recipes.telling import figures


def measured(name, **figure):
    metric = {"name": name, "n": 7, "verdict": "undecided"} | figure
    return [{"task": "margins", "on": "held", "metrics": [metric], "remarks": []}]


def test_columns_stand_apart_however_long_they_are():
    short = {"before": 0.5, "after": 0.75, "difference": 0.25, "low": 0.125, "high": 0.375}
    assert figures(measured("margin", **short)) == [
        "margin                        0.500 -> 0.750    +0.250 [+0.125, +0.375]     undecided  n=7"
    ]
    long = {"before": -1028.5, "after": -1027.25, "difference": 1.25, "low": -10000.5, "high": 10003.0}
    assert figures(measured("loss of all that was ever said", **long)) == [
        "loss of all that was ever said -1028.500 -> -1027.250 +1.250 [-10000.500, +10003.000] undecided  n=7"
    ]
    alone = {"before": None, "after": -1028.5, "difference": None, "low": -2000.0, "high": 10003.0}
    assert figures(measured("margin", **alone)) == [
        "margin                        -1028.500         [-2000.000, 10003.000]      n=7"
    ]
