"""The nouns: what conversations, tokens, batches and scores say of themselves."""

import numpy as np
import pytest
import torch

from turnsmith.testing import chat, scores
from turnsmith.types import Conversation, Example, Message, Sampling, Tokens

TALK = chat("s: Be brief.", "u: a", "a: b", "u: c", "a: d")


def test_a_conversation_goes_on_without_changing():
    longer = TALK.then(Message("user", "e"))
    assert len(TALK.messages) == 5
    assert longer.messages == (*TALK.messages, Message("user", "e"))


@pytest.mark.parametrize(("stop", "kept"), [(0, 0), (2, 2), (9, 5), (-1, 4)])
def test_upto_is_a_slice(stop, kept):
    assert TALK.upto(stop).messages == TALK.messages[:kept]


def test_the_opening_is_all_before_the_last_answer():
    assert TALK.opening == TALK.upto(4)
    assert TALK.then(Message("user", "e")).opening == TALK.upto(4)
    assert chat("u: a").opening == Conversation(())


def test_an_example_without_an_id_says_so():
    assert Example({}).id == "?"
    assert Example({}, {}, {"id": 3}).id == "3"


def test_parts_are_exchanged_and_the_rest_is_kept():
    one = Example({"text": TALK, "other": TALK}, {"rating": 1.0}, {"id": "x"})
    two = one.replaced(text=TALK.upto(2))
    assert two.parts == {"text": TALK.upto(2), "other": TALK}
    assert (two.values, two.meta) == (one.values, one.meta)
    assert one.parts["text"] == TALK


def test_cut_tokens_are_cut_in_everything():
    array, floats = np.arange(4, dtype=np.int32), np.arange(4, dtype=np.float32)
    cut = Tokens(array, array + 1, floats, array, {"reference": -floats}).cut(2)
    assert len(cut) == 2
    found = [a.tolist() for a in (cut.inputs, cut.targets, cut.weights, cut.turns, cut.extras["reference"])]
    assert found == [[0, 1], [1, 2], [0, 1], [0, 1], [0, -1]]


# -------------------------------------------------------------------------------------------------- scores
# Two pairs: chosen log-probs (-1, -2) and (-3), rejected (-4) and (-5, -6); the reference is 1 below all.

CHOSEN, REJECTED = [[-1, -2], [-3]], [[-4], [-5, -6]]


def pairs():
    below = {"chosen": [[-2, -3], [-4]], "rejected": [[-5], [-6, -7]]}
    return scores({"chosen": CHOSEN, "rejected": REJECTED}, reference=below)


def test_sums_and_means_run_along_each_path():
    assert pairs().sums("chosen").tolist() == [-3, -3]
    assert pairs().sums("rejected").tolist() == [-4, -11]
    assert pairs().means("rejected").tolist() == [-4, -5.5]


def test_the_ratio_is_to_the_reference():
    assert pairs().ratio("chosen").tolist() == [2, 1]
    assert pairs().ratio("rejected").tolist() == [1, 2]
    with pytest.raises(ValueError, match="declare reference=True"):
        scores({"text": CHOSEN}).ratio("text")


def test_weights_count_in_sums_and_in_what_means_are_divided_by():
    weighted = pairs()
    weighted.weights[0] = 3.0  # of the log-prob -1: (3 * -1 + 1 * -2) / (3 + 1)
    assert weighted.sums("chosen").tolist() == [-5, -3]
    assert weighted.means("chosen").tolist() == [-1.25, -3]
    weighted.weights[:] = 0.0
    assert weighted.means("chosen").tolist() == [0, 0]


def test_paths_know_their_example():
    assert pairs().owner("rejected").tolist() == [0, 1]
    assert scores({"text": CHOSEN}).owner("text").dtype == torch.long


def test_a_part_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(KeyError, match="no part 'text' in this batch; it has chosen, rejected"):
        pairs().sums("text")


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1}, {"max_new": 0}]
)
def test_sampling_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="sampling is out of range"):
        Sampling(**wrong)
