"""Tokens on disk: equal to those in memory, whoever wrote them, and however often that was interrupted."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from turnsmith.data import archive, store
from turnsmith.data.prepare import Terms, prepare
from turnsmith.data.render import Renderer
from turnsmith.data.store import Store, sizes_of
from turnsmith.errors import DataError, StorageError
from turnsmith.testing import chat, conversations, tokenizer, variety
from turnsmith.types import Conversation, Example, Message

renderer = cache(lambda: Renderer(tokenizer()))
TEXT = Terms(parts=("text",), length=1000)


def written(path, made, terms=TEXT, **options):
    """The store of these examples, and its counts."""
    path.mkdir(exist_ok=True)
    examples = archive.write(path.with_suffix(".jsonl"), made)
    found = store.write(path, examples, renderer(), terms, **{"size": 4, "processes": 1, **options})
    return Store(path, found.kept), found.counts


def plain(examples):
    return [
        (one.id, dict(one.values), {part: [arrays(t) for t in ones] for part, ones in one.parts.items()})
        for one in examples
    ]


def arrays(tokens):
    return [one.tolist() for one in (tokens.inputs, tokens.targets, tokens.weights, tokens.turns)]


def content(path):
    """A hash of the names and bytes of all files below `path`."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return hashlib.sha256(
        b"".join(str(f.relative_to(path)).encode() + f.read_bytes() for f in files)
    ).hexdigest()


def mixed(count=11):
    """Some that are cut, some that are dropped, weights, spans and raw text among them, and two of one
    message: the first ends as the second starts, on the template's text of turn 0."""
    alone = [Example({"text": chat("a: Hello")}, {}, {"id": f"alone-{number}"}) for number in range(2)]
    long = Example({"text": chat("u: Hi", "a: " + "word " * 90)}, {}, {"id": "long"})
    spread = Example({"text": chat(*("u: One?", "a: Yes.") * 20)}, {"rating": 0.1}, {"id": "spread"})
    odd = [one for one in variety() if one.id in ("plain", "spoken", "sampled", "raw")]
    return [*conversations(count), *alone, long, *odd, spread]


TERMS = Terms(parts=("text",), length=120, over="oldest")


def in_memory(made, terms):
    options = {"length": terms.length, "over": terms.over, "train": terms.train}
    return prepare(made, renderer(), terms.parts, max_dropped=1.0, **options)


@pytest.mark.parametrize(
    ("made", "terms"),
    [
        (mixed(), TERMS),
        (conversations(9, parts=("chosen", "rejected")), Terms(parts=("chosen", "rejected"), length=999)),
        (mixed(5), Terms(parts=("text",), length=60, over="drop", train="last")),
    ],
)
def test_it_holds_what_prepare_gives(tmp_path, made, terms):
    found, counts = written(tmp_path / "tokens", made, terms)
    kept, counted = in_memory(made, terms)
    assert plain(found) == plain(kept)
    assert plain([found[i] for i in range(-len(kept), 0)]) == plain(found[:]) == plain(kept)
    assert counts == counted
    first = found[0].parts[terms.parts[0]][0]
    assert (first.inputs.dtype, first.weights.dtype, first.turns.dtype) == (np.int32, np.float32, np.int32)


def test_several_replies_stay_apart(tmp_path):
    made = [Example({"replies": (chat("u: Hi", "a: Yo"), chat("u: Hi", "a: Hello"))}, {}, {"id": "x"})]
    terms = Terms(parts=("replies",), length=99)
    assert plain(written(tmp_path / "tokens", made, terms)[0]) == plain(in_memory(made, terms)[0])


def test_sizes_are_counted_without_reading_tokens(tmp_path):
    found, _ = written(tmp_path / "tokens", mixed(), TERMS)
    kept, _ = in_memory(mixed(), TERMS)
    tokens = [sum(len(t) for ones in one.parts.values() for t in ones) for one in kept]
    trained = [sum(int((t.weights > 0).sum()) for ones in one.parts.values() for t in ones) for one in kept]
    for examples in (found, kept):
        assert [sizes.tolist() for sizes in sizes_of(examples)] == [tokens, trained]


def test_a_chunk_may_lose_all_its_examples(tmp_path):
    long = [Example({"text": chat("u: Hi", "a: " + "word " * 90)}, {}, {"id": f"l{n}"}) for n in range(4)]
    made = [*conversations(4), *long, *conversations(7)[4:]]
    found, counts = written(tmp_path / "tokens", made, Terms(parts=("text",), length=120, over="drop"))
    assert [one.id for one in found] == [f"chat-{n}" for n in range(7)]
    assert counts.total() == 4


def test_processes_write_the_same_bytes(tmp_path):
    alone, _ = written(tmp_path / "alone", mixed(40), TERMS)
    several, _ = written(tmp_path / "several", mixed(40), TERMS, processes=2)
    assert content(alone.directory) == content(several.directory)
    assert plain(alone) == plain(several)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_example_that_cannot_be_used_is_named(tmp_path, processes):
    bad = [Example({"text": Conversation((Message("user", "Hi"),))}, {}, {"id": f"bad-{n}"}) for n in (1, 2)]
    made = [*conversations(5), bad[0], *conversations(9)[5:], bad[1]]
    with pytest.raises(DataError, match="example 'bad-1' has no assistant text"):
        written(tmp_path / "tokens", made, processes=processes)


def test_what_is_there_is_not_written_again(tmp_path):
    found, _ = written(tmp_path / "tokens", conversations(10))
    before = content(found.directory)
    times = {one: one.stat().st_mtime_ns for one in found.directory.iterdir()}
    written(tmp_path / "tokens", conversations(10))
    assert content(found.directory) == before
    assert {one: one.stat().st_mtime_ns for one in found.directory.iterdir()} == times


SCRIPT = """
import sys
from pathlib import Path
from turnsmith.data import store
from turnsmith.data.archive import Archive
from turnsmith.data.prepare import Terms
from turnsmith.data.render import Renderer
from turnsmith.testing import tokenizer
path = Path(sys.argv[1])
examples, terms = Archive([path.with_suffix(".jsonl")]), Terms(parts=("text",), length=120, over="oldest")
store.write(path, examples, Renderer(tokenizer()), terms, size=20, processes=int(sys.argv[2]))
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_in_the_middle_it_goes_on_and_the_bytes_are_the_same(tmp_path, processes):
    made = mixed(3000)
    whole, _ = written(tmp_path / "whole", made, TERMS, size=20)
    killed = tmp_path / "killed"
    killed.mkdir()
    archive.write(killed.with_suffix(".jsonl"), made)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(killed), str(processes)])
    while len([one for one in killed.iterdir() if one.suffix != ".partial"]) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = {one.name: one.stat().st_mtime_ns for one in killed.iterdir() if one.suffix != ".partial"}
    assert 3 <= len(there) < len(list(whole.directory.iterdir()))
    subprocess.run([sys.executable, "-c", SCRIPT, str(killed), str(processes)], check=True)
    assert content(killed) == content(whole.directory)
    assert {name: (killed / name).stat().st_mtime_ns for name in there} == there


def test_what_is_broken_says_what_to_remove(tmp_path):
    found, _ = written(tmp_path / "tokens", conversations(3))
    os.truncate(found.directory / "000000" / "ids.npy", 10)
    with pytest.raises(StorageError, match=r"tokens on the shelf are broken .*: remove "):
        found[0]


def test_no_more_than_so_many_chunks_are_mapped(tmp_path):
    found, _ = written(tmp_path / "tokens", conversations(100), size=2)
    assert len(list(found)) == 100
    with Path("/proc/self/maps").open() as maps:
        mapped = {line.split()[-1].split("/")[-2] for line in maps if str(found.directory) in line}
    assert len(mapped) <= store.OPEN


def test_values_of_several_conversations_are_read_as_they_were_written(tmp_path):
    made = [one for one in variety() if one.id == "several"]
    found, _ = written(tmp_path / "s", made, Terms(parts=("replies",), length=1000))
    assert found[0].values == {"rating": 0.5, "reward": (1.0, 0.25)}
    assert len(found[0].parts["replies"]) == 2
