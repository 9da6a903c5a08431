"""Made replies whose coherence is known."""

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.testing import conversations, stage


def shared(conversation):
    """The share of the reply's words that the context has."""
    *before, reply = (set(message.content.split()) for message in conversation.messages)
    return len(reply & set().union(*before)) / len(reply)


def test_levels_share_all_half_and_none_of_their_words():
    for example in stage("overlap_levels", {"count": 20, "replies": 2})([]):
        assert example.values["level"] == (3, 3, 2, 2, 1, 1)
        assert [shared(one) for one in example.parts["replies"]] == [1, 1, 0.5, 0.5, 0, 0]


def test_a_score_is_the_share_on_the_scale_of_people_whatever_the_length():
    found = list(stage("overlap_ratings", {"count": 40})([]))
    for example in found:
        assert example.values["score"] == 1 + 4 * shared(example.parts["text"])
    assert {len(one.parts["text"].messages[-1].content.split()) for one in found} == {2, 4}
    assert {one.values["score"] for one in found} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("name", ["overlap_levels", "overlap_ratings"])
@pytest.mark.parametrize("words", [3, 0, 14])
def test_words_that_cannot_be_halved_or_drawn_are_refused(name, words):
    with pytest.raises(UsageError, match=f"words is {words}"):
        list(stage(name, {"count": 1, "words": words})([]))


def test_thinned_keeps_the_first_of_each_level_with_their_numbers():
    (whole,) = stage("overlap_levels", {"count": 1, "replies": 3})([])
    (found,) = stage("thinned", {"most": 2})([whole])
    assert found.values["level"] == (3, 3, 2, 2, 1, 1)
    assert found.parts["replies"] == tuple(whole.parts["replies"][at] for at in (0, 1, 3, 4, 6, 7))
    assert len(whole.parts["replies"]) == 9
    with pytest.raises(DataError, match="no part 'replies' of several"):
        list(stage("thinned", {"most": 2})(conversations(1)))
