"""A GGUF file in llama.cpp draws as a model that is loaded here does: held against it through a stand-in for
the binding, and through the binding itself where it is installed."""

import ctypes
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import turnsmith
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError, UsageError
from turnsmith.models import gguf
from turnsmith.models.answering import file_of, is_llamacpp
from turnsmith.models.locate import locate
from turnsmith.recipes.talking import chat
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.sample.llamacpp import LlamaCppEngine
from turnsmith.testing import chat as said
from turnsmith.testing import directory, model, tokenizer
from turnsmith.types import Sampling

REAL = importlib.util.find_spec("llama_cpp") is not None
PROMPTS = [[5, 6, 7], [8] * 31, [11], [5, 6, 7]]
SEEDS = [1, 2, 3, 4]
STOP = [2, 60]


class Llama:
    """What is used of `llama_cpp.Llama`, on top of a tiny model of transformers.

    As in the binding, `eval` reads on from the first `n_tokens` of what was read before, `reset` forgets it,
    and the pointer to the logits leads into memory that the next `eval` overwrites. made: all that were made.
    counts: tokens that each `eval` read. back: whether a part of what was read can be forgotten.
    """

    made: ClassVar[list["Llama"]] = []
    back = True

    def __init__(self, model_path, *, n_gpu_layers=0, n_ctx=512, verbose=True):
        if not Path(model_path).read_bytes().startswith(b"GGUF"):
            raise ValueError(f"Failed to load model from file: {model_path}")
        self.model, self.read, self.counts = model(vocabulary=len(tokenizer())), [], []
        self.n_tokens = 0
        self.given = {"n_gpu_layers": n_gpu_layers, "n_ctx": n_ctx, "verbose": verbose}
        self.metadata = {"general.architecture": "llama", "llama.context_length": "96"}
        self.logits = np.zeros(self.n_vocab(), np.float32)
        Llama.made.append(self)

    @property
    def ctx(self):
        return self

    def n_vocab(self):
        return self.model.config.vocab_size

    def reset(self):
        self.n_tokens = 0

    def eval(self, tokens):
        assert isinstance(tokens, list)
        self.read = [*self.read[: self.n_tokens], *tokens]
        self.n_tokens = len(self.read)
        self.counts.append(len(tokens))
        with torch.no_grad():
            self.logits[:] = self.model(torch.tensor([self.read])).logits[0, -1].numpy()


def llama_get_logits_ith(ctx, i):
    assert i == -1
    return ctx.logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def llama_get_memory(ctx):
    return ctx


def llama_memory_seq_rm(memory, sequence, start, end):
    assert (sequence, end) == (0, -1)
    assert start <= memory.n_tokens
    return memory.back


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file that the stand-in takes, and the stand-in in the binding's place."""
    binding = types.ModuleType("llama_cpp")
    for one in (Llama, llama_get_logits_ith, llama_get_memory, llama_memory_seq_rm):
        setattr(binding, one.__name__, one)
    binding.__spec__ = importlib.machinery.ModuleSpec("llama_cpp", None)
    monkeypatch.setitem(sys.modules, "llama_cpp", binding)
    Llama.made.clear()
    written = tmp_path / "tiny.gguf"
    written.write_bytes(b"GGUF and so on")
    return written


@pytest.fixture
def engine(file):
    return LlamaCppEngine(file, stop=STOP)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new=10),
        Sampling(0.7, 0.8, max_new=10),
        Sampling(1.2, 1.0, 5, 10),
        Sampling(0.9, 0.7, 20, 10),
        Sampling(0, max_new=10),
        Sampling(0.9, min_p=0.2, min_new=6, max_new=10),
        Sampling(max_new=10, repetition_penalty=1.6),
        Sampling(max_new=10, frequency_penalty=0.8, presence_penalty=0.5),
    ],
)
def test_it_draws_what_a_model_that_is_loaded_here_draws(engine, sampling):
    found = engine.generate(PROMPTS, sampling=sampling, seeds=SEEDS)
    loaded = LocalEngine(model(vocabulary=len(tokenizer())), stop=STOP)
    expected = loaded.generate(PROMPTS, sampling=sampling, seeds=SEEDS)
    assert [(one.ids, one.finish) for one in found] == [(one.ids, one.finish) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)  # fp32 sums of another order


def test_a_stream_gives_the_same_ids_one_by_one(engine):
    sampling = Sampling(max_new=10)
    (whole,) = engine.generate(PROMPTS[:1], sampling=sampling, seeds=SEEDS[:1])
    stream, ids = engine.stream(PROMPTS[0], sampling=sampling, seed=SEEDS[0]), []
    while True:
        try:
            ids.append(next(stream))
        except StopIteration as end:
            found = end.value
            break
    assert (tuple(ids), found) == (whole.ids, whole)


def test_a_prompt_is_read_from_where_it_parts_with_the_one_before(engine):
    one, other = [5, 6, 7, 8, 9], [5, 6, 7, 10]
    engine.generate([one, one, other], sampling=Sampling(max_new=1), seeds=[1, 2, 3])
    assert Llama.made[0].counts == [5, 1, 1]  # of the same prompt its last token, for its logits
    engine.generate([one], sampling=Sampling(max_new=1), seeds=[1])
    assert Llama.made[0].counts[3:] == [5]  # calls do not depend on each other


def test_calls_that_are_remembered_go_on_from_each_other(engine):
    sampling = Sampling(max_new=4, min_new=4)
    with engine.remembering():
        (first,) = engine.generate([[5, 6, 7]], sampling=sampling, seeds=[1])
        longer = [5, 6, 7, *first.ids, 11, 12]
        (found,) = engine.generate([longer], sampling=sampling, seeds=[2])
    # Three of the four that were drawn were read, since nothing was asked behind the last one.
    assert Llama.made[0].counts == [3, 1, 1, 1, 3, 1, 1, 1]
    assert found.ids == engine.generate([longer], sampling=sampling, seeds=[2])[0].ids


def test_a_model_that_cannot_go_back_reads_anew(engine, monkeypatch):
    monkeypatch.setattr(Llama, "back", False)
    sampling = Sampling(max_new=2)
    both = engine.generate([[5, 6, 7], [5, 6, 7]], sampling=sampling, seeds=[1, 1])
    assert Llama.made[0].counts == [3, 1, 3, 1]
    assert both[0] == both[1]


def test_all_layers_go_to_the_device_and_the_context_is_the_smaller_one(engine):
    (made,) = Llama.made
    assert made.given == {"n_gpu_layers": -1, "n_ctx": 8192, "verbose": False}
    assert engine.context == 96


# --------------------------------------------------------------------------------------- what is refused


def test_whoever_asks_may_say_where_a_reply_ends(engine):
    free = engine.generate(PROMPTS[:1], sampling=Sampling(max_new=8), seeds=[1])[0]
    ended = engine.generate(
        PROMPTS[:1], sampling=Sampling(max_new=8), seeds=[1], ends=lambda ids: len(ids) == 3
    )[0]
    assert (ended.ids, ended.finish) == (free.ids[:3], "stop")
    late = Sampling(max_new=8, min_new=5)
    assert len(engine.generate(PROMPTS[:1], sampling=late, seeds=[1], ends=lambda ids: True)[0].ids) == 5


@pytest.mark.parametrize("more", [{"schema": {}}, {"grammar": 'start: "a"'}])
def test_what_it_lacks_is_refused_by_name(engine, more):
    with pytest.raises(UsageError, match=f"is asked for {next(iter(more))}, which llama.cpp in this process"):
        engine.generate(PROMPTS, sampling=Sampling(**more), seeds=SEEDS)
    assert Llama.made[0].read == []


@pytest.mark.parametrize(
    ("prompts", "error", "words"),
    [
        ([[]], UsageError, "prompt 0 is empty"),
        ([[5], [320]], ModelError, "prompt 1 holds ids that are not below the model's 320"),
        ([[5] * 90], ModelError, "prompt 0 has 90 tokens and 10 may follow, but the context ends at 96"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_refused(engine, prompts, error, words):
    with pytest.raises(error, match=words):
        engine.generate(prompts, sampling=Sampling(max_new=10), seeds=SEEDS[: len(prompts)])


def test_a_file_that_cannot_be_loaded_is_an_error(file):
    file.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"llama.cpp cannot load .*tiny\.gguf"):
        LlamaCppEngine(file, stop=STOP)


@pytest.mark.skipif(REAL, reason="llama.cpp is installed")
def test_without_the_binding_the_way_out_is_named(tmp_path):
    written = tmp_path / "tiny.gguf"
    written.write_bytes(b"GGUF")
    for ask in (lambda: LlamaCppEngine(written, stop=STOP), lambda: file_of(f"llamacpp:{written}")):
        with pytest.raises(UsageError, match=r"pip install 'turnsmith\[llamacpp\]'"):
            ask()


def test_a_reference_names_a_file(file):
    assert is_llamacpp(f"llamacpp:{file}")
    assert file_of(f"llamacpp:{file}") == file
    with pytest.raises(UsageError, match=r"there is no file 'nowhere\.gguf' that ends in \.gguf"):
        file_of("llamacpp:nowhere.gguf")
    with pytest.raises(ModelError, match="gives no weights and no likelihoods"):
        locate(f"llamacpp:{file}")


# ------------------------------------------------------------------------------------------ where it is used


@pytest.fixture
def written(file):
    """A real GGUF file, whose model is that of the stand-in; it is without a chat template otherwise."""
    words = tokenizer()
    own = model(vocabulary=len(words))
    gguf.write(own, words, file, name="tiny", stops=Renderer(words).stops, quantise="f32")
    return file


def test_a_chat_with_a_file_answers_as_one_with_the_model(written):
    renderer = Renderer(tokenizer())
    local = LocalChat(LocalEngine(model(vocabulary=len(tokenizer())), stop=renderer.stops), renderer)
    sampling = Sampling(temperature=0.8, max_new=12)
    asked = [said("u: Hello there"), said("s: Be kind.", "u: And you?")]
    found = chat(f"llamacpp:{written}")(asked, sampling=sampling, seed=3)
    expected = local(asked, sampling=sampling, seed=3)
    assert [one.message.ids for one in found] == [one.message.ids for one in expected]
    assert [one.usage for one in found] == [one.usage for one in expected]


def test_a_file_can_be_measured_and_write_for_stages(written, tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    reference = f"llamacpp:{written}"
    answered = {"respond": {"by": "base", "to": "text", "max_new": 4, "top_k": 5, "min_p": 0.1}}
    plain = {
        "title": "In llama.cpp",
        "base": reference,
        "steps": [
            {"data": {"name": "asked", "stages": [{"sums": {"count": 3}}]}},
            {"data": {"name": "pairs", "from": "asked", "stages": [answered]}},
            {
                "evaluate": {
                    "model": "base",
                    "against": None,
                    "suite": [{"exact": {"on": "asked", "max_new": 4}}],
                }
            },
        ],
    }
    (found,) = turnsmith.run(plain)
    _, pairs, measured = found["steps"]
    assert pairs["sizes"] == {"pairs": 3}
    numbers = sum(one.numel() for one in model(vocabulary=len(tokenizer())).parameters())
    assert pairs["flops"] == 2 * numbers * sum(pairs["usage"].values())
    (task,) = measured["tasks"]
    assert task["items"] == 3


# ---------------------------------------------------------------------------------------- the binding itself


@pytest.mark.skipif(not REAL, reason="needs llama.cpp: pip install 'turnsmith[llamacpp]'")
def test_the_binding_answers_as_the_model_that_the_file_was_written_from(tmp_path):
    from turnsmith.models.export import export

    export(
        str(directory(tmp_path / "model")), tmp_path / "out", form="gguf", renderer=Renderer, quantise="f32"
    )
    (written,) = (tmp_path / "out").glob("*.gguf")
    sampling = Sampling(temperature=0.0, max_new=8)
    ((one,), (other,)) = (
        chat(reference, sampling=sampling)([said("u: Hello there")])
        for reference in (f"llamacpp:{written}", str(tmp_path / "model"))
    )
    assert one.message.ids == other.message.ids
    # llama.cpp rounds activations and its cache to 16 bits.
    assert one.message.logprobs == pytest.approx(other.message.logprobs, abs=0.05)
