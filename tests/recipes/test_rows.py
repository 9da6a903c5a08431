"""Examples that take more than a row are spoken of before the first step, once, and train all the same."""

import numpy as np

import turnsmith
from turnsmith.data.batch import pack, pad
from turnsmith.recipes.rows import over_the_row
from turnsmith.testing import chat, directory, jsonl, tokens
from turnsmith.types import Example, Rendered

PROMPT = list(range(10, 30))


def tree(name, *answers):
    """A prompt of 20 tokens and answers of so many."""
    return Rendered(
        name, {"text": tuple(tokens([*PROMPT, *([40 + i] * n)], n) for i, n in enumerate(answers))}
    )


def said(examples, row, *, layout=pack, per="token", seen=None):
    return list(over_the_row(examples, np.arange(len(examples)) if seen is None else seen, row, layout, per))


def test_nothing_is_said_of_what_fits_when_its_prefix_is_laid_down_once():
    assert said([tree("fits", 4, 4, 4)], 32) == []


def test_a_tree_over_the_row_is_cut_where_the_loss_is_of_tokens():
    (cut,) = said([tree("fits", 4), tree("big", 4, 4, 5)], 32)
    assert cut == (
        "cut: 1 example over the row of 32 tokens, up to 33, between whole conversations; each row repeats "
        "their prefix, which a larger fit.row would compute once"
    )


def test_a_tree_over_the_row_stays_whole_where_the_loss_is_of_examples():
    (longer,) = said([tree("a", 4, 4, 5), tree("b", 4, 9, 9)], 32, per="example")
    assert longer == (
        "longer rows: 2 examples over the row of 32 tokens, up to 42; each runs alone in a row of its own "
        "length, and memory grows with it"
    )


def test_a_conversation_over_the_row_is_never_cut():
    """Of a tree, too: the answer of 15 makes a conversation of 35 tokens."""
    cut, longer = said([tree("both", 3, 15)], 32)
    assert "1 example over the row of 32 tokens, up to 38," in cut
    assert "longer rows: 1 example over the row of 32 tokens, up to 35;" in longer


def test_padded_rows_share_nothing():
    assert said([tree("fits", 4, 4)], 28) == []
    (cut,) = said([tree("fits", 4, 4)], 28, layout=pad)
    assert "up to 48" in cut


def test_what_the_run_will_not_see_is_not_spoken_of():
    assert said([tree("fits", 4), tree("big", 40)], 32, seen=np.array([0])) == []


def test_a_run_says_it_once_on_the_terminal_and_in_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    base = directory(tmp_path / "model")
    long = chat("u: Tell me a story about the sea", "a: " + "The cat sat on the mat. " * 4)
    jsonl(tmp_path / "chats.jsonl", [Example({"text": long}, meta={"id": str(i)}) for i in range(4)])
    fit = {"steps": 2, "batch": 2, "row": 32, "length": 128, "dtype": "float32"}
    train = {"name": "tuned", "data": "train", "trainable": {"lora": {"rank": 2}}, "fit": fit}
    steps = [{"data": {"name": "train", "read": "chats.jsonl"}}, {"train": train}]
    plain = {"title": "Mine", "base": str(base), "forgetting": False, "steps": steps}
    lines = []
    (found,) = turnsmith.run(plain, name="mine", say=lines.append)
    (warning,) = [one for one in found["warnings"] if "longer rows" in one]
    assert warning.startswith("longer rows: 4 examples over the row of 32 tokens, up to ")
    assert [line.strip() for line in lines if "longer rows" in line] == [warning]
