"""Published formats of questions with options, and what is wrong with rows of them."""

import json

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.evaluation.questions import questions

PLAIN = {"question": "What is wet?", "options": ["sand", "water", "chalk"], "answer": 1}
TEXTS = ["sand", "water", "chalk", "salt"]
CHOICES = [{"text": said, "label": letter} for said, letter in zip(TEXTS, "ABCD", strict=True)]
ARC = {"id": "M_1", "question": {"stem": "What is wet?", "choices": CHOICES}, "answerKey": "B"}
HUB = {
    "question": "What is wet?",
    "choices": {"text": TEXTS, "label": ["1", "2", "3", "4"]},
    "answerKey": "2",
}
OPENBOOK = {"question_stem": "What is wet?", "choices": HUB["choices"], "answerKey": "2"}
MMLU = {"question": "What is wet?", "choices": TEXTS, "answer": 1, "subject": "nature"}
TABLE = {"question": "What is wet?", **dict(zip("ABCD", TEXTS, strict=True)), "answer": "B"}
INSTRUCTION = {
    "instruction": "What is wet?\n\nAnswer1: sand Answer2: water\n\nAnswer format: answer1/answer2",
    "input": "",
    "output": "the correct answer is answer2",
    "answer": "answer2",
}


def written(path, *rows):
    file = path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


@pytest.mark.parametrize("row", [PLAIN, ARC, HUB, OPENBOOK, MMLU, TABLE])
def test_every_form_of_a_question_is_read_as_the_same(tmp_path, row):
    (one,) = questions(written(tmp_path, row))
    assert (one.prompt, one.text) == ("What is wet?", "Question: What is wet?\nAnswer:")
    assert one.options[:3] == ("sand", "water", "chalk")
    assert one.answer == 1


def test_mmlu_as_published_is_a_table_without_a_header(tmp_path):
    file = tmp_path / "nature_test.csv"
    file.write_text('"Which, if any, is\nwet?",sand,water,chalk,salt,B\nWhat is dry?,sand,sea,lake,rain,A\n')
    first, second = questions(str(file))
    assert first.prompt == "Which, if any, is\nwet?"
    assert (first.options, first.answer) == (tuple(TEXTS), 1)
    assert second.answer == 0


def test_a_row_of_mmlu_with_another_number_of_cells_is_named_by_its_line(tmp_path):
    file = tmp_path / "nature_test.csv"
    file.write_text("One\n".replace("One", "Wet?,sand,water,chalk,salt,B") + "Dry?,sand,A\n")
    with pytest.raises(DataError, match=r"nature_test\.csv, line 2: 3 cells, and MMLU has 6"):
        questions(str(file))


def test_hellaswag_loses_the_marks_of_wikihow(tmp_path):
    row = {
        "ind": 4, "activity_label": "Knots", "ctx_a": "Take a rope. [header] Tie it.", "ctx_b": "then", "ctx":
        "Take a rope. [header] Tie it. then", "endings": ["pull [substeps] it.", "eat it."], "label": "0",
    }  # fmt: skip
    (one,) = questions(written(tmp_path, row))
    assert one.text == "Knots: Take a rope. Tie it. Then"
    assert one.options == ("pull it.", "eat it.")
    assert one.answer == 0


def test_the_instruction_form_has_the_replies_that_its_data_teach_as_options(tmp_path):
    (one,) = questions(written(tmp_path, INSTRUCTION))
    assert one.options == ("the correct answer is answer1", "the correct answer is answer2")
    assert one.answer == 1
    assert one.prompt == INSTRUCTION["instruction"]


def test_truthfulqa_sets_its_best_answer_against_all_incorrect_ones(tmp_path):
    file = tmp_path / "truthful.csv"
    file.write_text(
        "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        'A,Law,Can pigs fly?,"No, they cannot","No, they cannot; No","Yes; Yes, they can;",x\n'
    )
    (one,) = questions(str(file))
    assert one.options == ("No, they cannot", "Yes", "Yes, they can")
    assert one.answer == 0


@pytest.mark.parametrize(
    ("row", "key", "value", "said"),
    [
        (PLAIN, "answer", 3, "'answer' is 3, and must be the place of one of 3 options, from 0 to 2"),
        (PLAIN, "answer", -1, "'answer' is -1, .* from 0 to 2"),
        (PLAIN, "answer", "1", "'answer' is '1', .* from 0 to 2"),
        (PLAIN, "answer", True, "'answer' is True, .* from 0 to 2"),
        (PLAIN, "answer", None, "'answer' is None, .* from 0 to 2"),
        (PLAIN, "answer", 1.0, r"'answer' is 1\.0, .* from 0 to 2"),
        (PLAIN, "options", ["sand"], r"'options' is \['sand'\], and must be a list of at least two"),
        (PLAIN, "options", ["sand", " "], r"'options\.1' is ' ', and must be a text that is not empty"),
        (PLAIN, "question", "", "'question' is '', and must be a text that is not empty"),
        (ARC, "answerKey", "E", "'answerKey' is 'E', and must be one of 'A', 'B', 'C', 'D'"),
        (HUB, "answerKey", 2, "'answerKey' is 2, and must be one of '1', '2', '3', '4'"),
        (TABLE, "answer", "b", "'answer' is 'b', and must be one of 'A', 'B', 'C', 'D'"),
        (INSTRUCTION, "answer", "answer3", "'answer' is 'answer3', and must be one of 'answer1', 'answer2'"),
        (INSTRUCTION, "instruction", "Which?", "does not end on 'Answer format: one/other'"),
        (INSTRUCTION, "output", "it is answer1", "does not end on the answer 'answer2'"),
        (HUB, "choices", {"text": TEXTS, "label": ["1"]}, "do not name each of 4 choices"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_file_and_line(tmp_path, row, key, value, said):
    with pytest.raises(DataError, match=rf"questions\.jsonl, line 2: .*{said}"):
        questions(written(tmp_path, row, {**row, key: value}))


def test_rows_of_an_unknown_form_are_told_what_is_known(tmp_path):
    with pytest.raises(
        DataError, match=r"line 1: no questions are known with the keys text, label; known are"
    ):
        questions(written(tmp_path, {"text": "a", "label": 1}))


def test_count_takes_the_first_and_no_fewer_than_one(tmp_path):
    file = written(tmp_path, PLAIN, {**PLAIN, "answer": 9})
    assert len(questions(file, 1)) == 1
    with pytest.raises(UsageError, match="count is 0: a task needs at least one item"):
        questions(file, 0)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "count", "options"),
    [
        ("multiple_choice/ARC-Challenge_test.json", 920, {3, 4, 5}),
        ("multiple_choice/ARC-Easy_test.json", 960, {3, 4, 5}),
        ("multiple_choice/boolq_test.json", 1931, {2}),
        ("multiple_choice/social_i_qa_test.json", 1096, {3}),
        ("truthfulqa/fold_0_test_seed_42.csv", 409, set(range(2, 20))),
    ],
)
def test_published_files_are_read_whole(shared, file, count, options):
    found = questions(str(shared / "data" / file))
    assert len(found) == count
    assert {len(one.options) for one in found} <= options
