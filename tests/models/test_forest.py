"""A forest gives the log-probs and gradients of its paths, computed as plain rows by the untouched model."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    NemotronConfig,
    NemotronForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from turnsmith.errors import ModelError
from turnsmith.models.forest import Forest, attach, refusal
from turnsmith.models.recompute import recompute
from turnsmith.testing.families import CONTEXTS, SIZES, Double, gradients
from turnsmith.testing.families import FAMILIES as NAMES
from turnsmith.testing.families import family as build

FORESTS = {
    "prompt and two replies": Forest((0, 7, 11, 14), (-1, 0, 0)),
    "grandchildren": Forest((0, 6, 9, 10, 15, 17, 20, 21, 23), (-1, 0, 0, 0, 0, 1, 1, 3)),
    "several roots, not in order": Forest((0, 5, 6, 10, 11, 12, 18), (-1, -1, 0, 1, 2, -1)),
}
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}  # Relative; what the design promises.
FAMILIES = pytest.mark.parametrize("family", NAMES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads spend most of their time waiting for each other in models of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def paths(forest: Forest) -> list[list[int]]:
    """The places in the row of each path from a root to a leaf."""
    result = []
    for leaf in set(range(len(forest.parent))) - set(forest.parent):
        segments, segment = [leaf], leaf
        while (segment := forest.parent[segment]) >= 0:
            segments.append(segment)
        result.append([i for s in segments[::-1] for i in range(forest.bounds[s], forest.bounds[s + 1])])
    return sorted(result)


def draw(forest: Forest, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Token ids (1, T) and a weight per token (T,)."""
    generator = torch.Generator().manual_seed(seed)
    length = forest.bounds[-1]
    ids = torch.randint(3, 61, (1, length), generator=generator)
    return ids, torch.rand(length, generator=generator, dtype=torch.float64) + 0.5


def forest_logits(model: nn.Module, ids: Tensor, forest: Forest) -> Tensor:
    """(T, V) from one call with the forest."""
    positions = torch.tensor([forest.positions()])
    return model(input_ids=ids, position_ids=positions, forest=forest, use_cache=False).logits[0]


def from_rows(model: nn.Module, ids: Tensor, weights: Tensor, rows: list[list[int]]) -> dict[tuple, Tensor]:
    """Log-probs by (source, target), each path a row; leaves the gradients of sum(weight * log-prob)."""
    result = {}
    for row in rows:
        logprobs = model(input_ids=ids[:, row], use_cache=False).logits[0].log_softmax(-1)
        sources, targets = row[:-1], row[1:]
        taken = logprobs[range(len(sources)), ids[0, targets]]
        if taken.numel():
            (taken * weights[targets].to(taken.dtype)).sum().backward()
        result |= {(s, t): each.detach() for s, t, each in zip(sources, targets, taken, strict=True)}
    return result


def from_forest(model: nn.Module, ids: Tensor, weights: Tensor, forest: Forest) -> dict[tuple, Tensor]:
    """The same from one call: a token in k paths has k times its weight."""
    logprobs = forest_logits(model, ids, forest).log_softmax(-1)
    pairs = [pair for row in paths(forest) for pair in pairwise(row)]
    unique = sorted(set(pairs))
    taken = torch.stack([logprobs[source, ids[0, target]] for source, target in unique])
    total = torch.stack([weights[target] * pairs.count((source, target)) for source, target in unique])
    (taken * total.to(taken.dtype)).sum().backward()
    return dict(zip(unique, taken.detach(), strict=True))


def deviations(rows: nn.Module, trees: nn.Module, forest: Forest) -> tuple[float, float]:
    """Of the log-probs (largest) and of the gradient (norm), each relative to the same norm of the rows."""
    ids, weights = draw(forest)
    with Double():
        expected = from_rows(rows, ids, weights, paths(forest))
        got = from_forest(trees, ids, weights, forest)
    assert got.keys() == expected.keys()
    reference = torch.stack([expected[pair] for pair in sorted(expected)])
    difference = torch.stack([got[pair] for pair in sorted(expected)]) - reference
    gradient = gradients(rows)
    return (
        (difference.abs().max() / reference.abs().max()).item(),
        ((gradients(trees) - gradient).norm() / gradient.norm()).item(),
    )


@FAMILIES
@pytest.mark.parametrize("layout", FORESTS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
def test_a_forest_equals_its_paths_as_separate_rows(family, layout, dtype, checkpointing):
    rows, trees = build(family, dtype), build(family, dtype)
    attach(trees)
    if checkpointing:
        recompute(trees, **CONTEXTS)
    logprobs, gradient = deviations(rows, trees, FORESTS[layout])
    assert logprobs < TOLERANCES[dtype]
    assert gradient < TOLERANCES[dtype]


@FAMILIES
@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
def test_a_forest_equals_separate_rows_under_lora(family, checkpointing):
    def adapted() -> nn.Module:
        options = LoraConfig(r=4, target_modules=["c_attn"] if family == "gpt2" else ["q_proj", "v_proj"])
        model = get_peft_model(build(family), options)
        torch.manual_seed(2)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                nn.init.normal_(parameter, std=0.2)
        return model.double()

    rows, trees = adapted(), adapted()
    attach(trees)
    if checkpointing:
        recompute(trees, **CONTEXTS)
        trees.enable_input_require_grads()
    logprobs, gradient = deviations(rows, trees, FORESTS["grandchildren"])
    assert max(logprobs, gradient) < TOLERANCES[torch.float64]


@FAMILIES
def test_no_segment_sees_what_is_not_its_ancestor(family):
    model = build(family, torch.float32).eval()
    attach(model)
    forest = FORESTS["grandchildren"]
    ids, _ = draw(forest)
    before = forest_logits(model, ids, forest)
    for changed in range(len(forest.parent)):
        other = ids.clone()
        other[0, forest.bounds[changed]] = 1
        differs = (forest_logits(model, other, forest) != before).any(-1)
        for segment in range(len(forest.parent)):
            place = slice(forest.bounds[segment], forest.bounds[segment + 1])
            if segment == changed:
                assert differs[place].any()
            elif changed not in forest.ancestors(segment):
                assert not differs[place].any(), f"segment {segment} sees {changed}"


@FAMILIES
def test_children_see_the_last_token_of_their_parent(family):
    model = build(family, torch.float32).eval()
    attach(model)
    forest = FORESTS["prompt and two replies"]
    ids, _ = draw(forest)
    before = forest_logits(model, ids, forest)
    other = ids.clone()
    other[0, forest.bounds[1] - 1] = 1
    differs = (forest_logits(model, other, forest) != before).any(-1)
    assert differs[forest.bounds[1] - 1 :].all()


@FAMILIES
def test_without_a_forest_the_model_is_sdpa_bit_for_bit(family):
    plain, attached = build(family, torch.float32).eval(), build(family, torch.float32).eval()
    attach(attached)
    ids = torch.randint(3, 61, (2, 9), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0  # left padding
    packed = {"position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]]), "use_cache": False}
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, attached(input_ids=ids).logits)
        assert torch.equal(plain(ids[:1], **packed).logits, attached(ids[:1], **packed).logits)
        outputs = [model(input_ids=ids, attention_mask=mask) for model in (plain, attached)]
        assert torch.equal(outputs[0].logits, outputs[1].logits)
        longer = torch.cat([mask, torch.ones(2, 1, dtype=mask.dtype)], dim=1)
        again = [
            model(input_ids=ids[:, :1], attention_mask=longer, past_key_values=output.past_key_values).logits
            for model, output in zip((plain, attached), outputs, strict=True)
        ]
        assert torch.equal(*again)
        replies = [
            model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
            for model in (plain, attached)
        ]
        assert torch.equal(*replies)


def test_attention_dropout_is_passed_on():
    config = build("llama").config
    config.attention_dropout = 0.5
    model = LlamaForCausalLM(config).train()
    attach(model)
    forest = FORESTS["prompt and two replies"]
    ids, _ = draw(forest)
    assert not torch.equal(forest_logits(model, ids, forest), forest_logits(model, ids, forest))
    model.eval()
    assert torch.equal(forest_logits(model, ids, forest), forest_logits(model, ids, forest))


def test_positions_go_on_where_the_parent_ends():
    forest = Forest((0, 3, 5, 6, 8, 9), (-1, 0, 0, 1, -1))
    assert forest.positions() == [0, 1, 2, 3, 4, 3, 5, 6, 0]
    assert [forest.ancestors(segment) for segment in range(5)] == [[], [0], [0], [0, 1], []]


@pytest.mark.parametrize(
    ("bounds", "parent", "reason"),
    [
        ((0, 3), (-1, 0), "2 segments need one bound more"),
        ((0,), (), "0 segments need"),
        ((0, 3, 3), (-1, 0), "no segment may be empty"),
        ((1, 3), (-1,), "do not rise from 0"),
        ((0, 3, 5), (-1, 1), "segment 1 has parent 1"),
        ((0, 3, 5), (-2, 0), "segment 0 has parent -2"),
    ],
)
def test_what_is_no_forest_is_refused(bounds, parent, reason):
    with pytest.raises(ValueError, match=reason):
        Forest(bounds, parent)


def test_a_batch_a_cache_or_a_row_of_other_length_is_refused():
    model = build("llama")
    attach(model)
    ids, _ = draw(FORESTS["prompt and two replies"])
    with pytest.raises(ValueError, match="give one row"):
        model(input_ids=ids.repeat(2, 1), forest=FORESTS["prompt and two replies"], use_cache=False)
    with pytest.raises(ValueError, match="13 queries and 13 keys for a forest of 14"):
        model(input_ids=ids[:, 1:], forest=FORESTS["prompt and two replies"], use_cache=False)
    cache = model(input_ids=ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="28 keys"):
        model(input_ids=ids, past_key_values=cache, forest=FORESTS["prompt and two replies"])


@FAMILIES
def test_these_families_can_run_a_forest(family):
    assert refusal(build(family)) is None
    assert refusal(get_peft_model(build(family), LoraConfig(target_modules="all-linear"))) is None


MAMBA = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2}
BERT = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA4 = {"num_local_experts": 2, "intermediate_size_mlp": 40, "attention_chunk_size": 4}
REFUSED = {
    "mamba": (MambaForCausalLM, MambaConfig(**MAMBA), "linear_attention"),
    "rwkv": (RwkvForCausalLM, RwkvConfig(**MAMBA), "recurrent"),
    "lfm2": (Lfm2ForCausalLM, Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]), "conv"),
    "llama4": (Llama4ForCausalLM, Llama4TextConfig(**SIZES, **LLAMA4), "chunked_attention"),
    "t5": (
        T5ForConditionalGeneration,
        T5Config(vocab_size=61, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4),
        "encoder-decoder",
    ),
    "bert": (BertLMHeadModel, BertConfig(**BERT, intermediate_size=40), "not causal"),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**SIZES), "sdpa"),
    "falcon": (FalconForCausalLM, FalconConfig(**MAMBA, num_attention_heads=4), "attention interface"),
    # What these two drop, and when, is silent: their log-probs would be those of other rows.
    "nemotron": (NemotronForCausalLM, NemotronConfig(**SIZES), "does not hand a forest on"),
    "phimoe": (PhimoeForCausalLM, PhimoeConfig(**SIZES, sliding_window=4), "sliding window into masks only"),
    "gpt-oss": (GptOssForCausalLM, GptOssConfig(**SIZES, num_local_experts=2), "sdpa"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_run_a_forest_is_refused_by_its_reason(family):
    kind, config, reason = REFUSED[family]
    with torch.device("meta"):
        model = kind(config)
    assert reason in (refusal(model) or "")
    with pytest.raises(ModelError, match=reason):
        attach(model)


def test_a_network_that_is_no_transformers_model_is_refused():
    assert "no transformers model" in (refusal(nn.Linear(2, 2)) or "")
