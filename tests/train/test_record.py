"""What a Record keeps on disk, how it goes back, and what it shows."""

import errno
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from turnsmith.errors import StorageError
from turnsmith.train import record as subject
from turnsmith.train.record import Record


def values(step, **others):
    """What the loop gives for one step."""
    return {
        "step": step, "total": 40, "loss": 3.0, "lr": 1e-4, "gradient": 0.5, "tokens": 90, "supervised": 30,
        "slots": 100, "seconds": 1.0, **others,
    }  # fmt: skip


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def quietly(directory, steps):
    with Record(directory, title="tuned", quiet=True) as record:
        for step in steps:
            record.step(values(step))
    return record


def test_time_and_memory_are_kept_apart_from_what_a_repetition_must_give_again(tmp_path):
    quietly(tmp_path, [1, 2])
    metrics, clock = rows(tmp_path / "metrics.jsonl"), rows(tmp_path / "clock.jsonl")
    assert metrics[1] == {
        "step": 2, "total": 40, "loss": 3.0, "lr": 1e-4, "gradient": 0.5, "tokens": 90, "supervised": 30,
        "slots": 100,
    }  # fmt: skip
    assert [row["step"] for row in clock] == [1, 2]
    assert clock[0]["seconds"] == 1.0
    assert 0.001 < clock[0]["memory_gib"] <= clock[1]["memory_gib"]


def test_a_step_is_on_disk_before_the_next_one_begins(tmp_path):
    with Record(tmp_path, title="tuned", quiet=True) as record:
        record.step(values(1, validation=2.5))
        assert rows(tmp_path / "metrics.jsonl")[0]["validation"] == 2.5
        assert len(rows(tmp_path / "clock.jsonl")) == 1


def test_what_is_no_number_is_written_as_null_so_that_every_reader_of_json_can_read_it(tmp_path):
    with Record(tmp_path, title="tuned", quiet=True) as record:
        record.step(values(1, margin=math.nan, entropy=math.inf))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"margin": null' in text
    assert '"entropy": null' in text
    assert "NaN" not in text


def test_rewind_cuts_both_files_to_the_step_and_going_on_gives_the_file_of_an_uninterrupted_run(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    quietly(whole, range(1, 6))
    record = quietly(broken, range(1, 5))
    record.rewind(2)
    assert [row["step"] for row in rows(broken / "metrics.jsonl")] == [1, 2]
    assert [row["step"] for row in rows(broken / "clock.jsonl")] == [1, 2]
    quietly(broken, range(3, 6))
    assert (broken / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step": 3}', "\x00\x00\x00\n", "[1]\n", "7\n"])
def test_a_torn_last_line_goes_even_where_its_step_would_be_kept(tmp_path, torn):
    record = quietly(tmp_path, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as opened:
        opened.write(torn)
    record.rewind(3)
    assert [row["step"] for row in rows(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_line_torn_inside_a_letter_goes_too(tmp_path):
    record = quietly(tmp_path, [1])
    with (tmp_path / "metrics.jsonl").open("ab") as opened:
        opened.write('{"step": 2, "é'.encode()[:-1])
    record.rewind(2)
    assert len(rows(tmp_path / "metrics.jsonl")) == 1


def test_rewind_to_zero_leaves_nothing_and_before_the_first_step_makes_no_file(tmp_path):
    Record(tmp_path, title="tuned", quiet=True).rewind(0)
    assert list(tmp_path.iterdir()) == []
    quietly(tmp_path, [1, 2]).rewind(0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_rewind_cuts_what_was_measured_meanwhile_too(tmp_path):
    lines = "".join(f'{{"step": {step}, "value": 0.5}}\n' for step in (0, 2, 2, 4))
    (tmp_path / "watch.jsonl").write_text(lines)
    quietly(tmp_path, range(1, 4)).rewind(2)
    assert [row["step"] for row in rows(tmp_path / "watch.jsonl")] == [0, 2, 2]


def test_rewind_without_anything_to_cut_does_not_touch_the_file(tmp_path):
    record = quietly(tmp_path, [1, 2])
    before = (tmp_path / "metrics.jsonl").stat()
    record.rewind(2)
    after = (tmp_path / "metrics.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_storage_error_that_names_the_file(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    record = Record(tmp_path, title="tuned", quiet=True)
    with pytest.raises(StorageError, match=r"disk is full.*metrics\.jsonl"):
        record.step(values(1))


def test_other_failures_of_the_disk_are_not_hidden(tmp_path):
    record = Record(tmp_path / "absent", title="tuned", quiet=True)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is checked below
        record.step(values(1))
    assert caught.value.errno == errno.ENOENT


def shown(tmp_path, steps, *, terminal=False, quiet=False, width=200):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system=None)
    with Record(tmp_path, title="tuned [b]", quiet=quiet, console=console) as record:
        for step in steps:
            record.step(step)
    return out.getvalue()


def test_without_a_terminal_a_line_about_every_ten_seconds_and_the_last(tmp_path):
    lines = shown(tmp_path, [values(step) for step in range(1, 41)]).splitlines()
    assert [line.split()[3] for line in lines] == ["10/40,", "20/40,", "30/40,", "40/40,"]


def test_a_run_that_stops_between_two_lines_says_its_last_step(tmp_path):
    lines = shown(tmp_path, [values(step) for step in range(1, 14)]).splitlines()
    assert [line.split()[3] for line in lines] == ["10/40,", "13/40,"]


def test_the_line_holds_speeds_padding_memory_and_the_time_left(tmp_path):
    line = shown(tmp_path, [values(step, seconds=0.5) for step in range(1, 21)])
    assert line.startswith(
        "tuned [b]: step 20/40, loss 3.000, 0:10 left, 60 supervised of 180 tokens/s, lr 1.0e-04"
    )
    assert "padding 10%" in line
    assert "GiB" in line


def test_the_loss_shown_is_smoothed_without_a_bias_to_zero_at_the_start():
    pace = subject.Pace()
    assert math.isnan(pace.smoothed())
    pace.add(values(1, loss=2.0))
    assert pace.smoothed() == pytest.approx(2.0)  # one value is its own mean
    pace.add(values(2, loss=4.0))
    # Weights 0.09 and 0.1 before the division by their sum 0.19.
    assert pace.smoothed() == pytest.approx((0.09 * 2 + 0.1 * 4) / 0.19)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_on_a_terminal_a_bar_that_fits_its_width(tmp_path, width):
    text = shown(tmp_path, [values(step) for step in range(1, 41)], terminal=True, width=width)
    assert "tuned [b]" in text
    assert "40/40" in text or width == 40
    plain = text.replace("\x1b[2K", "")
    assert max(len(line) for line in plain.splitlines()) <= width + 10  # 10: codes that move the cursor


def test_quiet_shows_nothing(tmp_path):
    assert shown(tmp_path, [values(1), values(40)], quiet=True) == ""
    assert shown(tmp_path, [values(1)], quiet=True, terminal=True) == ""


def test_values_that_a_loop_of_ones_own_leaves_out_are_not_needed(tmp_path):
    assert "step 1/1" in shown(tmp_path, [{"step": 1, "loss": 2.0}])


def test_memory_of_a_device_is_asked_for_only_where_torch_is_loaded_and_used(tmp_path, monkeypatch):
    monkeypatch.delitem(subject.sys.modules, "torch", raising=False)
    assert subject.peak_device_memory_gib() is None
