"""What a method pays for the examples that a model writes."""

import pytest

from turnsmith.recipes.budget import Budget
from turnsmith.recipes.purse import Purse


class Steps:
    """Data steps that take 10 tokens for each example, and remember for how many they were asked."""

    def __init__(self):
        self.asked = {}

    def data(self, name, *, stages, **keys):
        count = stages[-2]["head"]["count"]
        self.asked[name] = count
        return {"examples": count, "seconds": 0.0, "usage": {"prompt": 8 * count, "completion": 2 * count}}


@pytest.mark.parametrize(
    ("amount", "count", "paid"),
    [
        (1000, 25, 40 + 250),  # a quarter buys 25, and the four that were tried are paid as well
        (100, 4, 40),  # a quarter would buy two: what was tried is what there is, and is paid once
    ],
)
def test_as_many_are_written_as_the_share_pays_for_and_none_is_paid_twice(amount, count, paid):
    go = Steps()
    purse = Purse(go, Budget(amount, "tokens"))
    purse.sampled("pairs", share=0.25, stages=[], by="respond")
    assert go.asked == {"pairs-tried": 4, "pairs": count}
    assert purse.spent.tokens == purse.sampling.tokens == paid
