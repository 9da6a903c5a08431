"""Equal and nearly equal texts: hand-counted Jaccard indices, groups, and what is left out is counted."""

import math
import random

import numpy as np
import pytest

from turnsmith.data import duplicates
from turnsmith.data.duplicates import Keys, Sketches, different, equal, sketch


def text(*changed):
    """104 different words, of which some are changed; so it has 100 runs of five words."""
    return " ".join(f"other{n}" if n in changed else f"word{n}" for n in range(104))


@pytest.mark.parametrize(
    ("changed", "shared", "either"),
    [
        ((), 100, 100),
        ((103,), 99, 101),  # the last word is in one run
        ((50,), 95, 105),  # a word inside is in five runs
        ((20, 50), 90, 110),
        (range(2, 100, 10), 50, 150),
        (range(104), 0, 200),
    ],
)
def test_sketches_agree_as_often_as_the_jaccard_index_says(changed, shared, either):
    index = shared / either
    found = float((sketch(text(*changed)) == sketch(text())).mean())
    # Three standard errors of a share of 120 independent agreements.
    assert found == pytest.approx(index, abs=3 * math.sqrt(index * (1 - index) / 120))


def test_case_and_punctuation_make_no_difference():
    assert (sketch("Hello, how are you today?") == sketch("hello how are YOU today")).all()


def test_scripts_without_spaces_count_by_character():
    # Of 12 characters there are 8 runs of five; a new last character changes one: 7 of 9 are shared.
    found = float((sketch("今天的天气非常好我们去玩") == sketch("今天的天气非常好我们去吃")).mean())
    assert found == pytest.approx(7 / 9, abs=3 * math.sqrt(7 / 9 * 2 / 9 / 120))


@pytest.mark.parametrize("said", ["", "?!", "hi"])
def test_texts_shorter_than_a_run_have_sketches_too(said):
    assert (sketch(said) == sketch(said)).all()
    assert (sketch(said) != sketch("bye")).any()


def test_a_long_text_is_sketched_in_blocks_as_if_at_once(monkeypatch):
    long = " ".join(map(str, range(1000)))
    whole = sketch(long)
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    assert (sketch(long) == whole).all()


def near(*texts, most=100):
    sketches = Sketches(most)
    for row, said in enumerate(texts):
        sketches.add(row, hash(said), said)
    return sketches, sketches.groups()


def test_near_texts_are_found_among_others_and_equal_ones_are_not_counted_again():
    noise = random.Random(0)
    others = [" ".join(f"w{noise.randrange(5000)}" for _ in range(100)) for _ in range(50)]
    sketches, found = near(text(), *others, text(103), text(), text(7), text(*range(2, 100, 10)))
    assert len(sketches.rows) == 54  # 55 texts, of which one is there twice
    assert (found.count, found.surplus, found.first, found.left_out) == (1, 2, ((0, 51, 53),), 0)


def test_only_the_first_so_many_texts_are_compared():
    sketches, found = near("other words altogether here", text(), text(103), most=2)
    assert (sketches.rows, found.count) == ([0, 1], 0)
    assert near(most=0)[1].count == 0


def test_comparisons_that_are_left_out_are_counted(monkeypatch):
    rows = np.tile(np.arange(120, dtype=np.uint32), (5, 1))
    rows[:, 6:] += 1000 * np.arange(1, 6, dtype=np.uint32)[:, None]  # five texts that share one band alone
    monkeypatch.setattr(duplicates, "LEADERS", 2)
    cluster, left_out = duplicates._clusters(rows)
    assert cluster.tolist() == [0, 1, 2, 3, 4]
    assert left_out == 3  # the third, fourth and fifth among themselves


def test_equal_keys_make_groups_the_largest_first():
    keys = Keys()
    for said in ["a", "b", "a", "c", "b", "b", ("user", "c")]:
        keys.add(said)
    found = equal(keys.array())
    assert (found.count, found.surplus, found.first) == (2, 3, ((1, 4, 5), (0, 2)))
    assert equal(keys.array(), shown=1).first == ((1, 4, 5),)


def test_of_groups_as_large_the_earlier_comes_first():
    assert equal(np.array([9, 1, 9, 1])).first == ((0, 2), (1, 3))


def test_prompts_with_different_answers_are_told_from_repeated_examples():
    prompts = np.array([1, 2, 1, 2, 3, 1])
    answers = np.array([7, 8, 9, 8, 7, 7])
    found = different(prompts, answers)
    assert (found.count, found.first) == (1, ((0, 2, 5),))  # 2 is answered twice, but in the same way


def test_nothing_is_no_group():
    empty = Keys().array()
    assert equal(empty).count == different(empty, empty).count == 0
