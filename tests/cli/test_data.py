"""`turnsmith data`: the group and its default, what is printed, and what is refused."""

import json
import subprocess
import sys
import time

import pytest

from turnsmith.cli.main import call
from turnsmith.data.formats import to_row
from turnsmith.testing import directory
from turnsmith.types import Conversation, Example, Message, Span

CHATS = [
    {
        "id": f"c{n}",
        "messages": [
            {"role": "user", "content": f"How are you, number {n}?"},
            {"role": "assistant", "content": f"Number {n} is fine.", "weight": 0.5},
        ],
    }
    for n in range(5)
]
CALLING = {
    "id": "calling",
    "messages": [
        {"role": "user", "content": "1 + 1?"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "A sum.",
            "tool_calls": [{"id": "x1", "function": {"name": "add", "arguments": {"a": 1, "b": 1}}}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "x1"},
        {"role": "assistant", "content": "Two."},
    ],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
    "topic": "sums",
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache: no model is there to count tokens with."""
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))


@pytest.fixture
def said(here, capfd):
    """Runs a command that must succeed; gives what it prints."""

    def run(*arguments):
        assert call(["data", *map(str, arguments)]) == 0
        return capfd.readouterr().out

    return run


def test_a_file_alone_is_described(said, rows):
    path = rows(CHATS)
    assert said(path) == said("describe", path)
    given = said("describe", path, "--format", "messages")
    assert said("--format", "messages", path) == given
    assert given.splitlines()[1] == "format        messages, as was said"


def test_what_is_printed(said, rows):
    text = said(rows([*CHATS, {**CHATS[0], "id": "again"}]))
    for line in (
        "format        messages, guessed: all 6 rows that were looked at have the column messages",
        "rows          6",
        "roles         user 6, assistant 6",
        "tokens        not counted: name a model with --model, and --sample above 0",
        "languages     en 100.0% (6 of 6 conversations)",
        "duplicates    1 examples repeat an earlier one",
        "              2 x 'How are you, number 0? Number 0 is fine.'  [c0, again]",
        "suspicious    nothing was found",
        "personal      no links, e-mail addresses, phone or card numbers",
        "first example, text:",
        "  user: How are you, number 0?",
    ):
        assert line in text.splitlines()


def test_tokens_are_counted_where_a_model_is_named(said, rows, tmp_path):
    text = said(rows(CHATS), "--model", directory(tmp_path / "model"), "--sample", 2)
    assert "(2 of 5 conversations, by " in text
    assert "0 over 1,024, 0 over 2,048, 0 over 4,096, 0 over 8,192" in text


def test_a_conversation_is_shown_with_calls_thoughts_and_weights(said, rows):
    assert said("show", rows([*CHATS, CALLING]), "calling") == (
        'example calling\ntopic: "sums"\n-- text\ntools: add\nuser:\n  1 + 1?\nassistant:\n  thinks: A sum.\n'
        '  calls add({"a": 1, "b": 1}) as x1\ntool (answers x1):\n  2\nassistant:\n  Two.\n\n'
    )
    assert "assistant (weight 0.5):\n  Number 3 is fine.\n" in said(
        "show", rows(CHATS), "--where", "number 3"
    )


def test_spans_are_shown_with_their_words(said, rows):
    answer = Message("assistant", "Well, yes.", spans=(Span(0, 4, 0.0),))
    row = to_row(Example({"text": Conversation((Message("user", "Is it?"), answer))}, meta={"id": "x"}))
    assert "weight 0 on characters 0:4: 'Well'" in said("show", rows([row]))


def test_what_is_shown_cannot_steer_the_terminal(said, rows):
    row = {"messages": [{"role": "user", "content": "\x1b[2Jgone"}, {"role": "assistant", "content": "\x07"}]}
    for text in (said("show", rows([row])), said(rows([row]))):
        assert "\u241b[2Jgone" in text
        assert not {"\x1b", "\x07"} & set(text)


def test_as_json_the_rows_are_those_that_the_format_turnsmith_reads(said, rows, tmp_path):
    text = said("show", rows([CALLING]), "--json")
    (row,) = json.loads(text)
    assert row["parts"]["text"]["messages"][1]["thinking"] == "A sum."
    (tmp_path / "again.json").write_text(text)
    assert said("show", tmp_path / "again.json", "--json") == text


def test_a_file_is_split_and_the_parts_are_counted(said, rows, here):
    text = said("split", rows(CHATS), "--into", "train=0.8, test=0.2", "--out", "out")
    assert text == (
        "train       4 examples with 4 values of id  out/train.jsonl\n"
        "test        1 examples with 1 values of id  out/test.jsonl\n"
    )
    assert len((here / "out" / "train.jsonl").read_text().splitlines()) == 4


def test_bad_rows_are_told_with_their_number_and_file(said, rows, here):
    path = rows(CHATS)
    path.write_text(path.read_text() + "{broken\n")
    text = said(path, "--bad-rows", "quarantine")
    assert "              1 bad row: no JSON (" in text
    assert "              bad rows: data.bad-rows.jsonl" in text
    assert json.loads((here / "data.bad-rows.jsonl").read_text())["line"] == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.jsonl"], "no data at 'nowhere.jsonl'"),
        (["show", "FILE", "nobody"], "has no example 'nobody'; its ids are like 'c0', 'c1', 'c2'"),
        (["show", "FILE", "--where", "nobody"], "no example was found from number 1 on that says 'nobody'"),
        (["split", "FILE", "--into", "train", "--out", "x"], "--into train: write it as NAME=SHARE,..."),
        (["split", "FILE", "--into", "a=1,a=1", "--out", "x"], "--into a=1,a=1: write it as NAME=SHARE"),
        (["split", "FILE", "--into", "../a=1", "--out", "x"], "--into ../a=1: write it as NAME=SHARE"),
        (["split", "FILE", "--into", "a=0", "--out", "x"], "--into a=0: write it as NAME=SHARE"),
        (["split", "FILE", "--out", "x"], "Missing option '--into'"),
        (
            ["split", "FILE", "--into", "a=1,b=1", "--out", "x", "--by", "people"],
            "example 'c0' has no 'people' to split by; it has id",
        ),
        (["FILE", "--bad-rows-to", "x.jsonl"], "only where they do not stop: --bad-rows quarantine"),
        (["FILE", "--near", "-1"], "sample and near must be at least 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(refused, rows, arguments, words):
    path = str(rows(CHATS))
    assert words in refused("data", *[path if word == "FILE" else word for word in arguments])


@pytest.mark.parametrize("verb", [[], ["describe"], ["show"], ["split"]])
def test_help_is_quick_and_names_what_can_be_done(verb):
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "turnsmith", "data", *verb, "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (
        time.perf_counter() - started < 5
    )  # a bound for a busy machine; that nothing heavy is imported counts
    assert not {"torch", "numpy", "transformers", "pyarrow"} & {
        line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()
    }
    if not verb:
        assert all(f"\n  {name} " in done.stdout for name in ("describe", "show", "split"))


def test_an_image_is_shown_as_one(said, rows, here):
    from PIL import Image

    Image.new("RGB", (8, 8), (200, 30, 30)).save(here / "red.png")
    turns = [{"from": "human", "value": "<image>\nWhich colour?"}, {"from": "gpt", "value": "Red."}]
    text = said(rows([{"image": str(here / "red.png"), "conversations": turns}]))
    assert "format        llava" in text
    assert "user: [image]\nWhich colour?" in text
