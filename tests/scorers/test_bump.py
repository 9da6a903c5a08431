"""The reward of the bandit, by hand."""

import math

import pytest

from turnsmith.errors import UsageError
from turnsmith.models.networks.llama import bytes_as_tokens
from turnsmith.scorers.bump import ACTIONS, bump
from turnsmith.testing import chat
from turnsmith.types import Message


def test_actions_are_a_hundred_characters_of_one_token_that_nothing_trims():
    words = bytes_as_tokens()
    assert len(set(ACTIONS)) == 100
    assert all(len(words(action)["input_ids"]) == 1 and action.strip() == action for action in ACTIONS)


def test_the_reward_is_1_at_the_peak_and_falls_off_to_both_sides():
    said = [chat("u: 7").then(Message("assistant", ACTIONS[at])) for at in (70, 60, 80, 65, 20)]
    found = bump(said, [None] * 5, peak=70)
    assert found == pytest.approx([1, math.exp(-1), math.exp(-1), math.exp(-0.25), math.exp(-25)])
    assert bump(said[1:2], [None], peak=70, width=20.0) == pytest.approx([math.exp(-0.25)])


@pytest.mark.parametrize("text", ["", ACTIONS[70:72], "\n", "é"])
def test_what_is_no_action_earns_nothing(text):
    assert bump([chat("u: 7").then(Message("assistant", text))], [None], peak=70) == [0.0]


@pytest.mark.parametrize("options", [{"peak": 100}, {"peak": -1}, {"peak": 5, "width": 0}])
def test_a_peak_is_an_action_and_a_bump_has_a_width(options):
    with pytest.raises(UsageError, match="bump: a peak from 0 to 99 and a width above 0 are needed"):
        bump([], [], **options)
