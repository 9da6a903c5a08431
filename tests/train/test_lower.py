"""What frozen lowest blocks give is computed once for all epochs, and nothing comes out differently."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from turnsmith.data.batch import pack, pad
from turnsmith.data.stream import Stream
from turnsmith.errors import StorageError
from turnsmith.models import forest
from turnsmith.models.lower import Lower, blocks, depth
from turnsmith.models.recompute import recompute
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.objectives.pairs import dpo
from turnsmith.testing import Figures, examples, model
from turnsmith.train import lower, reference
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.select import full, layers

SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
DROPLESS = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
FAMILIES = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**SIZES, sliding_window=4, layer_types=KINDS)),
    "mixtral": (MixtralForCausalLM, MixtralConfig(**SIZES, num_local_experts=4)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=320, n_embd=32, n_layer=3, n_head=4, **DROPLESS)),
}
DATA = examples(5)
PAIRS = examples(4, parts=("chosen", "rejected"))
SFT, DPO = Method(sft, "token"), Method(dpo, "example", reference=True)
OPTIONS = Fit(epochs=3, batch=2, row=60, lr=1e-2)  # 8 steps: windows that reach over the ends of epochs
UPPER = {"rank": 4, "targets": ("layers.2.self_attn.q_proj", "layers.2.mlp.down_proj")}


def made(family="llama", **options):
    if family == "llama":
        return model(layers=3, **options)
    kind, config = FAMILIES[family]
    torch.manual_seed(0)
    return kind(copy.deepcopy(config))


def scoring(whole=None, component=layers, options=None, *, autocast=False):
    whole = made() if whole is None else whole
    if component is layers and options is None:
        options = {"last": 1}
    whole = install(whole, component, options or {}, seed=0)
    forest.attach(whole)
    return Scoring(whole, autocast=autocast)


def keep(subject, directory, data=DATA, layout=pack, options=OPTIONS, *, changing=None):
    """What was said while the states were kept, and why they are not."""
    directory.mkdir(exist_ok=True)
    said = []
    stream = Stream(data, batch=options.batch, order="shuffled", seed=0)
    _, note = lower.keep(subject, stream, layout, options, directory, changing=changing, say=said.append)
    return said, note


def train(
    subject, directory, *, cached, data=DATA, layout=pack, options=OPTIONS, method=SFT, live=None, stop=0
):
    """The losses, and what was learned."""
    if cached:
        said, note = keep(subject, directory, data, layout, options)
        assert (len(said), note) == (1, None)
    figures = Figures(stop)
    fit(
        subject, Stream(data, batch=options.batch, order="shuffled", seed=0), method, options,
        directory=directory / "checkpoints", recorder=figures, place=Place(device="cpu"), seed=0,
        layout=layout, reference=live,
    )  # fmt: skip
    ends = torch.cat([p.detach().flatten().float() for p in learning(subject).values()])
    return [row["loss"] for row in figures.rows], ends


def runs_of(module):
    """A list that grows by one for each time that the module runs."""
    seen = []
    module.register_forward_hook(lambda *_: seen.append(1))
    return seen


# --------------------------------------------------- nothing comes out differently


@pytest.mark.parametrize("family", ["llama", *FAMILIES])
@pytest.mark.parametrize("layout", [pack, pad], ids=["pack", "pad"])
def test_a_run_over_kept_states_learns_the_same_and_runs_only_the_blocks_above(tmp_path, family, layout):
    """Bit for bit where each example stands alone; else the states were computed in another company, and
    products of other sizes are summed in another order."""
    for row in (1, 60):
        options = replace(OPTIONS, row=row)
        plain = train(
            scoring(made(family)), tmp_path / f"plain {row}", cached=False, layout=layout, options=options
        )
        subject = scoring(made(family))
        keep(subject, tmp_path / f"kept {row}", layout=layout, options=options)
        ran = [runs_of(list(block.children())[1]) for block in blocks(subject.base)[1]]
        kept = train(subject, tmp_path / f"kept {row}", cached=False, layout=layout, options=options)
        assert [bool(seen) for seen in ran] == [False, False, True]
        if row == 1:
            assert kept[0] == plain[0]
            assert torch.equal(kept[1], plain[1])
        assert kept[0] == pytest.approx(plain[0], abs=1e-5)
        torch.testing.assert_close(kept[1], plain[1], rtol=0, atol=5e-4)  # Adam divides gradients of rounding


def last_norm(whole, draw):
    """A trainable: what comes after all blocks."""
    return {"model.norm.weight": True}


def test_all_blocks_may_be_frozen(tmp_path):
    options = replace(OPTIONS, row=1)
    plain, kept = (
        train(scoring(component=last_norm), tmp_path / str(cached), cached=cached, options=options)
        for cached in (False, True)
    )
    assert kept[0] == plain[0]
    assert kept[0][-1] < kept[0][0]


def test_an_adapter_in_the_upper_layers_learns_the_same(tmp_path):
    ends = [
        train(scoring(component=Lora, options=UPPER), tmp_path / str(cached), cached=cached)
        for cached in (False, True)
    ]
    assert ends[1][0] == pytest.approx(ends[0][0], abs=1e-5)
    torch.testing.assert_close(ends[1][1], ends[0][1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("live", [False, True], ids=["precomputed", "live"])
def test_pairs_that_share_their_prompt_learn_the_same_beside_their_reference(tmp_path, live):
    ends = []
    for cached in (False, True):
        subject, data, beside = scoring(component=Lora, options=UPPER), PAIRS, None
        if live:
            beside = reference.live(subject, pack(PAIRS[:1]), temperature=1.0)
        else:
            file = tmp_path / f"{cached}.npy"
            data = reference.precompute(subject, PAIRS, pack, row=60, temperature=1.0, file=file)
        ends.append(train(subject, tmp_path / str(cached), cached=cached, data=data, method=DPO, live=beside))
    assert ends[0][0][0] == pytest.approx(0.693147, abs=1e-5)
    assert ends[1][0] == pytest.approx(ends[0][0], abs=1e-5)
    torch.testing.assert_close(ends[1][1], ends[0][1], rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_keep_every_bit_in_the_dtype_of_the_model(tmp_path, dtype):
    """The same batch as it was computed in: kept states are those that the blocks give, bit for bit."""
    subject = scoring(made().to(dtype), autocast=dtype == torch.bfloat16)
    whole = Lower(subject, 2)
    kept = lower.Kept(whole, lambda: [pack(PAIRS)])
    kept.fill(tmp_path / "lower.npy")
    assert kept.bytes == kept.rows * 32 * dtype.itemsize
    with torch.no_grad(), subject.arithmetic():
        computed = subject.hidden(pack(PAIRS))
        subject.lower = kept
        found = subject.hidden(pack(PAIRS))
    assert torch.equal(computed, found)


def test_with_activation_checkpointing_the_gradients_are_the_same(tmp_path):
    ends = []
    for again in (False, True):
        subject = scoring()
        if again:
            recompute(subject.model)
        assert keep(subject, tmp_path / str(again))[1] is None
        subject.train()(pack(DATA)).logprobs.sum().backward()
        ends.append(torch.cat([p.grad.flatten() for p in learning(subject).values()]))
    assert torch.equal(*ends)


# -------------------------------------------------------------------- what is kept


def test_a_token_that_sequences_share_is_kept_once(tmp_path):
    """The parts of an example share 18 tokens."""
    kept = lower.Kept(Lower(scoring(), 1), lambda: [pack(PAIRS[:2]), pack(PAIRS[2:]), pack(PAIRS[:1])])
    lengths = [len(tokens) for pair in PAIRS for (tokens,) in pair.parts.values()]
    assert kept.rows == sum(lengths) - 4 * 18
    assert kept.bytes == kept.rows * 32 * 4


@pytest.mark.parametrize("into", [pack, pad], ids=["into pack", "into pad"])
@pytest.mark.parametrize("outof", [pack, pad], ids=["out of pack", "out of pad"])
def test_states_go_to_their_tokens_in_any_company_and_layout(tmp_path, outof, into):
    subject = scoring()
    whole = Lower(subject, 2)
    kept = lower.Kept(whole, lambda: map(outof, (PAIRS[:3], PAIRS[3:])))
    kept.fill(tmp_path / "lower.npy")
    batch = into([PAIRS[3], PAIRS[1]])
    with torch.no_grad():
        computed = subject(batch).logprobs
        subject.lower = kept
        torch.testing.assert_close(subject(batch).logprobs, computed, rtol=0, atol=1e-5)


def test_a_batch_with_a_path_that_was_not_kept_is_computed(tmp_path):
    subject = scoring()
    seen = runs_of(blocks(subject.base)[1][0])
    keep(subject, tmp_path)
    before = len(seen)
    with torch.no_grad():
        subject(pack(DATA))
        assert len(seen) == before + 1  # the block is called, and passes on what was kept
        stranger = examples(1, seed=9)
        found = subject(pack([DATA[0], *stranger])).logprobs
        subject.lower = None
        assert torch.equal(found, subject(pack([DATA[0], *stranger])).logprobs)


def test_a_model_is_whole_again_after_a_call_that_fails():
    subject = scoring()
    stack = blocks(subject.base)[1]
    forwards = [block.forward for block in stack]
    with pytest.raises(RuntimeError), Lower(subject, 2).replaced(torch.zeros(1, 4, 5)):
        subject.hidden(pack(DATA))  # the states are of another size
    assert [block.forward for block in stack] == forwards
    assert all("forward" not in vars(block) for block in stack)


# ------------------------------------------------------------------ going on later


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, stop):
    whole = train(scoring(), tmp_path / "whole", cached=True)
    with pytest.raises(Interrupted):
        train(scoring(), tmp_path / "cut", cached=True, stop=stop)
    before = (tmp_path / "cut" / "lower.npy").stat().st_mtime_ns
    rest, end = train(scoring(), tmp_path / "cut", cached=True)
    assert (tmp_path / "cut" / "lower.npy").stat().st_mtime_ns == before
    assert rest == whole[0][stop:]
    assert torch.equal(end, whole[1])


def test_what_a_kill_left_half_is_computed_anew(tmp_path):
    keep(scoring(), tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    whole = (tmp_path / "whole" / "lower.npy").read_bytes()
    (tmp_path / "cut" / "lower.partial.npy").write_bytes(whole[: len(whole) // 2])
    assert keep(scoring(), tmp_path / "cut")[1] is None
    assert (tmp_path / "cut" / "lower.npy").read_bytes() == whole
    assert [file.name for file in (tmp_path / "cut").iterdir()] == ["lower.npy"]


def test_a_run_that_began_without_goes_on_without(tmp_path):
    with pytest.raises(Interrupted):
        train(scoring(), tmp_path, cached=False, stop=2)
    subject = scoring()
    said, note = keep(subject, tmp_path)
    assert not said
    assert note.endswith("computed anew in every epoch: the run began like that")
    assert subject.lower is None


def test_a_file_of_other_tokens_is_refused(tmp_path):
    keep(scoring(), tmp_path)
    with pytest.raises(
        StorageError, match=r"lower\.npy has states of other tokens or another model: remove it"
    ):
        keep(scoring(), tmp_path, DATA[:4])


def test_a_full_disk_is_said(tmp_path):
    (tmp_path / "lower.partial.npy").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"the disk is full: .*lower\.npy could not be written"):
        keep(scoring(), tmp_path)


# ------------------------------------------------------------------ when it is not


def test_it_is_said_how_many_blocks_it_is_about_and_what_it_takes(tmp_path):
    said, _ = keep(scoring(), tmp_path)
    rows = sum(len(tokens) for example in DATA for (tokens,) in example.parts.values())
    size = f"{rows * 32 * 4 / 1e9:.2g} GB"
    assert [line.strip() for line in said] == [
        f"the lowest blocks (2 of 3) are frozen: what they give is computed once and kept, {size} on the disk"
    ]


@pytest.mark.parametrize(
    ("component", "options"),
    [
        (full, OPTIONS),  # the embeddings learn
        (Lora, OPTIONS),  # the lowest block learns
        (layers, Fit(epochs=1, batch=5, lr=1e-2)),  # nothing is seen twice
        (layers, Fit(epochs=3, batch=2, lr=1e-2, cache="never")),
    ],
    ids=["full", "lora", "one epoch", "never"],
)
def test_where_it_would_not_pay_or_was_not_asked_for_nothing_is_kept_or_said(tmp_path, component, options):
    subject = scoring(component=component)
    assert keep(subject, tmp_path, options=options) == ([], None)
    assert subject.lower is None
    assert not list(tmp_path.iterdir())


def test_embeddings_that_learn_as_the_output_projection_forbid_it():
    tied = made()
    head = install(tied, lambda model, draw: {"model.embed_tokens.weight": True}, {}, seed=0)
    assert head.get_output_embeddings().weight is head.get_input_embeddings().weight
    assert depth(head) == 0


def gpt2(**dropout):
    return GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=32, n_layer=3, n_head=4, **(DROPLESS | dropout)))


def positions(whole, draw):
    """A trainable: the embeddings of positions."""
    return {"transformer.wpe.weight": True}


@pytest.mark.parametrize(
    ("whole", "component", "reason"),
    [
        (lambda: made(dropout=0.1), layers, "they draw random numbers in training, as dropout does"),
        (lambda: gpt2(embd_pdrop=0.1), layers, "they draw random numbers in training, as dropout does"),
        (gpt2, positions, "something below them learns"),
    ],
    ids=["attention dropout", "dropout of embeddings", "positions learn"],
)
def test_states_that_differ_from_time_to_time_are_not_kept(tmp_path, whole, component, reason):
    subject = scoring(whole(), component)
    said, note = keep(subject, tmp_path)
    assert not said
    assert note.endswith(f"are frozen: what they give is computed anew in every epoch: {reason}")
    assert subject.lower is None


def test_dropout_above_does_not_matter(tmp_path):
    subject = scoring(gpt2())
    blocks(subject.base)[1][2].mlp.dropout.p = 0.5
    assert keep(subject, tmp_path)[1] is None


def test_several_processes_and_epochs_that_choose_anew_do_without(tmp_path, monkeypatch):
    assert keep(scoring(), tmp_path, changing="what learns changes")[1].endswith(
        "in every epoch: what learns changes"
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert keep(scoring(), tmp_path)[1].endswith("several processes cannot share it yet")
    assert not list(tmp_path.iterdir())


def test_more_than_half_of_what_is_free_on_the_disk_is_not_taken(tmp_path, monkeypatch):
    takes = sum(len(tokens) for example in DATA for (tokens,) in example.parts.values()) * 32 * 4
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2 * takes))
    assert keep(scoring(), tmp_path / "enough")[1] is None
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2 * takes - 1))
    subject = scoring()
    said, note = keep(subject, tmp_path / "short")
    assert not said
    assert note.endswith(
        f"it would take {takes / 1e9:.2g} GB, and {(2 * takes - 1) / 1e9:.2g} GB are free on the disk"
    )
    assert subject.lower is None


def test_states_that_are_not_those_of_the_model_are_seen_and_not_used(tmp_path):
    """As if each sequence had its neighbour's."""
    keep(scoring(), tmp_path)
    file = tmp_path / "lower.npy"
    np.save(file, np.load(file)[::-1])
    subject = scoring()
    _, note = keep(subject, tmp_path)
    assert "computed anew in every epoch: log-probs from what was kept differ by" in note
    assert subject.lower is None
    assert not file.exists()
