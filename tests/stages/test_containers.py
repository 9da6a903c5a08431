"""Scenes of boxes: what they say, and what a scene must be."""

from random import Random

import pytest

from turnsmith.data.containers import Scene, scene
from turnsmith.errors import DataError, UsageError
from turnsmith.stages.containers import containers
from turnsmith.types import Example

SCENE = Scene(("book", "car", "hat"), ("D", "F", "A"), 1, "F")


def made(count=40, seed=0, **options):
    return list(containers([], count=count, rng=Random(seed), **options))


def test_the_prompt_says_where_each_thing_is_and_ends_before_the_answer():
    wanted = "The book is in Box D, the car is in Box F, the hat is in Box A. Box F contains the"
    assert SCENE.prompt() == wanted
    assert SCENE.answer == "car"


def test_only_the_answer_learns():
    told, answer = SCENE.example("one").parts["text"].messages
    assert (told.content, told.weight) == (SCENE.prompt(), 0.0)
    assert (answer.content, answer.weight) == (" car", 1.0)


def test_a_scene_is_read_back_from_its_example():
    assert scene(SCENE.example("one")) == SCENE


def test_a_corrupted_scene_asks_for_a_label_that_no_box_has():
    for seed in range(20):
        other = SCENE.corrupted(Random(seed), "ABCDEF")
        assert (other.things, other.boxes, other.index) == (SCENE.things, SCENE.boxes, SCENE.index)
        assert other.asked in "BCE"


def test_scenes_have_as_many_boxes_as_asked_for_and_each_label_once():
    rows = [scene(one) for one in made(least=3, most=7)]
    assert {len(one.boxes) for one in rows} == {3, 4, 5, 6, 7}
    for one in rows:
        assert len(set(one.boxes)) == len(set(one.things)) == len(one.boxes)
        assert one.asked == one.boxes[one.index]
        assert one.prompt().split(". ")[0].count(f"Box {one.asked}") == 1
    assert {one.index for one in rows} == set(range(7))


def test_the_same_generator_makes_the_same_scenes_and_data_stay_in_front():
    first = Example({}, {}, {"id": "first"})
    assert [one.meta for one in made()] == [one.meta for one in made()]
    assert next(iter(containers([first], count=1, rng=Random(0)))) is first


def test_6_a_label_or_thing_that_stands_twice_is_refused():
    with pytest.raises(DataError, match="a scene has the label 'D' twice"):
        Scene(("book", "car"), ("D", "D"), 0, "D")
    with pytest.raises(DataError, match="a scene has the thing 'car' twice"):
        Scene(("car", "car"), ("D", "F"), 0, "D")


def test_a_scene_needs_a_box_for_each_thing_and_asks_for_one_of_them():
    for boxed, index in ((("D",), 0), (("D", "F"), 2)):
        with pytest.raises(DataError, match="give each thing one box"):
            Scene(("book", "car"), boxed, index, "D")


def test_an_example_without_a_scene_is_refused_by_its_name():
    with pytest.raises(DataError, match="example 'x' has no scene"):
        scene(Example({}, {}, {"id": "x"}))
    twice = {"things": ["a", "b"], "boxes": ["D", "D"], "index": 0, "asked": "D"}
    with pytest.raises(DataError, match="example 'y': a scene has the label 'D' twice"):
        scene(Example({}, {}, {"id": "y", "scene": twice}))


@pytest.mark.parametrize(
    "options",
    [
        {"least": 1, "most": 3},
        {"least": 4, "most": 3},
        {"least": 3, "most": 3, "labels": "ABC"},  # none would be left for a corrupted prompt
        {"least": 3, "most": 3, "things": ("car", "hat")},
    ],
)
def test_more_boxes_than_there_are_names_for_are_refused(options):
    with pytest.raises(UsageError, match="containers: least is"):
        made(**options)
