"""A large file read by several processes is what one process reads, whatever is wrong with its rows."""

import json
from collections import Counter

import pytest

import turnsmith
from turnsmith.data import archive, formats, shares
from turnsmith.data.lines import runs_of_lines
from turnsmith.data.quarantine import Quarantine
from turnsmith.data.split import Keys
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.testing import directory


def row(number, **more):
    said = [
        {"role": "user", "content": f"é {number}"},
        {"role": "assistant", "content": "Yes." * (number % 7)},
    ]
    return json.dumps({"messages": said, "person": f"p{number % 3}", **more}, ensure_ascii=False)


def file(tmp_path, rows):
    path = tmp_path / "chats.jsonl"
    path.write_bytes("\n".join(rows).encode())
    return path


def shared(tmp_path, path, bad=None, keys=None, processes=1):
    counts = Counter()
    place = tmp_path / "made"
    place.mkdir(exist_ok=True)
    made = shares.write(
        path, place / "all.jsonl", "messages", Registry(), counts, bad, keys, size=400, processes=processes
    )
    return list(made), counts


def alone(path, bad=None):
    return list(formats.stream(path, "messages", Registry(), Counter(), bad)[1])


def test_runs_hold_every_line_once(tmp_path):
    path = file(tmp_path, [row(n) for n in range(20)])
    content = path.read_bytes()
    runs = runs_of_lines(path, 400)
    assert len(runs) > 3
    assert b"".join(content[start:stop] for start, stop, _ in runs) == content
    for start, _, number in runs:
        assert content[:start].count(b"\n") == number - 1


@pytest.mark.parametrize("processes", [1, 2])
def test_the_examples_are_those_that_one_process_reads(tmp_path, processes):
    path = file(tmp_path, ["", *(row(n) for n in range(20)), "", row(20, id="mine")])
    found, counts = shared(tmp_path, path, processes=processes)
    assert found == alone(path)
    assert [one.id for one in found[:2]] == ["chats-2", "chats-3"]
    assert found[-1].id == "mine"
    assert not counts
    assert not (tmp_path / "made" / "shares").exists()


def test_a_bad_row_is_named_by_its_line_in_the_file(tmp_path):
    path = file(tmp_path, [*(row(n) for n in range(15)), "{broken"])
    with pytest.raises(DataError, match=r"chats.jsonl, line 16: no JSON"):
        shared(tmp_path, path)


def test_the_same_id_in_two_shares_is_an_error_that_names_the_later_line(tmp_path):
    path = file(tmp_path, [row(0, id="a"), *(row(n) for n in range(1, 15)), row(15, id="a")])
    with pytest.raises(DataError, match=r"line 16.*an earlier row has the id 'a' too"):
        shared(tmp_path, path)


def test_a_quarantine_holds_the_bad_rows_of_all_shares(tmp_path):
    rows = [row(0, id="a"), "{", *(row(n) for n in range(1, 15)), "[1]", row(15, id="a")]
    path = file(tmp_path, rows)
    bad, other = Quarantine(tmp_path / "bad.jsonl"), Quarantine(tmp_path / "other.jsonl")
    found, _ = shared(tmp_path, path, bad)
    assert found == alone(path, other)
    taken = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert sorted(one["line"] for one in taken) == [2, 17, 18]
    assert bad.counts == other.counts


def test_the_keys_of_a_split_are_noted_in_order(tmp_path):
    path = file(tmp_path, [row(n) for n in range(20)])
    keys, other = Keys("person"), Keys("person")
    shared(tmp_path, path, keys=keys)
    list(other.noting(alone(path)))
    for one, two in zip(keys.values(), other.values(), strict=True):
        assert one.tolist() == two.tolist()


def test_shares_that_are_there_are_not_made_again(tmp_path):
    path = file(tmp_path, [*(row(n) for n in range(15)), "{broken"])
    with pytest.raises(DataError):
        shared(tmp_path, path)
    first = sorted((tmp_path / "made" / "shares").iterdir())[0] / "all.jsonl"
    first.write_bytes(first.read_bytes().replace(b"Yes.", b"Yep."))  # to know it by
    path.write_bytes(path.read_bytes().replace(b"{broken", row(15).encode()))
    found, _ = shared(tmp_path, path)
    assert found[1].parts["text"].messages[1].content == "Yep."
    assert [one.id for one in found] == [one.id for one in alone(path)]


def test_a_share_that_a_process_of_a_killed_run_made_first_is_taken(tmp_path):
    path = file(tmp_path, [row(n) for n in range(5)])
    work = shares._Shares(path, tmp_path, Registry(), "messages", False, None)
    for _ in range(2):
        work((0, (0, path.stat().st_size, 1)))
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_dir()) == ["000000"]


def test_a_data_step_is_the_same_either_way(tmp_path, monkeypatch):
    path = file(tmp_path, [*(row(n) for n in range(20)), "{", row(20, id="chats-3")])
    base = directory(tmp_path / "model")
    made = []
    for name, large in (("one", 1 << 40), ("all", 1)):
        monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / name))
        monkeypatch.setattr(shares, "LARGE", large)
        data = {
            "name": {"train": 0.6, "test": 0.4},
            "read": str(path),
            "by": "person",
            "bad_rows": "quarantine",
        }
        [run] = turnsmith.run(
            {"title": "t", "base": str(base), "steps": [{"data": data}]},
            to=tmp_path / f"run-{name}",
        )
        files = sorted((tmp_path / name / "shelf").rglob("*.jsonl"))
        said = {one: run["steps"][0][one] for one in ("rows", "counts", "format")}
        made.append(([(one.name, one.read_bytes()) for one in files], said))
    assert made[0] == made[1]
    assert [name for name, _ in made[0][0]] == ["bad-rows.jsonl", "test.jsonl", "train.jsonl"]


def test_the_archive_is_the_same_to_the_byte(tmp_path):
    path = file(tmp_path, [row(n) for n in range(20)])
    shared(tmp_path, path)
    archive.write(tmp_path / "alone.jsonl", alone(path))
    assert (tmp_path / "made" / "all.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
