"""Artefacts: whole or not there, found by what they were made from, safe from kills and full disks."""

import json
import platform
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest

from turnsmith.errors import StorageError
from turnsmith.shelf import Shelf, digest, file_digest, put, write_text, writing


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "shelf")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


# ----------------------------------------------------------------------------------------------- digests


def test_the_order_of_keys_does_not_matter():
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_everything_else_does():
    parts = [(1,), (1.5,), ("1",), (True,), (None,), ([1],), ({"a": 1},), (1, 2), (2, 1), ([1, 2],), ()]
    assert len({digest(*one) for one in parts}) == len(parts)


def test_tuples_are_lists():
    assert digest((1, 2)) == digest([1, 2])


def test_a_digest_is_a_name_for_a_directory():
    assert len(digest("é")) == 20
    assert digest("é").isalnum()


def test_a_file_is_known_by_its_bytes(tmp_path):
    (tmp_path / "x").write_text("abc")  # sha256 of "abc": FIPS 180-2, appendix B.1
    assert file_digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# ----------------------------------------------------------------------------------------------- making


def test_an_artefact_is_there_when_it_is_finished(shelf):
    with shelf.making("key") as directory:
        (directory / "data").write_text("x")
        assert not shelf.ready("key")
        assert shelf.finish("key", {"kind": "data"}) == shelf.path("key")
    assert shelf.ready("key")
    assert shelf.record("key") == {"kind": "data"}
    assert (shelf.path("key") / "data").read_text() == "x"
    assert names(shelf.root) == ["key"]


def test_what_a_failed_attempt_left_is_still_there(shelf):
    with suppress(KeyboardInterrupt), shelf.making("key") as directory:
        (directory / "half").write_text("x")
        raise KeyboardInterrupt
    assert not shelf.ready("key")
    with shelf.making("key") as directory:
        assert (directory / "half").read_text() == "x"


def test_what_a_kill_tore_is_no_part_of_the_artefact(shelf):
    with suppress(KeyboardInterrupt), shelf.making("key") as directory:
        (directory / "turnsmith.json.7.partial").write_text("{")
        raise KeyboardInterrupt
    with shelf.making("key"):
        shelf.finish("key", {})
    assert names(shelf.path("key")) == ["turnsmith.json"]


def test_finishing_twice_keeps_the_first(shelf):
    for number in (1, 2):
        with shelf.making("key"):
            shelf.finish("key", {"number": number})
    assert shelf.record("key") == {"number": 1}
    assert names(shelf.root) == ["key"]


def test_a_broken_record_is_named_with_the_way_out(shelf):
    with shelf.making("key"):
        shelf.finish("key", {})
    (shelf.path("key") / "turnsmith.json").write_text("{")
    with pytest.raises(StorageError, match=r"artefact .*key is broken .*: remove it and run again"):
        shelf.record("key")
    with pytest.raises(StorageError, match="is broken"):
        shelf.record("other")


# ----------------------------------------------------------------------------------------- two processes

WORKER = """
import sys, time
from pathlib import Path
from turnsmith.shelf import Shelf
shelf, name = Shelf(Path(sys.argv[1])), sys.argv[2]
with shelf.making("key") as directory:
    if shelf.ready("key"):
        print("found")
        raise SystemExit
    (directory / "begun").touch()
    print("made", flush=True)
    sys.stdin.readline()
    (directory / "by").write_text(name)
    shelf.finish("key", {})
"""


def worker(shelf, name):
    command = [sys.executable, "-c", WORKER, str(shelf.root), name]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def waiting(process):
    """What a process says on stderr when it waits."""
    return process.stderr.readline()


def test_a_second_process_waits_and_finds_what_the_first_made(shelf):
    first = worker(shelf, "first")
    assert first.stdout.readline() == "made\n"
    second = worker(shelf, "second")
    assert waiting(second) == f"process {first.pid} on {platform.node()} is making key: waiting for it\n"
    assert not shelf.ready("key")
    first.communicate("go\n")
    assert second.communicate("go\n")[0] == "found\n"
    assert (shelf.path("key") / "by").read_text() == "first"
    assert names(shelf.root) == ["key"]


def test_who_waited_does_not_work_beside_who_came_later(shelf):
    with shelf.making("key"):
        waited = worker(shelf, "waited")
        waiting(waited)
        (shelf.root / "key.lock").unlink()  # as whoever finishes does
    assert waited.stdout.readline() == "made\n"
    later = worker(shelf, "later")
    assert "waiting for it" in waiting(later)
    waited.communicate("go\n")
    assert later.communicate("go\n")[0] == "found\n"


def test_a_process_that_was_killed_gives_its_place_to_the_next(shelf):
    first = worker(shelf, "first")
    assert first.stdout.readline() == "made\n"
    second = worker(shelf, "second")
    waiting(second)
    first.kill()
    first.communicate()
    assert second.stdout.readline() == "made\n"
    third = worker(shelf, "third")
    assert waiting(third) == f"process {second.pid} on {platform.node()} is making key: waiting for it\n"
    second.communicate("go\n")
    assert (shelf.path("key") / "begun").exists()
    assert (shelf.path("key") / "by").read_text() == "second"
    assert third.communicate("go\n")[0] == "found\n"


# ----------------------------------------------------------------------------------------- writing text


def test_text_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_text(path, "one")
    write_text(path, "zwei é")
    assert path.read_text("utf-8") == "zwei é"
    assert names(path.parent) == ["x.json"]


def test_a_reader_sees_the_old_or_the_new_text_never_half_of_one(tmp_path):
    path = tmp_path / "x"
    write_text(path, "a" * 200_000)
    code = (
        "import sys\nfrom pathlib import Path\nfrom turnsmith.shelf import write_text\n"
        "for i in range(60):\n    write_text(Path(sys.argv[1]), 'ba'[i % 2] * 200_000)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    seen = set()
    while writer.poll() is None:
        text = path.read_text()
        seen.add((text[:1], len(text), len(set(text))))
    assert writer.returncode == 0
    assert seen <= {("a", 200_000, 1), ("b", 200_000, 1)}


def made(directory, content):
    directory.mkdir()
    (directory / "x").write_text(content)
    return directory


def test_a_directory_gets_its_name_unless_another_came_first(tmp_path):
    final = tmp_path / "final"
    put(made(tmp_path / "one", "1"), final)
    put(made(tmp_path / "two", "2"), final)
    assert names(tmp_path) == ["final"]
    assert (final / "x").read_text() == "1"


def test_a_name_that_a_file_has_is_an_error(tmp_path):
    (tmp_path / "final").write_text("")
    with pytest.raises(NotADirectoryError):
        put(made(tmp_path / "one", "1"), tmp_path / "final")
    assert names(tmp_path) == ["final", "one"]


# ---------------------------------------------------------------------------------- a disk that says no


@contextmanager
def mounted(where, options):
    """A small file system of its own; the test is skipped where one cannot be mounted."""
    where.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def test_a_full_disk_is_told_with_the_place_and_keeps_the_old_text(tmp_path):
    with mounted(tmp_path / "small", "size=64k") as small:
        write_text(small / "x", "old")
        with pytest.raises(
            StorageError, match=r"the disk is full: .*small/x could not be written. Free some space"
        ):
            write_text(small / "x", "y" * 200_000)
        assert (small / "x").read_text() == "old"
        assert names(small) == ["x"]
        with pytest.raises(StorageError, match="the disk is full"), Shelf(small).making("key") as directory:
            (directory / "big").write_bytes(b"z" * 200_000)


def test_a_read_only_disk_is_told_with_the_way_out(tmp_path):
    with mounted(tmp_path / "fixed", "ro") as fixed:
        with pytest.raises(StorageError, match=r"fixed/x cannot be written .*: choose another directory"):
            write_text(fixed / "x", "y")
        with (
            pytest.raises(StorageError, match="choose another directory"),
            Shelf(fixed / "shelf").making("key"),
        ):
            pass


def test_a_limit_on_the_size_of_files_is_told_as_a_full_disk(tmp_path):
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom turnsmith.shelf import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(Path(sys.argv[1]), 'y' * 5000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x"], capture_output=True, text=True, check=False
    )
    assert "StorageError: the disk is full" in done.stderr
    assert names(tmp_path) == []


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path):
        (tmp_path / "nothing").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "file" / "x", "y")


def test_records_hold_what_json_can_and_tuples_as_lists(shelf):
    with shelf.making("key"):
        shelf.finish("key", {"a": [1, None, "é"], "b": (1, 2)})
    raw = (shelf.path("key") / "turnsmith.json").read_text("utf-8")
    assert json.loads(raw) == {"a": [1, None, "é"], "b": [1, 2]}
    assert "é" in raw
