"""Completions are what the model would draw prompt by prompt without a cache, with its own log-probs."""

import copy
import itertools

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from turnsmith import seeds
from turnsmith.data.batch import pad
from turnsmith.errors import ModelError, UsageError
from turnsmith.models.forest import attach
from turnsmith.models.score import Scoring
from turnsmith.sample import choosing, engine, float16
from turnsmith.sample.choosing import draw, truncated
from turnsmith.sample.engine import LocalEngine, tables
from turnsmith.sample.rows import Rows
from turnsmith.types import Rendered, Sampling, Tokens

SIZES = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,  # peaked attention: a token too many or too few is seen in the log-probs
}
PROMPTS = [[5, 6, 7], [8] * 31, [9, 3, 4, 5, 6, 7, 8, 9, 10], [11], [40, 41, 42, 43, 44]]
SEEDS = [1, 2, 3, 4, 5]
SAMPLINGS = [
    Sampling(max_new=12),
    Sampling(0.7, 0.9, max_new=12),
    Sampling(1.2, 1.0, 5, 12),
    Sampling(0, max_new=12),
]
STOP = [1, 60]
CLOSE = 1e-4  # fp32 sums of another order; a wrong position or mask moves log-probs by 0.1 and more


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, pad_token_id=0)).eval()


def gemma():
    torch.manual_seed(0)
    layers = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**SIZES, sliding_window=6, layer_types=layers, pad_token_id=0)
    return Gemma3ForCausalLM(config).eval()


def eager():
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, pad_token_id=0, attn_implementation="eager")
    return LlamaForCausalLM(config).eval()


def mistral():
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=6, pad_token_id=0)).eval()


def qwen():
    """Windows in the upper layer, and biases of queries, keys and values."""
    torch.manual_seed(0)
    config = Qwen2Config(
        **SIZES, sliding_window=6, use_sliding_window=True, max_window_layers=1, pad_token_id=0
    )
    assert config.layer_types == ["full_attention", "sliding_attention"]
    return Qwen2ForCausalLM(config).eval()


def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=67, n_embd=32, n_layer=2, n_head=4, n_positions=96, initializer_range=0.3)
    return GPT2LMHeadModel(config).eval()


def adapted():
    torch.manual_seed(1)
    model = get_peft_model(
        llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return llama()


@torch.no_grad()
def by_hand(model, prompt, sampling, seed, stop=STOP):
    """Decoding by the whole forward pass at every token, one prompt, truncation by sorting in NumPy."""
    uniforms = seeds.array(seed, "sample").random(sampling.max_new, dtype=np.float32)
    ids, logprobs = list(prompt), []
    for uniform in uniforms:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double()
        logits = logits / sampling.temperature if sampling.temperature else logits
        p = logits.softmax(0).numpy()
        if sampling.temperature == 0:
            token = int(p.argmax())
        else:
            order = np.argsort(-p)
            order = order[: sampling.top_k] if sampling.top_k else order
            share = p[order].cumsum() / p[order].sum()
            order = order[: int(np.searchsorted(share, sampling.top_p)) + 1] if sampling.top_p < 1 else order
            kept = np.zeros_like(p)
            kept[order] = p[order]
            token = int(np.searchsorted(kept.cumsum() / kept.sum(), uniform, side="right"))
        ids.append(token)
        logprobs.append(float(np.log(p[token])))
        if token in stop:
            break
    return tuple(ids[len(prompt) :]), logprobs


def scored(model, prompts, completions, temperature):
    """The completions' log-probs as training sees them."""
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = np.array([*prompt, *completion.ids], np.int32)
        weights = np.array([0.0] * len(prompt) + [1.0] * len(completion.ids), np.float32)
        rows.append(Rendered("x", {"text": (Tokens(ids, ids, weights, np.zeros_like(ids)),)}))
    with torch.no_grad():
        return Scoring(model)(pad(rows), temperature=temperature).logprobs


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_logprobs_are_those_of_scoring_before_truncation(model, temperature):
    sampling = Sampling(temperature, 0.8, 20, max_new=20)
    drawn = LocalEngine(model, stop=STOP).generate(PROMPTS, sampling=sampling, seeds=SEEDS)
    expected = scored(model, PROMPTS, drawn, temperature or 1.0)
    found = torch.tensor([logprob for completion in drawn for logprob in completion.logprobs])
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("build", [llama, eager, gemma, mistral, qwen, gpt2, adapted])
def test_cached_batches_draw_what_whole_forward_passes_draw(build, sampling):
    model = build()
    local = LocalEngine(model, stop=STOP)
    # Some models have a forward pass of our own, and this is where it is held against theirs.
    assert (local._lean is not None) == (build in (llama, eager, mistral, qwen))
    drawn = local.generate(PROMPTS, sampling=sampling, seeds=SEEDS)
    for prompt, seed, completion in zip(PROMPTS, SEEDS, drawn, strict=True):
        ids, logprobs = by_hand(model, prompt, sampling, seed)
        assert completion.ids == ids
        assert completion.logprobs == pytest.approx(logprobs, abs=CLOSE)


def test_the_attention_for_forests_draws_the_same(model):
    attached = copy.deepcopy(model)
    attach(attached)
    for sampling in SAMPLINGS:
        plain = LocalEngine(model, stop=STOP).generate(PROMPTS, sampling=sampling, seeds=SEEDS)
        found = LocalEngine(attached, stop=STOP).generate(PROMPTS, sampling=sampling, seeds=SEEDS)
        assert [c.ids for c in found] == [c.ids for c in plain]


@pytest.mark.parametrize("rows", [3, 64])
def test_a_completion_does_not_depend_on_its_batch_or_place(model, rows):
    sampling = Sampling(max_new=24)
    many = PROMPTS * 3  # equal prompts with other seeds; some end early, so that batches are compacted
    numbers = list(range(len(many)))
    engine = LocalEngine(model, stop=[*STOP, 2, 3], rows=rows)
    drawn = engine.generate(many, sampling=sampling, seeds=numbers)
    assert len({len(completion.ids) for completion in drawn}) > 4
    backwards = engine.generate(many[::-1], sampling=sampling, seeds=numbers[::-1])
    assert [c.ids for c in backwards[::-1]] == [c.ids for c in drawn]
    for prompt, seed, completion in zip(many, numbers, drawn, strict=True):
        (alone,) = engine.generate([prompt], sampling=sampling, seeds=[seed])
        assert alone.ids == completion.ids
        assert alone.logprobs == pytest.approx(completion.logprobs, abs=CLOSE)


@pytest.fixture
def reads(monkeypatch):
    """(rows, how many ids behind each) of every forward pass."""
    found = []
    read = Rows.read
    monkeypatch.setattr(
        Rows,
        "read",
        lambda self, rows, news, **options: (
            found.append((list(rows), [len(new) for new in news])) or read(self, rows, news, **options)
        ),
    )
    return found


def test_ended_rows_leave_the_batch_at_once(model, reads):
    local = LocalEngine(model, stop=range(12))
    drawn = local.generate(PROMPTS * 2, sampling=Sampling(max_new=40), seeds=range(10))
    lengths = [len(completion.ids) for completion in drawn]
    steps = [rows for rows, news in reads if len(rows) > 1 or news == [1]][-max(lengths) + 1 :]
    for number, rows in enumerate(steps, start=1):
        assert rows == list(range(sum(length > number for length in lengths)))


def test_who_waits_comes_in_as_soon_as_a_row_is_free(model, reads):
    prompts = [[first, 5, 6, 7, 8] for first in range(12, 32)]  # nothing in common
    sampling = Sampling(max_new=20)
    drawn = LocalEngine(model, stop=range(12), rows=4).generate(prompts, sampling=sampling, seeds=range(20))
    last = max(place for place, (_, news) in enumerate(reads) if news[0] == 5)  # the last prompt comes in
    decoding = [rows for rows, news in reads[:last] if news[0] == 1]
    assert len(decoding) > 5
    assert all(rows == [0, 1, 2, 3] for rows in decoding)
    for prompt, seed, completion in zip(prompts, range(20), drawn, strict=True):
        assert completion.ids == by_hand(model, prompt, sampling, seed, stop=range(12))[0]


PREFIX = [(7 * i) % 61 + 3 for i in range(20)]


@pytest.mark.parametrize("last", [PREFIX, [*PREFIX[:-2], 50, 51, 52, 53, 54, 55]])
@pytest.mark.parametrize("build", [llama, gemma])
def test_a_shared_prefix_changes_nothing(build, last):
    model, prompts = build(), [[*PREFIX, 5], [*PREFIX, 6, 7, 8, 9], last]
    for sampling in SAMPLINGS[::2]:
        drawn = LocalEngine(model, stop=STOP).generate(prompts, sampling=sampling, seeds=SEEDS[:3])
        for prompt, seed, completion in zip(prompts, SEEDS, drawn, strict=False):
            assert completion.ids == by_hand(model, prompt, sampling, seed)[0]


def test_a_shared_prefix_is_read_once(model, reads):
    prefix = list(range(3, 33))
    LocalEngine(model, stop=STOP).generate(
        [[*prefix, 5], [*prefix, 6, 7]], sampling=Sampling(max_new=1), seeds=[0, 1]
    )
    assert reads == [([0], [30]), ([0, 1], [2, 1])]  # the longer one is in the first row


def test_a_dialogue_is_read_from_where_it_ended(model, reads):
    local = LocalEngine(model, stop=[])
    sampling = Sampling(max_new=6)
    with local.remembering():
        said = local.generate(PROMPTS[:2], sampling=sampling, seeds=SEEDS[:2])
        longer = [[*prompt, *one.ids, 50, 51] for prompt, one in zip(PROMPTS, said, strict=False)]
        reads.clear()
        again = local.generate(longer[::-1], sampling=sampling, seeds=SEEDS[:2])
    # The last id that was drawn had not been read, so that three are new to each.
    assert reads[0] == ([0, 1], [3, 3])
    fresh = LocalEngine(model, stop=[]).generate(longer[::-1], sampling=sampling, seeds=SEEDS[:2])
    assert [one.ids for one in again] == [one.ids for one in fresh]
    assert again[0].logprobs == pytest.approx(fresh[0].logprobs, abs=CLOSE)
    assert local.generate(longer, sampling=sampling, seeds=SEEDS[:2]) == local.generate(
        longer, sampling=sampling, seeds=SEEDS[:2]
    )  # to the bit: outside, nothing is remembered


def test_blocks_of_remembering_within_one_another_remember_together(model, reads):
    local = LocalEngine(model, stop=[])
    with local.remembering():
        with local.remembering():
            (said,) = local.generate(PROMPTS[:1], sampling=Sampling(max_new=6), seeds=SEEDS[:1])
        reads.clear()
        with local.remembering():
            local.generate([[*PROMPTS[0], *said.ids, 50]], sampling=Sampling(max_new=6), seeds=SEEDS[:1])
    assert reads[0] == ([0], [2])  # the last id that was drawn, and what follows it
    assert local._known == []


def test_what_was_remembered_is_forgotten_when_a_weight_changes():
    net = llama()
    local = LocalEngine(net, stop=[], kept=1000)
    before = local.generate([PREFIX], sampling=Sampling(0, max_new=5), seeds=[0])
    with torch.no_grad():
        net.model.layers[0].self_attn.k_proj.weight.add_(0.5)
    after = local.generate([PREFIX], sampling=Sampling(0, max_new=5), seeds=[0])
    assert after == LocalEngine(net, stop=[]).generate([PREFIX], sampling=Sampling(0, max_new=5), seeds=[0])
    assert after != before


@torch.inference_mode()
def test_a_model_that_was_made_for_inference_alone_is_drawn_from():
    net = llama()
    assert next(net.parameters()).is_inference()
    local = LocalEngine(net, stop=[], kept=100)
    given = {"sampling": Sampling(0, max_new=5), "seeds": [0]}
    assert local.generate([PREFIX], **given)[0].ids == by_hand(net, PREFIX, given["sampling"], 0, stop=[])[0]


def test_no_more_is_remembered_than_was_allowed(model):
    local = LocalEngine(model, stop=[], kept=60)
    for first in range(12, 30):
        local.generate([[first, 5, 6, 7]], sampling=Sampling(max_new=16), seeds=[0])
    # Of each 4 and 15 tokens were read: three of them are 57.
    assert [one.tokens[0][0] for one in local._known] == [27, 28, 29]


def test_a_dialogue_goes_on_in_its_rows(model):
    local, sampling = LocalEngine(model, stop=[]), Sampling(max_new=6)
    with local.remembering():
        said = local.generate(PROMPTS[:2], sampling=sampling, seeds=SEEDS[:2])
        (rows,) = local._known
        longer = [[*prompt, *one.ids, 50] for prompt, one in zip(PROMPTS, said, strict=False)]
        local.generate(longer, sampling=sampling, seeds=SEEDS[:2])
        assert local._known == [rows]
    assert local._known == []


def test_equal_prompts_are_read_once_and_answered_by_their_seeds(model):
    engine = LocalEngine(model, stop=[])
    drawn = engine.generate([PROMPTS[0]] * 6, sampling=Sampling(max_new=12), seeds=[0, 1, 2, 3, 4, 0])
    assert drawn[0].ids == drawn[5].ids
    assert len({completion.ids for completion in drawn}) == 5


def test_streamed_ids_are_those_of_a_batch(model):
    engine = LocalEngine(model, stop=STOP)
    for sampling in SAMPLINGS:
        ids, completion = drained(engine.stream(PROMPTS[2], sampling=sampling, seed=3))
        assert [completion] == engine.generate([PROMPTS[2]], sampling=sampling, seeds=[3])
        assert tuple(ids) == completion.ids


def drained(stream):
    items = []
    while True:
        try:
            items.append(next(stream))
        except StopIteration as end:
            return items, end.value


def test_greedy_takes_the_most_probable_id_at_every_step(model):
    (drawn,) = LocalEngine(model, stop=[]).generate([PROMPTS[2]], sampling=Sampling(0, max_new=10), seeds=[0])
    ids = list(PROMPTS[2])
    for _ in range(10):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert list(drawn.ids) == ids[len(PROMPTS[2]) :]


def test_the_most_probable_one_of_one_is_greedy(model):
    engine = LocalEngine(model, stop=STOP)
    greedy = engine.generate(PROMPTS, sampling=Sampling(0, max_new=20), seeds=SEEDS)
    first = engine.generate(PROMPTS, sampling=Sampling(1.0, 1.0, 1, 20), seeds=[9] * 5)
    assert [c.ids for c in first] == [c.ids for c in greedy]
    assert first[0].logprobs == pytest.approx(greedy[0].logprobs, abs=CLOSE)


def test_a_stop_token_ends_a_completion_and_belongs_to_it(model):
    (free,) = LocalEngine(model, stop=[]).generate([[5, 6]], sampling=Sampling(max_new=16), seeds=[0])
    assert (len(free.ids), free.finish) == (16, "length")
    stop = free.ids[9]
    (ended,) = LocalEngine(model, stop=[66, stop]).generate(
        [[5, 6]], sampling=Sampling(max_new=16), seeds=[0]
    )
    end = free.ids.index(stop) + 1
    assert (ended.ids, ended.finish) == (free.ids[:end], "stop")
    assert len(ended.logprobs) == end


# ------------------------------------------------------------------------------------------ one token

HAND = torch.tensor([[0.1, 0.4, 0.05, 0.2, 0.25]])


@pytest.mark.parametrize(
    ("top_p", "top_k", "kept"),
    [
        (1.0, 0, [0, 1, 2, 3, 4]),
        (0.3, 0, [1]),
        (0.6, 0, [1, 4]),
        (0.7, 0, [1, 3, 4]),
        (0.97, 0, [0, 1, 2, 3, 4]),
        (1.0, 2, [1, 4]),
        (1.0, 9, [0, 1, 2, 3, 4]),
        (0.6, 2, [1]),  # 0.4 is 0.615 of the 0.65 that top-k leaves
        (0.62, 2, [1, 4]),
    ],
)
def test_truncation_keeps_the_smallest_set_that_holds_top_p(top_p, top_k, kept):
    p = truncated(HAND.log(), Sampling(top_p=top_p, top_k=top_k))[0]
    assert p.nonzero()[:, 0].tolist() == kept
    torch.testing.assert_close(p[kept], HAND[0, kept])


def test_a_top_p_set_wider_than_the_candidates_is_found(monkeypatch):
    monkeypatch.setattr(choosing, "CANDIDATES", 2)
    logprobs = torch.randn(3, 1000, generator=torch.manual_seed(0)).log_softmax(1)
    p = truncated(logprobs, Sampling(top_p=0.9))
    assert bool((p.sum(1) >= 0.9).all())
    least = torch.where(p > 0, p, 2.0).amin(1)
    assert bool((p.sum(1) - least < 0.9).all())
    assert bool((torch.where(p > 0, -1.0, logprobs.exp()).amax(1) <= least).all())


def test_drawing_follows_the_probabilities():
    uniforms = torch.from_numpy(
        np.array([seeds.array(s, "sample").random(dtype=np.float32) for s in range(20000)])
    )
    counts = draw((7 * HAND).expand(20000, 5), uniforms).bincount(minlength=5)
    expected = 20000 * HAND[0]
    # 18.47: chi-square with 4 degrees of freedom exceeds it once in a thousand times.
    assert float(((counts - expected) ** 2 / expected).sum()) < 18.47


def test_drawing_never_leaves_the_kept_set():
    p = torch.tensor([[0.0, 0.3, 0.0, 0.2, 0.0]]).expand(4, 5)
    ends = torch.tensor([0.0, 0.599, 0.601, 1 - 2**-24])
    assert draw(p, ends).tolist() == [1, 1, 3, 3]


def test_logits_that_are_no_numbers_are_refused():
    broken = llama()
    broken.lm_head.weight.data[3] = torch.nan
    with pytest.raises(ModelError, match="no numbers"):
        LocalEngine(broken, stop=[]).generate([[5]], sampling=Sampling(max_new=1), seeds=[0])


# ---------------------------------------------------------------------------- what is left as it was


def test_the_model_is_left_as_it_was():
    model = adapted().train()
    model.base_model.model.model.layers[0].eval()
    frozen = [p for name, p in model.named_parameters() if "lora_A" in name]
    for parameter in frozen:
        parameter.requires_grad_(False)
    state = [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]
    engine = LocalEngine(model, stop=STOP)
    for each in (engine, LocalEngine(model, stop=STOP, adapters=False)):
        each.generate(PROMPTS, sampling=Sampling(max_new=3), seeds=SEEDS)
        tokens = each.stream(PROMPTS[0], sampling=Sampling(max_new=3), seed=0)
        next(tokens)  # and between two tokens of a stream
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        now = [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]
        assert now == state
        assert len(list(tokens)) <= 2
    assert model(input_ids=torch.tensor([[1, 2]])).logits.requires_grad


def test_dropout_is_off_while_sampling():
    model = get_peft_model(
        llama(), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, lora_dropout=0.9)
    ).train()
    sampling = Sampling(0, max_new=12)
    (drawn,) = LocalEngine(model, stop=[]).generate([PROMPTS[0]], sampling=sampling, seeds=[0])
    assert drawn.ids == by_hand(model.eval(), PROMPTS[0], sampling, 0, stop=[])[0]


def test_without_adapter_the_start_model_is_drawn_from():
    model, start = adapted(), llama()
    sampling = Sampling(max_new=24)
    on = LocalEngine(model, stop=STOP)
    expected = LocalEngine(start, stop=STOP).generate(PROMPTS, sampling=sampling, seeds=SEEDS)
    off = LocalEngine(model, stop=STOP, adapters=False).generate(PROMPTS, sampling=sampling, seeds=SEEDS)
    assert [c.ids for c in off] == [c.ids for c in expected]
    assert [c.ids for c in on.generate(PROMPTS, sampling=sampling, seeds=SEEDS)] != [c.ids for c in expected]


@pytest.mark.parametrize("build", [llama, adapted])
def test_autocast_draws_with_the_logprobs_of_autocast_scoring(build):
    model = build()
    drawn = LocalEngine(model, stop=STOP, autocast=True).generate(
        PROMPTS, sampling=Sampling(max_new=20), seeds=SEEDS
    )
    found = torch.tensor([logprob for completion in drawn for logprob in completion.logprobs])
    exact = scored(model, PROMPTS, drawn, 1.0)
    # 0.1: bf16 keeps 8 bits of logits of up to 8 or so; the exact values differ, but not by more.
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0.05)
    assert not torch.allclose(found, exact, atol=1e-5)


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("prompts", "numbers", "error", "words"),
    [
        ([[1], []], [0, 0], UsageError, "prompt 1 is empty"),
        ([[1]], [0, 1], UsageError, "1 prompts came with 2 seeds"),
        ([[1], [1] * 90], [0, 0], ModelError, "prompt 1 has 90 tokens and 7 may follow, .* ends at 96"),
        ([[67]], [0], ModelError, "not below the model's 67"),
    ],
)
def test_prompts_that_cannot_be_continued_are_refused(model, prompts, numbers, error, words):
    with pytest.raises(error, match=words):
        LocalEngine(model, stop=[]).generate(prompts, sampling=Sampling(max_new=7), seeds=numbers)


def test_a_reply_may_end_at_the_last_place_of_the_context(model):
    (drawn,) = LocalEngine(model, stop=[]).generate([[5] * 90], sampling=Sampling(0, max_new=6), seeds=[0])
    assert drawn.ids == by_hand(model, [5] * 90, Sampling(0, max_new=6), 0, stop=[])[0]


def test_models_that_cannot_be_padded_are_refused(model):
    config = MambaConfig(vocab_size=67, hidden_size=16, state_size=4, num_hidden_layers=1)
    with pytest.raises(ModelError, match="MambaForCausalLM"):
        LocalEngine(MambaForCausalLM(config), stop=[])
    soft = get_peft_model(llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ModelError, match="Soft prompts"):
        LocalEngine(soft, stop=[])
    with pytest.raises(ModelError, match="no peft adapter"):
        LocalEngine(model, stop=[], adapters=False)


@pytest.mark.skipif(not float16.here(), reason="needs FBGEMM")
@pytest.mark.parametrize("build", [llama, gemma])
def test_rounded_weights_draw_what_a_rounded_model_draws(build):
    """Twelve at once, one by one, and from a model whose weights are rounded; none of these is what the model
    itself draws with, and that is left as it was."""
    model, sampling, numbers = build(), Sampling(max_new=10), list(range(12))
    prompts = [[*prompt, 12 + n] for n in range(3) for prompt in PROMPTS][:12]
    before = copy.deepcopy(model.state_dict())
    local = LocalEngine(model, stop=STOP, weights="float16")
    found = local.generate(prompts, sampling=sampling, seeds=numbers)
    for number, one in enumerate(found):
        (alone,) = local.generate([prompts[number]], sampling=sampling, seeds=[number])
        assert (alone.ids, alone.finish) == (one.ids, one.finish)
        assert alone.logprobs == pytest.approx(one.logprobs, abs=CLOSE)
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    usual = LocalEngine(model, stop=STOP).generate(prompts, sampling=sampling, seeds=numbers)
    rounded = copy.deepcopy(model)
    if build is gemma:  # its head is the embedding, of which only the head's copy is rounded
        rounded.lm_head.weight = torch.nn.Parameter(rounded.lm_head.weight.clone())
    with torch.no_grad():
        for layer in (one for one in rounded.modules() if isinstance(one, torch.nn.Linear)):
            layer.weight.copy_(layer.weight.half())
    expected = LocalEngine(rounded, stop=STOP).generate(prompts, sampling=sampling, seeds=numbers)
    assert [one.ids for one in found] == [one.ids for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=CLOSE)
    apart = [
        abs(a - b)
        for x, y in zip(found, usual, strict=True)
        for a, b in zip(x.logprobs, y.logprobs, strict=False)
    ]
    assert max(apart) > 3 * CLOSE


@pytest.mark.skipif(not float16.here(), reason="needs FBGEMM")
def test_rounded_weights_follow_those_of_the_model(model):
    local, given = LocalEngine(model, stop=[], weights="float16"), {"sampling": Sampling(0, max_new=6)}
    before = local.generate([PROMPTS[0]], seeds=[0], **given)
    with torch.no_grad():
        model.get_output_embeddings().weight.neg_()
    assert local.generate([PROMPTS[0]], seeds=[0], **given) != before
    with torch.no_grad():
        model.get_output_embeddings().weight.neg_()
    assert local.generate([PROMPTS[0]], seeds=[0], **given) == before


def test_weights_that_cannot_be_rounded_are_refused(model):
    strange = GPT2LMHeadModel(GPT2Config(vocab_size=67, n_embd=8, n_layer=1, n_head=1, n_positions=32))
    with pytest.raises(
        ModelError, match=r"GPT2LMHeadModel has weights in Conv1D, .*leave weights='float16' out"
    ):
        LocalEngine(strange, stop=[], weights="float16")
    with pytest.raises(ModelError, match="is not computed in float32"):
        LocalEngine(model, stop=[], weights="float16", autocast=True)


def test_prompts_that_share_rows_are_alike_in_length_or_find_room_at_once():
    sizes = [i % 10 + 1 for i in range(100)]
    found = tables(sizes, 8)
    assert sorted(itertools.chain(*found)) == list(range(100))
    for some in found:
        longest = sizes[some[0]]
        assert longest == max(sizes[number] for number in some)
        assert len(some) <= 8 or min(sizes[number] for number in some) >= longest / 2
    assert tables([10, 300, 20, 290], 64) == [[1, 3, 2, 0]]
    assert tables([engine.SLOTS, 5, 4], 64) == [[0], [1, 2]]


class Contiguous(torch.nn.Linear):
    """An output projection for contiguous states only: for others torch copies a frozen one per row."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        assert states.is_contiguous()
        return super().forward(states)


def test_the_head_is_given_contiguous_states():
    net = llama()
    old = net.lm_head
    net.lm_head = Contiguous(old.in_features, old.out_features, bias=False)
    net.lm_head.weight = old.weight
    LocalEngine(net, stop=[0]).generate([[5, 6, 7], [8, 9]], sampling=Sampling(max_new=3), seeds=[1, 2])


# --------------------------------------------------------------------------------- how it may be drawn


def told(model, sampling, prompt=PREFIX, seed=3, **options):
    return LocalEngine(model, stop=STOP).generate([prompt], sampling=sampling, seeds=[seed], **options)[0]


def test_a_reply_does_not_stop_before_it_may(model):
    drawn = [
        LocalEngine(model, stop=range(30)).generate(
            [prompt] * 8, sampling=Sampling(max_new=12, min_new=6), seeds=range(8)
        )
        for prompt in PROMPTS
    ]
    lengths = [len(one.ids) for some in drawn for one in some]
    assert min(lengths) == 6  # the stop token may be the sixth
    assert all(not set(one.ids[:5]) & set(range(30)) for some in drawn for one in some)


def test_min_p_keeps_what_is_near_the_most_probable():
    for options, kept in [
        ({"min_p": 0.49}, [1, 3, 4]),  # 0.2 is half of 0.4
        ({"min_p": 0.51}, [1, 4]),
        ({"min_p": 0.51, "top_k": 3}, [1, 4]),
        ({"min_p": 0.3, "top_p": 0.6}, [1, 4]),
        ({"min_p": 1.0}, [1]),
    ]:
        assert truncated(HAND.log(), Sampling(**options))[0].nonzero()[:, 0].tolist() == kept


def test_penalties_are_those_of_their_formulas():
    from turnsmith.sample.choosing import Penalties

    sampling = Sampling(repetition_penalty=2.0, frequency_penalty=0.5, presence_penalty=0.25)
    penalties = Penalties(3, 4, torch.device("cpu"))
    penalties.begin(1, [0, 2], sampling)
    for id in (3, 3, 0):
        penalties.take(1, id)
    # Seen are 0, 2 and 3, of which the reply has 0 once and 3 twice.
    found = penalties.adjusted([1], torch.tensor([[1.0, 5.0, -2.0, 4.0]]))
    assert found.tolist() == [[0.5 - 0.5 - 0.25, 5.0, -4.0, 2.0 - 1.0 - 0.25]]
    penalties.swap(1, 2)
    assert penalties.adjusted([2], torch.tensor([[1.0, 5.0, -2.0, 4.0]])).tolist() == found.tolist()
    penalties.begin(2, [1], sampling)
    assert penalties.adjusted([2], torch.ones(1, 4)).tolist() == [[1.0, 0.5, 1.0, 1.0]]


def test_log_probs_are_those_before_penalties(model):
    sampling = Sampling(0.8, max_new=16, repetition_penalty=1.7, presence_penalty=1.0)
    drawn = LocalEngine(model, stop=STOP).generate(PROMPTS, sampling=sampling, seeds=SEEDS)
    plain = LocalEngine(model, stop=STOP).generate(PROMPTS, sampling=Sampling(0.8, max_new=16), seeds=SEEDS)
    assert [one.ids for one in drawn] != [one.ids for one in plain]
    found = torch.tensor([logprob for one in drawn for logprob in one.logprobs])
    torch.testing.assert_close(found, scored(model, PROMPTS, drawn, 0.8), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("rows", [2, 8])
def test_a_penalised_reply_does_not_depend_on_its_batch(model, rows):
    sampling = Sampling(max_new=16, repetition_penalty=1.7, frequency_penalty=0.5)
    local = LocalEngine(model, stop=range(9), rows=rows)
    drawn = local.generate(PROMPTS * 2, sampling=sampling, seeds=range(10))
    for number, prompt in enumerate(PROMPTS * 2):
        assert local.generate([prompt], sampling=sampling, seeds=[number])[0].ids == drawn[number].ids


def test_replies_can_be_ended_by_the_caller(model):
    from threading import Event

    cancel, seen = Event(), []

    def ends(ids):
        seen.append(len(ids))
        if len(ids) == 5:
            cancel.set()
        return False

    drawn = LocalEngine(model, stop=[], rows=2).generate(
        PROMPTS[:3], sampling=Sampling(max_new=12), seeds=[1, 2, 3], ends=ends, cancel=cancel
    )
    assert sorted(len(one.ids) for one in drawn) == [0, 5, 5]
    assert {one.finish for one in drawn} == {"cancelled"}


def test_adapters_may_differ_in_one_batch():
    model = get_peft_model(
        llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False), "one"
    )
    model.add_adapter("two", LoraConfig(r=2, target_modules=["k_proj"], init_lora_weights=False))
    model.eval()
    local = LocalEngine(model, stop=STOP)
    names, sampling = ["one", "two", "", "two", "one"], Sampling(max_new=12)
    same = [PREFIX] * 5  # and equal prompts are not the same to different readers
    for prompts in (PROMPTS, same):
        mixed = local.generate(prompts, sampling=sampling, seeds=SEEDS, adapters=names)
        for prompt, seed, name, one in zip(prompts, SEEDS, names, mixed, strict=True):
            if name:
                model.set_adapter(name)
            alone = local if name else LocalEngine(model, stop=STOP, adapters=False)
            expected = alone.generate([prompt], sampling=sampling, seeds=[seed])[0]
            assert one.ids == expected.ids
            assert one.logprobs == pytest.approx(expected.logprobs, abs=CLOSE)
    with pytest.raises(UsageError, match="no adapter 'three'; it has 'one', 'two'"):
        local.generate(PROMPTS, sampling=sampling, seeds=SEEDS, adapters=["three"] * 5)


class Guesses:
    """Guesses what a given reply goes on with, wrong at every third place."""

    def __init__(self, ids, most=4):
        self.ids, self.most = ids, most

    def guess(self, rows, news, uniforms, sampling):
        found = []
        for row, _ in enumerate(news):
            drawn = len(rows.tokens[row]) + 1 - len(PREFIX)
            right = self.ids[drawn : drawn + self.most]
            found.append([66 if (drawn + i) % 3 == 0 else id for i, id in enumerate(right)])
        return found

    def swap(self, one, other):
        pass


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_guesses_change_the_passes_and_not_the_tokens(model, reads, temperature):
    sampling = Sampling(temperature, 0.95, max_new=30)
    plain = LocalEngine(model, stop=[]).generate([PREFIX], sampling=sampling, seeds=[4])[0]
    passes = len(reads)
    guessed = LocalEngine(model, stop=[], drafter=Guesses(plain.ids)).generate(
        [PREFIX], sampling=sampling, seeds=[4]
    )[0]
    assert guessed.ids == plain.ids
    assert guessed.logprobs == pytest.approx(plain.logprobs, abs=CLOSE)
    assert len(reads) - passes <= passes / 2
