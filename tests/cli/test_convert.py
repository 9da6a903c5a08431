"""`turnsmith data convert` in the terminal."""

import json

from turnsmith.cli.main import call

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "name": "Bo"}]


def test_it_says_what_was_guessed_and_why_and_what_is_lost(rows, here, capfd):
    source = rows([{"messages": CHAT}])
    assert call(["data", "convert", str(source), "out.json", "--to", "alpaca"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "read        1 rows of messages: the row has the column messages",
        "wrote       1 rows of alpaca: out.json",
        "lost in     1 of them: names of speakers",
    ]
    assert json.loads((here / "out.json").read_text()) == [
        {"id": "data-1", "instruction": "Hi", "output": "Hello"}
    ]


def test_as_json_nothing_else_is_printed(rows, here, capfd):
    assert call(["data", "convert", str(rows([{"text": "a"}])), "out.jsonl", "--to", "text", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["format"], found["to"], found["written"], found["lost"]) == ("text", "text", 1, {})


def test_what_is_there_is_not_written_over(rows, refused, here):
    (here / "out.jsonl").write_text("mine")
    said = refused("data", "convert", rows([{"text": "a"}]), "out.jsonl", "--to", "text")
    assert "out.jsonl is there already: name another file, or write over it (--force)" in said
    assert (here / "out.jsonl").read_text() == "mine"


def test_a_full_disk_is_said_and_leaves_nothing(rows, small_disk, capfd):
    source = rows([{"text": "x" * 1000}] * 200)
    assert call(["data", "convert", str(source), str(small_disk / "out.jsonl"), "--to", "text"]) == 1
    assert "the disk is full" in capfd.readouterr().err
    assert not list(small_disk.iterdir())
