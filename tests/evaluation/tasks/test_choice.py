"""Which option is chosen, by likelihood and by likelihood per character."""

import json

from turnsmith.evaluation.questions import Question
from turnsmith.evaluation.tasks.choice import Choice, by_length, judged, likeliest
from turnsmith.testing.tasks import subject


def test_length_is_counted_in_characters_of_the_option():
    assert by_length([-6.0, -6.0, -6.0], ["ab", "abc", "äöü"]) == [-3.0, -2.0, -2.0]


def test_of_equal_options_the_first_is_chosen():
    assert likeliest([-2.0, -1.0, -1.0]) == 1


def written(path, *rows):
    file = path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


def test_each_of_four_figures_has_its_own_choice():
    question = Question("Which?", "Question: Which?\nAnswer:", ("no", "a longer one", "yes"), 1)
    # chat: -3 is the greatest, of the first. By length: -3/2, -12/12 and -6/3, so the second.
    # text: -8, the second. By length: -9/2, -8/12 and -9/3, the second too.
    assert judged(question, [-3.0, -12.0, -6.0], [-9.0, -8.0, -9.0]) == {
        "chat": 0.0, "chat_by_length": 1.0, "text": 1.0, "text_by_length": 1.0, "chance": 1 / 3,
    }  # fmt: skip


def test_a_model_is_right_on_what_it_finds_likeliest(tmp_path):
    """The same question with each option as the right one: exactly one of them is right in each way."""
    row = {"question": "How are you?", "options": ["I am fine, thank you.", "zqx", "The cat sat."]}
    task = Choice(file=written(tmp_path, *({**row, "answer": place} for place in range(3))))
    items = task.measure(subject(), None)
    for name in ("chat", "chat_by_length", "text", "text_by_length"):
        assert sum(item.values[name] for item in items) == 1.0, name
    assert {item.values["chance"] for item in items} == {1 / 3}
    assert [item.id for item in items] == ["1", "2", "3"]


def test_the_title_says_which_file(tmp_path):
    row = {"question": "Which?", "options": ["a", "b"], "answer": 1}
    assert Choice(file=written(tmp_path, row)).title == "Multiple choice: questions.jsonl"
