"""Word problems: what is right, what has no answer, what was cut off."""

import json

import pytest

from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.maths import Maths
from turnsmith.models.score import Scoring
from turnsmith.testing import model, tokenizer
from turnsmith.types import Message, Reply, Usage

EGGS = {"question": "16 eggs, 3 eaten, 4 baked, the rest sold at $2?", "answer": "16-7=9, 9*2=18\n#### 18"}


def written(path, *rows):
    file = path / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


def subject(*said):
    """The tiny model, whose chat gives these replies in turn: text, and whether it ended by itself."""
    asked = []

    def chat(conversations, *, sampling=None, seed=0):
        asked.extend((one.messages[-1].content, sampling) for one in conversations)
        return [
            Reply(Message("assistant", text), "stop" if end else "length", Usage(1, 1)) for text, end in said
        ]

    return Subject("tiny", Scoring(model()).eval(), Renderer(tokenizer()), chat, pad), asked


def values(path, *said):
    measured, _ = subject(*said)
    task = Maths(file=written(path, *[EGGS] * len(said)))
    return [
        tuple(item.values[name] for name in ("right", "none", "cut")) for item in task.measure(measured, None)
    ]


def test_a_reply_is_right_by_its_number_and_what_is_cut_or_none_is_counted(tmp_path):
    said = [
        ("9 * 2 = 18", True),
        ("#### $18.00", True),
        ("18 of 20", True),
        ("She sells them.", True),
        ("She has 16 - 3 - 4 = 9 eggs, which she", False),
        ("so 18", False),
        ("", False),
    ]
    assert values(tmp_path, *said) == [
        (1, 0, 0), (1, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1),
    ]  # fmt: skip


def test_numbers_of_the_problem_are_never_the_answer(tmp_path):
    row = {"question": "Is it 18?", "answer": "#### 18"}
    measured, _ = subject(("Yes, it is.", True))
    (item,) = Maths(file=written(tmp_path, row)).measure(measured, None)
    assert (item.values["right"], item.values["none"]) == (0.0, 1.0)


def test_the_chat_is_asked_the_problem_and_how_to_end_greedily(tmp_path):
    measured, asked = subject(("18", True))
    Maths(file=written(tmp_path, EGGS), ask="End on a number.", max_new=5).measure(measured, None)
    ((text, sampling),) = asked
    assert text == EGGS["question"] + "\n\nEnd on a number."
    assert (sampling.temperature, sampling.max_new) == (0.0, 5)
    measured, asked = subject(("18", True))
    Maths(file=written(tmp_path, EGGS), ask="").measure(measured, None)
    assert asked[0][0] == EGGS["question"]


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ({"query": "6 * 7?", "response": "6 * 7 = 42\n#### 42"}, "42"),
        ({"source": ["6 * 7?"], "target": ["#### 42"]}, "42"),
        ({"problem": "Half of 1?", "solution": r"It is $\boxed{\frac{1}{2}}$."}, "1/2"),
    ],
)
def test_the_published_keys(tmp_path, row, right):
    measured, _ = subject(("none", True))
    (item,) = Maths(file=written(tmp_path, row)).measure(measured, None)
    assert item.shown["reference"] == right


def test_an_answer_without_a_number_stops_with_its_place(tmp_path):
    with pytest.raises(DataError, match=r"problems\.jsonl, line 2: 'answer' holds no number: 'many'"):
        Maths(file=written(tmp_path, EGGS, {**EGGS, "answer": "many"}))
    with pytest.raises(DataError, match=r"line 1: 'answer' is 18, and must be a text"):
        Maths(file=written(tmp_path, {**EGGS, "answer": 18}))
    with pytest.raises(
        DataError, match=r"line 1: no problems are known with the keys text; known are question"
    ):
        Maths(file=written(tmp_path, {"text": "1"}))


@pytest.mark.shared
@pytest.mark.parametrize(("file", "count"), [("gsm8k_test.jsonl", 1319), ("gsm8k_train.jsonl", 2156)])
def test_all_of_gsm8k_has_answers_behind_its_mark(shared, file, count):
    task = Maths(file=str(shared / "data" / "gsm8k" / file))
    assert len(task.problems) == count
    assert all(right.denominator == 1 for _, right in task.problems)
