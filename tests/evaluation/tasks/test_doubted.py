"""Replies that are wrong, told by their loss."""

from dataclasses import replace

import pytest

from turnsmith.errors import ModelError
from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.items import Item
from turnsmith.evaluation.tasks.doubted import Doubted
from turnsmith.evaluation.tasks.heldout import Heldout
from turnsmith.testing import TinyBench, conversations

CHATS = [replace(one, values={"wrong": float(at % 2)}) for at, one in enumerate(conversations(4))]


def test_the_score_is_the_loss_for_each_token():
    bench = TinyBench({"chats": CHATS})
    losses = {one.id: one.values for one in Heldout(on="chats").measure(bench.tuned, bench)}
    found = Doubted(on="chats").measure(bench.tuned, bench)
    assert [one.values["label"] for one in found] == [0.0, 1.0, 0.0, 1.0]
    for one in found:
        assert one.values["loss"] * losses[one.id]["tokens"] == pytest.approx(losses[one.id]["all"])


def test_of_four_replies_three_pairs_of_four_are_in_order():
    # Wrong ones lose 3 and 1, right ones 2 and 0: of (3, 2), (3, 0), (1, 2) and (1, 0) one is not in order.
    items = [
        Item(str(loss), "", {"loss": loss, "label": label})
        for loss, label in ((3.0, 1.0), (1.0, 1.0), (2.0, 0.0), (0.0, 0.0))
    ]
    assert [row["after"] for row in alone(Doubted.metrics, items)] == [0.75]


def test_data_that_does_not_say_what_is_wrong_is_refused():
    bench = TinyBench({"chats": conversations(2)})
    with pytest.raises(ModelError, match="does not say whether it is `wrong`"):
        Doubted(on="chats").measure(bench.tuned, bench)
