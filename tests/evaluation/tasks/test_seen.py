"""Replies about images against the truth: boxes and names, by hand."""

from dataclasses import replace

import pytest

from turnsmith.errors import DataError
from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.tasks.seen import Boxes, Named
from turnsmith.testing import TinyBench, chat, conversations
from turnsmith.types import Example, Failure, Message, Reply, Usage

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
BOXES = [
    Example({"text": chat("u: Where?", "a: [0.00, 0.00, 0.50, 1.00]")}, {}, {"id": "one", "boxes": [LEFT]}),
    Example({"text": chat("u: All?", "a: both")}, {}, {"id": "two", "boxes": [LEFT, RIGHT]}),
    Example({"text": chat("u: Why?", "a: so")}, {}, {"id": "other"}),
]
NAMES = [
    Example({"text": chat("u: What?", "a: red circle")}, {}, {"id": "one", "gold": ["red circle"]}),
    Example({"text": chat("u: What?", "a: blue square")}, {}, {"id": "two", "gold": ["blue square"]}),
]
LABELS = ("red circle", "blue square")


def measured(task, data, *said):
    """The items of a model that says this, in turn; None could not be answered."""

    def speak(asked, *, sampling=None, seed=0):
        assert len(asked) == len(said)
        return [
            Failure("silent") if text is None else Reply(Message("assistant", text), "stop", Usage(1, 1))
            for text in said
        ]

    bench = TinyBench({"data": data})
    return task.measure(replace(bench.tuned, chat=speak), bench)


def figures(task, items):
    return {row["name"]: row["after"] for row in alone(task.metrics, items)}


def test_boxes_are_read_from_replies_and_only_where_there_is_a_truth():
    items = measured(
        Boxes(on="data"), BOXES, "It is at [0, 0, 0.5, 1].", "[0.5, 0, 1, 1] and [0, 0, 0.25, 1]"
    )
    assert [item.id for item in items] == ["one", "two"]
    assert items[0].values == {"precision": 1.0, "overlap": 1.0}
    # The second box is half of the left one, which is enough.
    assert items[1].values == {"precision": 1.0, "overlap": 0.75}
    assert figures(Boxes, items) == pytest.approx({"mAP": 1.0, "IoU": 0.875})
    strict = measured(Boxes(on="data", least=0.6), BOXES, "", "[0.5, 0, 1, 1] and [0, 0, 0.25, 1]")
    assert [item.values["precision"] for item in strict] == [0.0, 0.5]
    assert strict[0].values["overlap"] == 0.0


def test_a_model_that_could_not_answer_is_no_0():
    items = measured(Boxes(on="data"), BOXES, None, "")
    assert (items[0].failed, dict(items[0].values)) == ("silent", {})
    assert items[1].values == {"precision": 0.0, "overlap": 0.0}
    (first, *_) = measured(Named(on="data", labels=LABELS), NAMES, None, "x")
    assert (first.failed, dict(first.values)) == ("silent", {})


def test_f1_counts_the_decisions_of_all_labels_and_of_each():
    """Said: red, red and blue. In truth: red, blue. Right 2, too many 1: F1 4/5; of red 2/3, of blue 1."""
    task = Named(on="data", labels=LABELS)
    items = measured(task, NAMES, "A Red Circle.", "red circle and blue square")
    (row,) = alone(task.metrics, items)
    assert row["after"] == pytest.approx(0.8)
    assert {one["name"]: one["after"] for one in row["groups"]} == pytest.approx(
        {"red circle": 2 / 3, "blue square": 1.0}
    )


def test_a_name_in_a_denial_counts_as_said_which_the_note_says():
    items = measured(Named(on="data", labels=LABELS), NAMES, "no red circle", "no red circle")
    assert [item.values["said"] for item in items] == [1.0, 0.0, 1.0, 0.0]
    assert "denial" in Named.note


def test_data_without_a_truth_are_refused():
    for task in (Boxes(on="data"), Named(on="data", labels=LABELS)):
        with pytest.raises(DataError, match="no example of 'data' has"):
            measured(task, conversations(2))
    odd = [replace(BOXES[0], meta={"id": "x", "boxes": [[1, 2]]})]
    with pytest.raises(DataError, match="'x': boxes must be lists of four numbers"):
        measured(Boxes(on="data"), odd, "")
    with pytest.raises(DataError, match="'one' has the label 'red circle', which is not among"):
        measured(Named(on="data", labels=("blue square",)), NAMES[:1], "")
