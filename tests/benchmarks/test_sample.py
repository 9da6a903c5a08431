"""What benchmarks/sample.py promises: it gives figures only where both sides drew the same."""

import importlib
import json
import sys
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from turnsmith.types import Tokens

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--model", "tiny", "--batch", "2", "--new", "6", "--repeat", "1", "--rounds", "1", "--threads", "1"]


@pytest.fixture
def module(monkeypatch):
    """The modules of the folder, which import each other by their names."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def bench(module):
    return module("sample")


def run(*replies, seconds=(1.0,), **other):
    """A call of each side: its replies and what it took."""
    figures = {"first": [], "peak_gib": 1.0, "device_gib": None, "weights": "float32"}
    return {"seconds": list(seconds), "replies": list(replies), **figures, **other}


def job(module, **changed):
    settings = {
        "model": "m",
        "gguf": None,
        "file": "f",
        "side": "turnsmith",
        "dtype": "float32",
        "weights": "exact",
        "rows": 2,
        "new": 2,
        "temperature": 0.0,
        "threads": 1,
    }
    return module("prompts").Job(**{**settings, **changed})


def work(module, *calls, stop=()):
    return module("prompts").Work(calls=[[], *calls], first=[], stop=list(stop))


# --------------------------------------------------------------------------------------- what may be compared


def test_equal_replies_are_counted(bench, module):
    one = run([[1, 2], [3, 4]])
    said = bench.agree(job(module), work(module, [[9], [8]]), "transformers", one, one)
    assert said == {"replies": 2, "equal": 2, "ties": 0}


def test_a_peer_that_stops_early_ends_the_benchmark(bench, module):
    with pytest.raises(SystemExit, match="2 replies of 3 tokens, ours 2 of 4, where each should have 2"):
        bench.agree(
            job(module, dtype="bfloat16"),
            work(module, [[9], [8]]),
            "transformers",
            run([[1, 2], [3, 4]]),
            run([[1, 2], [3]]),
        )


@pytest.mark.parametrize("how", [{"dtype": "bfloat16"}, {"weights": "float16"}])
def test_where_replies_end_a_tenth_of_the_tokens_may_be_more(bench, module, how):
    """Ten tokens against eleven are compared where one side rounds, against twelve not."""
    rounded = job(module, new=20, **how)
    given = (work(module, [[9]], stop=[0]), "transformers", run([[1] * 10]))
    assert bench.agree(rounded, *given, run([[1] * 11]))["equal"] == 0
    with pytest.raises(SystemExit, match="drew 12 tokens, ours are 10"):
        bench.agree(rounded, *given, run([[1] * 12]))


@pytest.mark.parametrize(("gap", "tie"), [(0.9e-4, True), (1.1e-4, False), (float("nan"), False)])
def test_in_fp32_other_tokens_are_ties_or_end_the_benchmark(bench, module, tmp_path, monkeypatch, gap, tie):
    """The second of two prompts parts at its second token, 4 or 5, after the prompt 8 and the token 3."""
    monkeypatch.setattr(bench, "measured", lambda *asked: [gap])
    file = tmp_path / "work.json"
    asked = (
        job(module, file=str(file)),
        work(module, [[9], [8]]),
        "transformers",
        run([[1, 2], [3, 4]]),
        run([[1, 2], [3, 5]]),
    )
    if tie:
        assert bench.agree(*asked) == {"replies": 2, "equal": 1, "ties": 1}
    else:
        with pytest.raises(SystemExit, match="prompt 1, token 1, where turnsmith draws 4 and transformers 5"):
            bench.agree(*asked)
    (case,) = json.loads((tmp_path / "work.ties.json").read_text())
    assert (case["ids"], case["one"], case["other"]) == ([8, 3], 4, 5)


def test_a_reply_that_goes_on_after_the_other_is_no_tie(bench, module):
    with pytest.raises(SystemExit, match="call 0, prompt 0, token 2: only one of the replies goes on"):
        bench.partings(work(module, [[9]]), [[[1, 2]]], [[[1, 2, 3]]])


def test_a_tie_is_between_the_best_two(module):
    """Two tokens as good as each other and far below the best are none."""
    gap = module("ties").gap
    logits = torch.tensor([1.0, 3.0, 2.5, 1.0])
    assert gap(logits, 1, 2) == 0.5
    assert gap(logits, 0, 3) == 2.0


def test_what_cannot_be_measured_is_refused_or_left_out_with_a_line(bench, module, capsys, monkeypatch):
    for wrong, words in ((["--new", "1"], "2 at least"), (["--memory", "0"], "some minutes")):
        with pytest.raises(SystemExit):
            bench.parsed(wrong)
        assert words in capsys.readouterr().err
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    assert list(bench.peers(["transformers", "llamacpp"], job(module))) == ["transformers"]
    assert "llamacpp: not run, llama_cpp is not installed" in capsys.readouterr().out
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: name)
    assert list(bench.peers(["llamacpp"], job(module))) == []
    assert "name one with --gguf" in capsys.readouterr().out
    assert list(bench.peers(["llamacpp"], job(module, gguf="f.gguf"))) == ["llamacpp"]


# ------------------------------------------------------------------------------------------------ figures


def test_tokens_per_second_with_and_without_the_prompts(bench):
    """Eight tokens of four replies in 1 + 3 s; their first tokens take 0.5 s a call, so four take 3 s."""
    one = run([[1, 2], [3, 4]], [[5, 6], [7, 8]], seconds=(1.0, 3.0), first=[0.5, 0.5])
    assert bench.rate(one) == 2.0
    assert bench.decoding(one) == pytest.approx(4 / 3)


def test_ratios_are_of_pairs(bench):
    """4 s against 2 s and 3 s against 1 s for as many tokens: 2 and 3 times as fast, 2.5 in the middle."""
    rows = [
        {
            "turnsmith": run([[1, 2]], seconds=[ours], peak_gib=1.0),
            "transformers": run([[1, 2]], seconds=[theirs], peak_gib=2.0),
            "replies": {"replies": 1, "equal": equal, "ties": 1 - equal},
        }
        for ours, theirs, equal in ((2.0, 4.0, 1), (1.0, 3.0, 0))
    ]
    assert bench.ratio_line("transformers", rows).strip() == (
        "turnsmith is 2.50 times as fast as transformers (2.00 to 3.00, 2 pairs), memory 0.50; "
        "1 of 2 replies equal, 1 part at a tie"
    )


def test_growth_is_between_quarters_and_ends_the_benchmark(bench, module, monkeypatch, capsys):
    """Eight calls, of which the first four hold 100 MiB: 5 % more is allowed, 6 % is not."""
    assert bench.quarters([1, 2, 3, 4, 5, 6, 7, 8]) == (1.5, 7.5)
    assert bench.slope([0, 1800, 3600], [100, 101, 102]) == pytest.approx(2)
    asked = SimpleNamespace(memory=1.0, temperature=0.0, threads=1)
    seconds = [900.0 * i for i in range(8)]
    for last, grown in ((105.0, False), (106.0, True)):
        found = {"seconds": seconds, "mib": [100.0] * 4 + [last] * 4, "tokens": 80}
        monkeypatch.setattr(bench, "measured", lambda *_, found=found: found)
        if grown:
            with pytest.raises(SystemExit, match=r"6\.0% more at the end"):
                bench.steady(asked, job(module))
        else:
            bench.steady(asked, job(module))
        assert f"100.0 MiB in the first quarter, {last} in the last" in capsys.readouterr().out
    monkeypatch.setattr(bench, "measured", lambda *_: {"seconds": [1.0], "mib": [1.0], "tokens": 1})
    with pytest.raises(SystemExit, match="1 calls in 1 minutes are too few"):
        bench.steady(asked, job(module))


# ------------------------------------------------------------------------------------------------ the sides


@pytest.mark.parametrize("length", [24, None])
def test_prompts_are_as_long_as_asked_and_none_comes_twice(module, tmp_path, capsys, length):
    prompts, file = module("prompts"), tmp_path / "work.json"
    asked = {"model": "tiny", "gguf": None, "prompt": length, "rows": 3, "repeat": 2, "seed": 0}
    prompts.main(["", json.dumps({**asked, "folder": str(tmp_path), "file": str(file)})])
    said, found = json.loads(capsys.readouterr().out), prompts.Work(**json.loads(file.read_text()))
    drawn = [tuple(prompt) for calls in (found.calls, found.first) for one in calls for prompt in one]
    assert len(set(drawn)) == len(drawn)
    if length:
        assert [len(one) for one in found.calls] == [3, 3, 3]
        assert [len(one) for one in found.first] == [3, 3]
        assert ({len(prompt) for prompt in drawn}, found.stop) == ({24}, [])
        assert said["read"] == 2 * 3 * 24
    else:
        assert ([len(one) for one in found.calls], found.first) == ([12, 12, 12], [])
        assert min(map(len, drawn)) >= 20
        assert max(map(len, drawn)) <= 400
        assert len({len(prompt) for prompt in drawn}) > 10
        assert found.stop


def test_a_prompt_that_chats_share_is_taken_once(module):
    assert [*module("prompts").distinct([[1, 2], [1], [1, 2]])] == [[1, 2], [1]]


def test_prompts_end_where_a_reply_starts(module):
    """Turns 1 and 3 are replies; their headers are not trained."""
    ids = np.arange(8, dtype=np.int32)
    weights = np.array([0, 0, 0, 1, 1, 0, 0, 1], np.float32)
    turns = np.array([0, 0, 1, 1, 1, 2, 3, 3], np.int32)
    assert module("prompts").replies(Tokens(ids, ids, weights, turns)) == [3, 7]


def test_peers_are_padded_from_the_left_and_cut_after_a_stop(module):
    samplers = module("samplers")
    ids, mask = samplers.padded([[5], [6, 7]], 0)
    assert (ids.tolist(), mask.tolist()) == ([[0, 5], [6, 7]], [[0, 1], [1, 1]])
    assert samplers.padded([[5], [6, 7]], 1)[0].tolist() == [[0, 0, 5], [0, 6, 7]]
    assert samplers.ended([5, 2, 6, 2], [2]) == [5, 2]
    assert samplers.ended([5, 6], []) == [5, 6]


def following(history):
    """The token that the made-up model draws."""
    return (7 * sum(history) + len(history)) % 11


class Binding:
    """The functions of llama_cpp that are called, over a model that draws `following`. Positions must go on
    where a sequence ended, and there is room for `n_seq_max` of them."""

    llama_backend_init = llama_model_default_params = lambda self: None
    llama_model_load_from_file = llama_init_from_model = llama_get_memory = lambda self, *_: self
    llama_sampler_init_greedy = lambda self: None  # noqa: E731

    def __init__(self):
        self.settings, self.histories, self.ends, self.most = SimpleNamespace(), {}, {}, 0

    def llama_context_default_params(self):
        return self.settings

    def llama_batch_init(self, size, *_):
        names = ("token", "pos", "n_seq_id", "logits")
        return SimpleNamespace(seq_id=[[0] for _ in range(size)], **{name: [0] * size for name in names})

    def llama_decode(self, context, batch):
        self.ends = {}
        for i in range(batch.n_tokens):
            history = self.histories.setdefault(batch.seq_id[i][0], [])
            assert batch.pos[i] == len(history)
            history.append(batch.token[i])
            if batch.logits[i]:
                self.ends[i] = [*history]
        self.most = max(self.most, len(self.histories))
        assert self.most <= self.settings.n_seq_max
        return 0

    def llama_sampler_sample(self, sampler, context, place):
        return following(self.ends[place])

    def llama_memory_seq_rm(self, memory, row, start, end):
        del self.histories[row]


def test_llama_cpp_draws_for_each_prompt_as_if_it_were_alone(module, monkeypatch):
    """Nine prompts in three rows, whose replies end at a 4 or after seven tokens."""
    binding, random = Binding(), Random(0)
    monkeypatch.setitem(sys.modules, "llama_cpp", binding)
    prompts = [[random.randrange(50) for _ in range(random.randint(1, 9))] for _ in range(9)]
    expected = []
    for prompt in prompts:
        reply = []
        while len(reply) < 7 and 4 not in reply:
            reply.append(following(prompt + reply))
        expected.append(reply)
    assert len({len(reply) for reply in expected}) > 1  # so that rows end at different times
    model = module("llama").Llama("f.gguf", rows=3, tokens=16, threads=1)
    assert model.generate(prompts, 7, stop=[4]) == expected
    assert (binding.most, binding.histories) == (3, {})


# ------------------------------------------------------------------------------------ all of it together


@pytest.mark.slow
def test_both_draw_the_same_in_fp32(bench, tmp_path, capsys):
    """Two sides that share no code from the prompts to the tokens."""
    file = tmp_path / "found.json"
    options = ["--mixed", "--dtype", "float32", "--peers", "transformers-masked", "transformers-static"]
    bench.main([*SMALL, *options, "--folder", str(tmp_path), "--json", str(file)])
    (found,), said = json.loads(file.read_text())["settings"], capsys.readouterr().out
    assert set(found["pairs"]) == {"transformers-masked", "transformers-static"}
    for peer, (runs,) in found["pairs"].items():
        assert runs["turnsmith"]["replies"] == runs[peer]["replies"]
        assert f"times as fast as {peer}" in said
    assert said.count("8 of 8 replies equal") == 2


@pytest.mark.slow
def test_a_token_that_differs_ends_the_benchmark_with_its_gap(bench, tmp_path, monkeypatch, capsys):
    """The peer's last token is made another one, whose logit is not the best."""
    measured = bench.measured

    def planted(script, argument, threads):
        run = measured(script, argument, threads)
        if script == "samplers" and json.loads(argument)["side"] != "turnsmith":
            reply = run["replies"][0][0]
            reply[-1] = 3 if reply[-1] != 3 else 5
        return run

    monkeypatch.setattr(bench, "measured", planted)
    options = ["--prompt", "12", "--dtype", "float32", "--peers", "transformers"]
    with pytest.raises(SystemExit, match=r"token 5, where turnsmith draws \d+ and transformers [35]\. "):
        bench.main([*SMALL, *options, "--folder", str(tmp_path)])
    assert "times as fast" not in capsys.readouterr().out


@pytest.mark.slow
def test_memory_of_a_short_run_is_watched(bench, tmp_path, capsys):
    options = ["--memory", "0.05", "--dtype", "float32"]
    try:
        bench.main([*SMALL, *options, "--folder", str(tmp_path)])
    except SystemExit as grown:  # in three seconds what the engine keeps of earlier calls is still filling up
        assert "more at the end than at the start" in str(grown)  # noqa: PT017
    assert "MiB in the first quarter" in capsys.readouterr().out
