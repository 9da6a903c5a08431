"""Examples in a file: each is read for itself, and all are what was written."""

import pickle

import pytest

from turnsmith.data import archive
from turnsmith.data.archive import Archive
from turnsmith.errors import StorageError
from turnsmith.testing import conversations, jsonl, variety


def test_what_is_read_is_what_was_written(tmp_path):
    made = variety()
    found = archive.write(tmp_path / "all.jsonl", iter(made))
    assert len(found) == len(made)
    assert list(found) == [found[i] for i in range(len(made))] == found[:] == made
    assert (found[-1], found[1:3], found[::-2]) == (made[-1], made[1:3], made[::-2])


def test_the_file_has_the_lines_that_anybody_would_write(tmp_path):
    archive.write(tmp_path / "all.jsonl", variety())
    assert (tmp_path / "all.jsonl").read_bytes() == jsonl(tmp_path / "plain.jsonl", variety()).read_bytes()


def test_several_files_are_one_behind_the_other(tmp_path):
    made = conversations(7)
    archives = [
        archive.write(tmp_path / f"{n}.jsonl", ones)
        for n, ones in enumerate([made[:3], [], made[3:4], made[4:]])
    ]
    found = Archive([file for one in archives for file in one.files])
    assert list(found) == [found[i] for i in range(7)] == made
    assert list(found.between(2, 5)) == made[2:5]
    assert list(found.between(5, 99)) == made[5:]
    with pytest.raises(IndexError, match="example 7 of 7"):
        found[7]


def test_none_is_none(tmp_path):
    found = archive.write(tmp_path / "all.jsonl", [])
    assert (len(found), list(found), found[:3]) == (0, [], [])


def test_it_can_be_handed_to_another_process(tmp_path):
    found = pickle.loads(pickle.dumps(archive.write(tmp_path / "all.jsonl", conversations(3))))
    assert list(found) == conversations(3)


def test_a_write_that_ends_early_leaves_no_file_that_looks_whole(tmp_path):
    def some():
        yield from conversations(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.write(tmp_path / "all.jsonl", some())
    assert [file.name for file in tmp_path.iterdir()] == ["all.jsonl.partial"]


def test_a_missing_index_and_a_torn_line_say_what_to_do(tmp_path):
    found = archive.write(tmp_path / "all.jsonl", conversations(2))
    text = (tmp_path / "all.jsonl").read_text()
    (tmp_path / "all.jsonl").write_text(text[:-20])
    with pytest.raises(StorageError, match=r"are broken .*remove the artefact's directory and run again"):
        list(found)
    archive.index_of(tmp_path / "all.jsonl").unlink()
    with pytest.raises(StorageError, match=r"all.index.npy.*run again"):
        Archive(found.files)
