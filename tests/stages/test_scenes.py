"""Drawn scenes: what is in the picture, what is said about it, and who is given another's."""

from collections import Counter

import numpy as np
import pytest

from turnsmith import album
from turnsmith.data.boxes import read
from turnsmith.errors import DataError, UsageError
from turnsmith.stages.scenes import COLOURS, NAMES, NOTHING
from turnsmith.testing import conversations, stage
from turnsmith.types import IMAGE

ALL = {"report": 1, "list": 1, "presence": 1, "grounding": 1, "detection": 1, "dialogue": 1}


def scenes(count=20, **options):
    return list(stage("scenes", {"count": count, **options})([]))


def chats(data, **tasks):
    return list(stage("scene_chats", {"tasks": tasks or ALL})(data))


def said(example):
    return [message.content for message in example.parts["text"].messages]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))


def pixels(example):
    (image,) = example.parts["text"].messages[0].images
    album.keep(image)
    return np.array(album.opened(int(image.digest[:12], 16)))


def test_each_shape_fills_its_box_and_nothing_is_drawn_elsewhere():
    for example in scenes(20, size=64):
        shown = pixels(example)
        left = (shown == shown[..., :1]).all(-1)  # grey
        for thing in example.meta["objects"]:
            x0, y0, x1, y1 = (round(64 * number) for number in thing["box"])
            colour = COLOURS[thing["name"].split()[0]]
            own = (shown[y0:y1, x0:x1] == colour).all(-1)
            assert own.any(0).all(), "no column without it"
            assert own.any(1).all(), "no row without it"
            assert own.mean() == pytest.approx(
                {"square": 1, "circle": np.pi / 4, "triangle": 0.5}[thing["name"].split()[1]], abs=0.07
            )
            left[y0:y1, x0:x1] = True
        assert left.all()


def test_scenes_have_so_many_shapes_with_names_that_differ_on_squares_of_their_own():
    found = scenes(60, least=0, most=4)
    assert {len(one.meta["objects"]) for one in found} == {0, 1, 2, 3, 4}
    for example in found:
        names = [one["name"] for one in example.meta["objects"]]
        assert len(set(names)) == len(names)
        board = np.zeros((4, 4), int)
        for thing in example.meta["objects"]:
            x0, y0, x1, y1 = (round(4 * number) for number in thing["box"])
            assert x1 - x0 == y1 - y0 <= 2
            board[y0:y1, x0:x1] += 1
        assert board.max(initial=0) <= 1


@pytest.mark.parametrize("options", [{"least": 3, "most": 2}, {"most": 5}, {"size": 30}])
def test_numbers_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match="0 <= least <= most <= 4"):
        scenes(1, **options)


def test_every_record_has_its_image_once_before_the_first_question_and_ends_on_an_answer():
    for example in chats(scenes(10)):
        messages = example.parts["text"].messages
        assert [m.role for m in messages] == ["user", "assistant"] * (len(messages) // 2)
        assert messages[0].content.startswith(f"{IMAGE}\n")
        assert [len(m.images) for m in messages] == [1] + [0] * (len(messages) - 1)
        assert sum(m.content.count(IMAGE) for m in messages) == 1


def test_answers_are_true():
    data = scenes(30)
    shown = {one.id: one.meta["objects"] for one in data}
    for example in chats(data):
        things = shown[example.id.partition("/")[0]]
        boxes = {one["name"]: tuple(one["box"]) for one in things}
        ask, answer = said(example)[0], said(example)[-1]
        match example.meta["task"]:
            case "grounding":
                (name,) = [one for one in NAMES if one in ask]
                assert read(answer) == [boxes[name]]
                assert example.meta["boxes"] == [list(boxes[name])]
            case "detection":
                assert answer == "; ".join(f"a {one} at {answer_of(box)}" for one, box in boxes.items())
            case "list":
                assert example.meta["gold"] == list(boxes)
                assert all(name in answer for name in boxes)
            case "presence":
                (name,) = [one for one in NAMES if one in ask]
                assert answer == ("yes" if name in boxes else "no")
            case "report":
                assert all(f"a {name}" in answer for name in boxes)


def answer_of(box):
    return "[" + ", ".join(f"{number:.2f}" for number in box) + "]"


def test_a_dialogue_asks_three_to_five_times_and_where_something_is():
    data = scenes(30)
    shown = {one.id: one.meta["objects"] for one in data}
    rounds = set()
    for example in chats(data, dialogue=1):
        texts = said(example)
        things = shown[example.id.partition("/")[0]]
        rounds.add(len(texts) // 2)
        assert texts[1] == ("one", "two", "three")[len(things) - 1]
        assert [list(box) for box in read(texts[3])] in [[one["box"]] for one in things]
        assert texts[2].count(IMAGE) == 0
    assert rounds == {3, 4, 5}


def test_half_of_the_findings_are_there():
    answers = Counter(said(one)[-1] for one in chats(scenes(400, size=4), presence=1))
    assert answers["yes"] == pytest.approx(200, abs=40)  # four standard deviations of 400 tosses


def test_r_times_a_task_are_exactly_r_times_its_records_in_other_words():
    data = scenes(10)
    found = chats(data, presence=1, grounding=3, detection=2, list=0)
    assert Counter(one.meta["task"] for one in found) == {"presence": 10, "grounding": 30, "detection": 20}
    for scene in data:
        asks = [said(one)[0] for one in found if one.id.startswith(f"{scene.id}/grounding")]
        stripped = {ask.replace(name, "") for ask in asks for name in NAMES if name in ask}
        assert len(stripped) == 3


def test_an_empty_scene_has_nothing_to_point_at_and_says_so():
    found = chats(scenes(3, least=0, most=0))
    assert {one.meta["task"] for one in found} == {"report", "list", "presence", "detection"}
    for example in found:
        assert said(example)[-1] in (*NOTHING, "no")
        assert example.meta.get("boxes", []) == example.meta.get("gold", ["no"])[1:] == []


@pytest.mark.parametrize("tasks", [{"repot": 1}, {"report": -1}])
def test_tasks_that_are_none_are_refused(tasks):
    with pytest.raises(UsageError, match=f"scene_chats: tasks: {next(iter(tasks))}"):
        chats(scenes(1), **tasks)


def test_what_is_no_scene_is_refused():
    with pytest.raises(DataError, match="does not say what it shows"):
        chats(conversations(1))


def test_unseen_leaves_what_was_said():
    for before, after in zip(chats(scenes(3)), stage("unseen")(chats(scenes(3))), strict=True):
        assert said(after) == [text.removeprefix(f"{IMAGE}\n") for text in said(before)]
        assert not any(message.images for message in after.parts["text"].messages)
        assert after.meta == before.meta
    plain = conversations(3)
    assert list(stage("unseen")(plain)) == plain


def test_the_mistaken_have_all_images_and_none_its_own():
    data = scenes(30)
    found = list(stage("mistaken")(data))
    ones, others = ([one.parts["text"].messages[0].images for one in each] for each in (data, found))
    assert Counter(ones) == Counter(others)
    assert not any(one == other for one, other in zip(ones, others, strict=True))
    assert [one.meta for one in data] == [one.meta for one in found]
    with pytest.raises(DataError, match="has 0 images"):
        list(stage("mistaken")(conversations(1)))
