"""What benchmarks/step.py promises: it gives figures only where both sides did the same work."""

import importlib
import json
import math
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--model", "tiny", "--length", "48", "--examples", "4", "--steps", "2", "--rounds", "1"]
ONE = ["--trainable", "full", "--dtype", "float32", "--threads", "1", "--peers", "trl"]


@pytest.fixture
def bench(monkeypatch):
    """The module, which runs the other files of its folder as processes."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("step")


@pytest.fixture
def workload(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("workload")


def run(seconds, loss, **other):
    return {"seconds": seconds, "losses": [loss], "read": 48, "supervised": 32, **other}


def job(workload, **changed):
    settings = {
        "model": "m",
        "file": "f",
        "what": "sft",
        "side": "turnsmith",
        "trainable": "full",
        "dtype": "float32",
        "reference": "live",
        "steps": 2,
        "length": 48,
        "lr": 1e-5,
        "row": 2048,
        "batch": 8,
    }
    return workload.Job(**{**settings, **changed})


WORK = {"read": 48, "supervised": 32}


def test_losses_may_differ_by_a_thousandth(bench, workload):
    """Of 2.000: 2.0019 is within 0.1 %, 2.0021 is not."""
    bench.agree(job(workload), "trl", WORK, run([1, 1], 2.0), run([1, 1], 2.0019))
    with pytest.raises(SystemExit, match=r"turnsmith 2\.000000, trl 2\.002100"):
        bench.agree(job(workload), "trl", WORK, run([1, 1], 2.0), run([1, 1], 2.0021))


def test_in_bf16_few_tokens_cannot_agree_and_the_error_says_so(bench, workload):
    rounded = job(workload, dtype="bfloat16")
    with pytest.raises(SystemExit, match="32 trained tokens are few: take more --examples"):
        bench.agree(rounded, "trl", WORK, run([1, 1], 2.0), run([1, 1], 2.0021))


def test_a_loss_that_is_no_number_agrees_with_nothing(bench, workload):
    with pytest.raises(SystemExit, match="nan"):
        bench.agree(job(workload), "trl", WORK, run([1, 1], 2.0), run([1, 1], math.nan))


def test_both_start_dpo_at_ln_2(bench, workload):
    """Equal losses do not do: 0.7 on both sides says that the reference is not the start."""
    pairs = job(workload, what="dpo")
    bench.agree(pairs, "trl", WORK, run([1, 1], 0.69315), run([1, 1], 0.69314))
    with pytest.raises(SystemExit, match=r"turnsmith 0\.700000, trl 0\.700000 .*ln 2 is 0\.693147"):
        bench.agree(pairs, "trl", WORK, run([1, 1], 0.7), run([1, 1], 0.7))


def test_a_peer_that_trained_fewer_tokens_ends_the_benchmark(bench, workload):
    fewer = {**run([1, 1], 2.0), "supervised": 31}
    with pytest.raises(SystemExit, match="tokens supervised are 31, ours 32"):
        bench.agree(job(workload), "trl", WORK, run([1, 1], 2.0), fewer)


def test_ratios_are_of_pairs_and_leave_the_warm_up_out(bench):
    """Steps of 2 s against 1 s, and of 9 s against 3 s: 2 and 3 times as fast, 2.5 in the middle."""
    sides = [([50, 1, 1], [70, 2, 2]), ([50, 3, 3], [70, 9, 9])]
    rows = [
        {
            "turnsmith": run(ours, 2.0, peak_gib=1.0, device_gib=None),
            "trl": run(theirs, 2.0, peak_gib=4.0, device_gib=None),
        }
        for ours, theirs in sides
    ]
    said = bench.ratio_line("trl", rows).strip()
    assert said == "turnsmith is 2.50 times as fast as trl (2.00 to 3.00, 2 pairs), memory 0.25"


def test_counts_are_those_of_the_least_that_a_step_needs(workload):
    """Three tokens see 6 times a token. A prompt of 2 with replies of 1 and 2: the prompt sees 3, the first
    reply 2 + 1, the second 2 * 2 + 3; the prompt is read twice by who does not share it."""
    chat = workload.conversation([5, 6, 7], 1)
    pair = workload.pair([5, 6], [7], [8, 9])
    assert workload.counts([chat]) == {
        "tokens": 3, "supervised": 2, "attended": 6, "read": 3, "examples": 1
    }  # fmt: skip
    assert workload.counts([pair]) == {
        "tokens": 5, "supervised": 3, "attended": 3 + 3 + 7, "read": 7, "examples": 1
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_ours_and_trl_start_at_the_same_loss(bench, tmp_path, capsys, trainable):
    """Two sides that share no code on the way from ids to the loss, so that neither masks, shifts or divides
    otherwise; after an update they still agree to what AdamW makes of rounding."""
    file = tmp_path / "found.json"
    changed = ["--trainable", trainable, "--peers", "trl", "trl-packed", "trainer"]
    bench.main([*SMALL, *ONE, *changed, "--folder", str(tmp_path), "--json", str(file)])
    (found,), said = json.loads(file.read_text())["settings"], capsys.readouterr().out
    assert set(found["pairs"]) == {"trl", "trl-packed", "trainer"}
    for peer, (runs,) in found["pairs"].items():
        ours, theirs = runs["turnsmith"], runs[peer]
        assert ours["losses"][0] == pytest.approx(theirs["losses"][0], rel=1e-5)
        if trainable == "full":  # adapters are drawn at random by each
            assert ours["losses"][1] == pytest.approx(theirs["losses"][1], rel=1e-4)
        assert f"times as fast as {peer}" in said


@pytest.mark.slow
def test_dpo_starts_at_ln_2_with_both_references(bench, tmp_path, capsys):
    bench.main([*SMALL, *ONE, "--what", "dpo", "--ratios", "1", "--folder", str(tmp_path)])
    said = capsys.readouterr().out
    assert said.count("turnsmith is") == 2
    assert said.count("0.69314") + said.count("0.69315") == 4


@pytest.mark.slow
def test_a_label_that_differs_ends_the_benchmark_with_both_losses(bench, tmp_path, monkeypatch, capsys):
    """The peer is given other tokens to predict, as many as before."""
    measured = bench.measured

    def planted(script, argument, threads):
        if script == "peers":
            file = Path(json.loads(argument)["file"])
            rows = json.loads(file.read_text())
            for row in rows:
                row["labels"] = [label if label == -100 else 3 for label in row["labels"]]
            file.write_text(json.dumps(rows))
        return measured(script, argument, threads)

    monkeypatch.setattr(bench, "measured", planted)
    with pytest.raises(SystemExit, match=r"do not agree: turnsmith \d+\.\d{6}, trl \d+\.\d{6}"):
        bench.main([*SMALL, *ONE, "--folder", str(tmp_path)])
    assert "times as fast" not in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(bench, capsys):
    for wrong, words in (
        (["--steps", "1"], "warm-up"),
        (["--what", "dpo", "--examples", "12"], "a multiple of 8"),
    ):
        with pytest.raises(SystemExit):
            bench.parsed(wrong)
        assert words in capsys.readouterr().err


def test_liger_is_left_out_with_a_line_where_it_is_not_installed(bench, capsys, monkeypatch):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    assert list(bench.peers(["trl", "trl-liger"], "sft")) == ["trl"]
    assert "trl-liger: not run, liger_kernel is not installed" in capsys.readouterr().out
