"""Splits by a key: who was trained on is not measured on."""

import pytest

from turnsmith.data.split import split
from turnsmith.errors import DataError
from turnsmith.testing import chat
from turnsmith.types import Example

A, B = "0 2 3 4 9 10 11 12 21 22 23 25 26 27 28 29 30 32 33 34 35", "5 14 17"
PINNED = ({"a": A.split(), "b": B.split()}, 12)


def talk(name, people):
    return Example({"text": chat("u: Hi", "a: Hello")}, {}, {"id": name, "people": people})


def round_of(count):
    """Each talks to the next: a chat lies between the splits where its two people do."""
    return [talk(f"{i}-{(i + 1) % count}", [f"p{i}", f"p{(i + 1) % count}"]) for i in range(count)]


def people(examples):
    return {person for example in examples for person in example.meta["people"]}


def test_nobody_is_in_two_splits_and_every_chat_is_kept_or_counted():
    for seed in range(5):
        chats = round_of(40)
        found, between = split(chats, {"train": 0.7, "heldout": 0.3}, by="people", seed=seed)
        assert not people(found["train"]) & people(found["heldout"])
        assert len(found["train"]) + len(found["heldout"]) + between == 40
        assert between > 0


def test_people_are_drawn_in_proportion():
    alone = [talk(str(i), [f"p{i}"]) for i in range(50)]
    found, between = split(alone, {"train": 4, "heldout": 1}, by="people")
    assert {name: len(ones) for name, ones in found.items()} == {"train": 40, "heldout": 10}
    assert between == 0


def test_by_hand_pairs_go_where_both_went_or_nowhere():
    two = [talk("ab", ["a", "b"]), talk("a", ["a"]), talk("b", ["b"]), talk("aa", ["a", "a"])]
    found, between = split(two, {"one": 1, "other": 1}, by="people")
    sides = {example.id: name for name, ones in found.items() for example in ones}
    assert between == 1  # a and b are on different sides, whichever
    assert sides["a"] == sides["aa"] != sides["b"]
    assert "ab" not in sides


def test_by_id_every_example_is_its_own_key():
    found, between = split(round_of(10), {"train": 0.9, "heldout": 0.1}, by="id")
    assert (len(found["train"]), len(found["heldout"]), between) == (9, 1, 0)


def test_examples_keep_their_order_within_a_split():
    found, _ = split([talk(f"{i:02}", []) for i in range(20)], {"a": 1, "b": 1}, by="id")
    assert all([e.id for e in ones] == sorted(e.id for e in ones) for ones in found.values())


def test_the_same_seed_splits_alike_whatever_the_order_of_the_examples():
    chats = round_of(30)

    def ids(examples, seed):
        found, _ = split(examples, {"a": 1, "b": 1}, by="people", seed=seed)
        return {name: sorted(e.id for e in ones) for name, ones in found.items()}

    assert ids(chats, 3) == ids(chats[::-1], 3) != ids(chats, 4)


def test_a_key_that_is_no_list_is_one_value():
    found, _ = split([talk(str(i), i % 2) for i in range(10)], {"a": 1, "b": 1}, by="people")
    assert sorted(len({e.meta["people"] for e in ones}) for ones in found.values()) == [1, 1]


@pytest.mark.parametrize("value", [None, []])
def test_an_example_without_the_key_is_named(value):
    with pytest.raises(DataError, match="example 'x' has no 'people' to split by; it has id, people"):
        split([talk("x", value), talk("y", ["a"])], {"a": 1}, by="people")


def test_an_empty_split_is_an_error():
    with pytest.raises(DataError, match="split 'b' is empty: 1 values of 'people' are too few"):
        split([talk("x", ["p"])], {"a": 9, "b": 1}, by="people")


def test_shares_must_be_above_zero():
    with pytest.raises(DataError, match="shares of a split must be above 0"):
        split(round_of(4), {"a": 1, "b": 0}, by="id")


def test_the_split_of_a_seed_is_pinned_whatever_characters_the_values_have():
    """As it was when the values were sorted as a list of Python's strings."""
    people = ["ann", "b\x00b", "b\x01", "éva", "", "zo\U0001f600", "10", "9"]
    pairs = [[a, b] for a in people for b in people if a <= b]
    chats = [talk(str(number), pair) for number, pair in enumerate(pairs)]
    found, between = split(chats, {"a": 0.7, "b": 0.3}, by="people", seed=5)
    assert ({name: [e.id for e in ones] for name, ones in found.items()}, between) == PINNED


@pytest.mark.parametrize("fresh", [1, 7, 1000])
def test_many_values_are_packed_and_split_alike(monkeypatch, fresh):
    chats = round_of(60)
    before, _ = split(chats, {"a": 2, "b": 1}, by="people", seed=1)
    monkeypatch.setattr("turnsmith.data.split.FRESH", fresh)
    assert split(chats, {"a": 2, "b": 1}, by="people", seed=1)[0] == before
