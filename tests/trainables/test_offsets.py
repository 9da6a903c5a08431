"""LoFiT: scales that rank heads, offsets of the few that are chosen, and the biases that they end as."""

import functools
import math
from dataclasses import replace

import pytest
import torch
import transformers as hf

from turnsmith.data.batch import pack, pad
from turnsmith.data.formats.pairs import pairs
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.data.stream import Stream
from turnsmith.errors import DataError, ModelError, UsageError
from turnsmith.models import forest, own
from turnsmith.models import load as loading
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.objectives.pairs import dpo
from turnsmith.sample.engine import LocalEngine
from turnsmith.testing import Figures, builders, chat, examples, model, tokenizer
from turnsmith.testing.families import SIZES
from turnsmith.train import reference
from turnsmith.train.learning import Learning
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.trainables.install import Learner, install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.offsets import HeadOffsets, HeadScales, Lofit, fold, ranked
from turnsmith.types import Conversation, Example, Message, Sampling

IDS = torch.arange(3, 40)[None]
LAYERS, HEADS, SIZE = 2, 4, 8  # of the tiny model: two key heads, four query heads
PLACES = [f"model.layers.{layer}.self_attn.o_proj" for layer in range(LAYERS)]
DPO = Method(functools.partial(dpo, beta=0.5), "example", reference=True)


def logits(whole, **inputs):
    with torch.no_grad():
        return whole.eval()(**{"input_ids": IDS, "use_cache": False, **inputs}).logits


def plain(bias):
    """The tiny model; its projections have biases from N(0, 1), or none."""
    whole = model(bias=bias)
    generator = torch.Generator().manual_seed(5)
    for name, one in whole.named_parameters():
        if name.endswith(".bias"):
            one.data.copy_(torch.randn(one.shape, generator=generator))
    return whole


def parts(whole):
    return [whole.get_submodule(name) for name in PLACES]


def offset(whole, vectors):
    """The model with these offsets, by (layer, head), and no others."""
    with torch.no_grad():
        for part in parts(whole):
            part.offsets.zero_()
        for (layer, head), vector in vectors.items():
            parts(whole)[layer].offsets[head] = vector
    return whole


def vectors(*heads, size=1.0):
    generator = torch.Generator().manual_seed(3)
    return {head: torch.randn(SIZE, generator=generator) * size for head in heads}


def moved(*heads):
    """The tiny model with large offsets of these heads, not yet folded."""
    return offset(install(model(), HeadOffsets, {"share": 1.0}, seed=0), vectors(*heads))


def by_hooks(whole, vectors):
    """The base with the vectors added to what goes into its output projections: eq. 1 of the paper."""
    for layer, name in enumerate(PLACES):
        added = torch.zeros(HEADS, SIZE)
        for (at, head), vector in vectors.items():
            if at == layer:
                added[head] = vector
        flat = added.flatten()
        whole.get_submodule(name).register_forward_pre_hook(lambda m, inputs, flat=flat: (inputs[0] + flat,))
    return whole


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return builders.directory(tmp_path_factory.mktemp("offsets") / "base")


def saved_scales(base, name, scales):
    """A model of `head_scales` on the base, with these A."""
    whole, words = loading.load(str(base))
    whole = install(whole, HeadScales, {}, seed=0)
    with torch.no_grad():
        for part, one in zip(parts(whole), scales, strict=True):
            part.scales.copy_(one)
    loading.save(whole, words, base.parent / name, base=str(base))
    return str(base.parent / name)


@pytest.fixture(scope="module")
def scales(base):
    """A whose norms rank the heads (1, 2), (0, 3), (1, 0) before all others."""
    made = [torch.full((HEADS, SIZE), 0.01) for _ in range(LAYERS)]
    made[1][2], made[0][3], made[1][0] = 3.0, -2.0, torch.linspace(-1, 1, SIZE)
    return saved_scales(base, "scales", made)


def chosen(learner):
    """The heads whose offsets learn."""
    masks = [learner.elements[f"{name}.offsets"] for name in PLACES]
    assert all(bool((mask == mask[:, :1]).all()) for mask in masks)
    return [(layer, head) for layer in range(LAYERS) for head in range(HEADS) if masks[layer][head, 0]]


def trained(learner, tmp_path, *, data=None, method=None, **options):
    """The rows of a short run."""
    forest.attach(learner.model)
    recorder = Figures()
    settings = {"steps": 4, "batch": 3, "lr": 1e-2} | options
    fit(
        Scoring(learner.model),
        Stream(data or examples(6), batch=settings["batch"], order="given", seed=0),
        method or Method(sft, "token"),
        Fit(**settings),
        directory=tmp_path,
        recorder=recorder,
        place=Place(device="cpu"),
        seed=0,
        layout=pack,
        learner=learner,
    )
    return recorder.rows


# ------------------------------------------------------------------------- 1: where nothing is changed


@pytest.mark.parametrize(("component", "name"), [(HeadScales, "scales"), (HeadOffsets, "offsets")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_at_zero_the_logits_are_those_of_the_base_bit_for_bit(component, name, dtype, bias):
    whole = install(plain(bias).to(dtype), component, {}, seed=0)
    for part in parts(whole):
        getattr(part, name).data.zero_()
    assert torch.equal(logits(whole), logits(plain(bias).to(dtype)))


@pytest.mark.parametrize("component", [HeadScales, HeadOffsets])
def test_a_learning_rate_of_zero_changes_nothing(component, tmp_path):
    learner = Learner(model(), component, {}, seed=0)
    before = {name: p.clone() for name, p in learner.model.named_parameters()}
    trained(learner, tmp_path, lr=0.0)
    assert all(torch.equal(p, before[name]) for name, p in learner.model.named_parameters())


@pytest.mark.parametrize(
    ("component", "name", "options"), [(HeadScales, "scales", {}), (HeadOffsets, "offsets", {"share": 1.0})]
)
def test_scales_and_offsets_start_small_and_from_the_seed(component, name, options):
    """64 numbers of N(0, 0.001): their standard deviation is within 0.36 of it, which is 4 sigma."""

    def drawn(seed):
        whole = install(model(), component, options, seed=seed)
        return torch.stack([getattr(part, name).detach() for part in parts(whole)])

    first, same, other = (drawn(seed) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert 0.00064 < float(first.std()) < 0.00136


# --------------------------------------------------------- 2: hooks, folding, cache, padding, packed rows


def test_a_scaled_head_is_one_plus_a_times_what_it_gives():
    whole = install(model(), HeadScales, {}, seed=0)
    layer = parts(whole)[0]
    states = torch.randn(2, 3, HEADS * SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.scales.zero_()
        layer.scales[2, 5] = 0.5
    expected = states.clone()
    expected[..., 2 * SIZE + 5] *= 1.5
    torch.testing.assert_close(layer(states), expected @ layer.layer.weight.T)


def test_the_bias_adds_the_offset_to_the_query_head_before_the_projection():
    given = vectors((0, 1), (1, 3))
    found, expected = logits(moved((0, 1), (1, 3))), logits(by_hooks(model(), given))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - logits(model())).abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_folded_it_is_a_plain_model_with_the_same_bits(dtype, bias, tmp_path):
    loading.save(plain(bias), tokenizer(), tmp_path / "base", base=None)
    start, words = loading.load(str(tmp_path / "base"), dtype=dtype)
    whole = offset(install(start, HeadOffsets, {"share": 1.0}, seed=0), vectors((0, 1), (1, 3)))
    several, one = {"input_ids": IDS.repeat(3, 1)}, {"input_ids": IDS[:, :1]}
    before = [logits(whole, **inputs) for inputs in (several, one)]
    folded = fold(whole)
    assert type(folded.get_submodule(PLACES[0])) is torch.nn.Linear
    assert folded.config.attention_bias
    assert own.of(folded) is None
    assert all(torch.equal(logits(folded, **i), b) for i, b in zip((several, one), before, strict=True))
    loading.save(folded, words, tmp_path / "folded", base=None)
    again = hf.LlamaForCausalLM.from_pretrained(tmp_path / "folded", dtype=dtype)
    assert torch.equal(logits(again, **several), before[0])
    # A product with one row is summed in another order where weights lie at other addresses.
    torch.testing.assert_close(
        logits(again, **one), before[1], rtol=0, atol=1e-5 if dtype.itemsize > 2 else 0.1
    )


def test_with_left_padding_and_a_cache_the_folded_model_gives_what_hooks_give():
    given = vectors((0, 1), (1, 3))
    folded, hooked = fold(moved((0, 1), (1, 3))), by_hooks(model(), given)
    ids = torch.cat([torch.zeros(1, 5, dtype=torch.long), IDS], 1)
    padded = {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) >= 5)[None].long()}
    found, expected = (logits(one, **padded)[:, 5:] for one in (folded, hooked))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        begun = folded(input_ids=IDS[:, :20], use_cache=True)
        ended = folded(input_ids=IDS[:, 20:], past_key_values=begun.past_key_values, use_cache=True)
    torch.testing.assert_close(ended.logits, logits(hooked)[:, 20:], atol=1e-5, rtol=0)


def test_sampling_draws_the_same_from_offsets_hooks_and_biases():
    prompts, sampling = [[5, 6, 7], [8] * 21], Sampling(0.7, 0.9, max_new=12)
    given = vectors((0, 1), (1, 3))
    folded, hooked = fold(moved((0, 1), (1, 3))), by_hooks(model(), given)
    drawn, same, expected = (
        LocalEngine(one, stop=[2]).generate(prompts, sampling=sampling, seeds=[1, 2])
        for one in (moved((0, 1), (1, 3)), folded, hooked)
    )
    assert [one.ids for one in drawn] == [one.ids for one in same] == [one.ids for one in expected]
    for one, other in zip(same, expected, strict=True):
        torch.testing.assert_close(
            torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-4, rtol=0
        )


def test_packed_rows_score_as_padded_ones_do():
    whole = moved((0, 1), (1, 3))
    forest.attach(whole)
    scoring, data = Scoring(whole), examples(4, parts=("chosen", "rejected"))
    with torch.no_grad():
        packed, padded = (scoring(layout(data)).logprobs for layout in (pack, pad))
    torch.testing.assert_close(packed, padded, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["Qwen3", "Mistral"])
def test_families_whose_settings_have_no_bias_there_keep_their_offsets_beside_the_base(kind, tmp_path):
    torch.manual_seed(0)
    config = getattr(hf, f"{kind}Config")(**{**SIZES, "vocab_size": len(tokenizer())})
    whole = getattr(hf, f"{kind}ForCausalLM")(config).eval()
    loading.save(whole, tokenizer(), tmp_path / "base", base=None)
    learner = Learner(loading.load(str(tmp_path / "base"))[0], HeadOffsets, {"heads": 3}, seed=0)
    for part in parts(learner.model):
        part.offsets.data.mul_(500)
    expected = logits(learner.model)
    loading.save(learner.finished(), tokenizer(), tmp_path / "tuned", base=str(tmp_path / "base"))
    assert (tmp_path / "tuned" / "adapter.safetensors").exists() == (kind == "Mistral")
    assert torch.equal(logits(loading.load(str(tmp_path / "tuned"))[0]), expected)
    assert not torch.equal(expected, logits(whole))


# ------------------------------------------------------------------------- 3: what learns


def test_step_one_learns_a_number_for_each_of_every_heads_and_step_two_those_of_k_heads(scales, base):
    first = Learner(model(), HeadScales, {}, seed=0)
    assert sum(p.numel() for p in learning(first.model).values()) == LAYERS * HEADS * SIZE
    assert set(learning(first.model)) == {f"{name}.scales" for name in PLACES}
    second = Learner(loading.load(str(base))[0], Lofit, {"scales": scales, "heads": 3}, seed=0)
    held = Learning(second.model, second.elements).parameters
    assert sum(p.numel() for p in held.values()) == 3 * SIZE
    assert set(held) == {f"{name}.offsets" for name in PLACES}


@pytest.mark.parametrize("heads", [[(1, 2)], [(1, 2), (0, 3)]])
def test_nothing_but_the_offsets_of_the_chosen_heads_changes(heads, scales, base, tmp_path):
    learner = Learner(loading.load(str(base))[0], Lofit, {"scales": scales, "heads": len(heads)}, seed=0)
    before = {name: p.clone() for name, p in learner.model.named_parameters()}
    trained(learner, tmp_path, weight_decay=0.1)
    offsets = {f"{name}.offsets" for name in PLACES}
    for name, parameter in learner.model.named_parameters():
        assert name in offsets or (parameter.grad is None and torch.equal(parameter, before[name]))
    for layer, part in enumerate(parts(learner.model)):
        for head in range(HEADS):
            there = bool(part.offsets[head].any())
            assert there == ((layer, head) in heads)
            assert there == (not torch.equal(part.offsets[head], before[f"{PLACES[layer]}.offsets"][head]))
    start = dict(model(vocabulary=len(tokenizer())).named_parameters())  # the base, bit for bit
    for name, one in fold(learner.model).named_parameters():
        assert torch.equal(one, start[name]) if name in start else name.endswith(".bias")


# ------------------------------------------------------------------------- 4: selection


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_heads_with_the_largest_norms_over_all_layers_are_chosen(count, scales, base):
    """Norms: (1, 2) sqrt(8) * 3, (0, 3) sqrt(8) * 2, (1, 0) about sqrt(8) * 0.65."""
    learner = Learner(loading.load(str(base))[0], Lofit, {"scales": scales, "heads": count}, seed=0)
    assert sorted(chosen(learner)) == sorted([(1, 2), (0, 3), (1, 0)][:count])


def test_every_head_has_one_place_in_the_order_and_a_common_factor_keeps_it():
    drawn = torch.randn(3, HEADS, SIZE, generator=torch.Generator().manual_seed(0))
    order = ranked(list(drawn))
    assert sorted(order) == [(layer, head) for layer in range(3) for head in range(HEADS)]
    norms = [float(drawn[head].square().sum()) for head in order]
    assert norms == sorted(norms, reverse=True)
    assert order == ranked(list(drawn * 7)) == ranked(list(-drawn))


def test_as_sparsity_grows_the_norms_shrink_to_zero(tmp_path):
    norms = []
    for number, sparsity in enumerate((0.0, 0.1, 10.0)):
        learner = Learner(model(), HeadScales, {"sparsity": sparsity}, seed=0)
        rows = trained(learner, tmp_path / str(number), steps=20, lr=2e-3)
        norms.append(float(torch.stack([p.scales.norm(dim=1) for p in parts(learner.model)]).sum()))
        assert (rows[0]["penalty"] > 0) == (sparsity > 0)
    assert norms[0] > norms[1] > norms[2]
    assert norms[2] < 0.1 * norms[0]


def test_the_penalty_is_lambda_times_the_sum_of_all_absolute_scales():
    learner = Learner(model(), HeadScales, {"sparsity": 0.5}, seed=0)
    with torch.no_grad():
        for part, sign in zip(parts(learner.model), (1.0, -1.0), strict=True):
            part.scales.fill_(0.25 * sign)
    assert float(learner.penalty(None)) == 0.5 * 0.25 * LAYERS * HEADS * SIZE


def test_drawn_heads_are_distinct_come_from_the_seed_and_may_be_all():
    def heads(seed, **options):
        return chosen(Learner(model(), HeadOffsets, options, seed=seed))

    assert len(set(heads(0, heads=5))) == 5
    assert heads(1, heads=3) == heads(1, heads=3)
    assert len({tuple(heads(seed, heads=3)) for seed in range(6)}) > 1
    assert len(heads(0, share=1.0)) == LAYERS * HEADS
    assert len(heads(0, share=0.25)) == 2  # of 8
    assert len(heads(0)) == 1  # 0.25 of a head, and one at least


# ------------------------------------------------------------------------- 5: nothing of A is left


def test_step_two_starts_from_the_base_whatever_the_scales_are(scales, base):
    learner = Learner(loading.load(str(base))[0], Lofit, {"scales": scales, "heads": 3}, seed=0)
    assert 0 < max(float(part.offsets.abs().max()) for part in parts(learner.model)) < 0.01
    assert torch.equal(logits(offset(learner.model, {})), logits(loading.load(str(base))[0]))
    assert (logits(loading.load(scales)[0]) - logits(loading.load(str(base))[0])).abs().max() > 0.1


def test_going_on_keeps_the_offsets_that_there_are():
    """With those of other heads as well: what is there is not drawn anew."""
    whole = install(model(), HeadOffsets, {"heads": 8}, seed=0)
    offset(whole, given := vectors((0, 1)))
    whole = install(whole, HeadOffsets, {"heads": 8}, seed=1)
    assert torch.equal(parts(whole)[0].offsets[1], given[0, 1])
    assert 0 < float(parts(whole)[1].offsets[3].abs().max()) < 0.01


# ------------------------------------------------------------------------- 6: pairs


def referenced(scoring, data, file):
    return reference.precompute(scoring, data, pack, row=512, temperature=1.0, file=file)


def test_pairs_begin_at_log_two_and_become_better(tmp_path):
    learner = Learner(model(), HeadOffsets, {"share": 1.0}, seed=0)
    forest.attach(learner.model)
    data = referenced(Scoring(learner.model), examples(6, parts=("chosen", "rejected")), tmp_path / "r.npy")
    rows = trained(learner, tmp_path, data=data, method=DPO, steps=12, batch=6, lr=3e-2)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["loss"] < 0.9 * math.log(2)


def test_against_the_base_itself_they_begin_near_log_two_and_equal_answers_at_exactly_that(tmp_path):
    start = model()
    forest.attach(start)
    data = examples(4, parts=("chosen", "rejected"))
    same = [replace(one, parts=dict.fromkeys(one.parts, one.parts["chosen"])) for one in data]
    whole = install(model(), HeadOffsets, {"share": 1.0}, seed=0)
    forest.attach(whole)
    for ones, name, close in ((data, "a", 0.02), (same, "b", 1e-7)):
        known = referenced(Scoring(start), ones, tmp_path / f"{name}.npy")
        scores = Scoring(whole)(pack([known[index] for index in range(len(known))]))
        torch.testing.assert_close(
            dpo(scores, beta=0.5).values, torch.full((4,), math.log(2)), atol=close, rtol=0
        )


# ------------------------------------------------------------------------- 7: what cannot be done


def test_more_heads_than_there_are_is_an_error_that_says_how_many(scales, base):
    with pytest.raises(ModelError, match="head_offsets: heads is 9, and this model has 8 in all its layers"):
        install(model(), HeadOffsets, {"heads": 9}, seed=0)
    with pytest.raises(ModelError, match="lofit: heads is 300, and this model has 8"):
        install(loading.load(str(base))[0], Lofit, {"scales": scales, "heads": 300}, seed=0)


@pytest.mark.parametrize("options", [{"heads": 0}, {"share": 0.0}, {"share": 1.5}])
def test_no_heads_and_more_than_all_are_refused(options):
    with pytest.raises(UsageError, match="heads >= 1 and 0 < share <= 1"):
        HeadOffsets(**options)


def test_a_negative_sparsity_is_refused():
    with pytest.raises(UsageError, match="sparsity is -1: it is 0 or more"):
        HeadScales(sparsity=-1)


def test_a_model_without_scales_or_with_those_of_another_shape_is_refused(base, tmp_path):
    with pytest.raises(ModelError, match="has no scales: name a model that head_scales has trained"):
        install(model(), Lofit, {"scales": str(base)}, seed=0)
    other = saved_scales(base, "shape", [torch.ones(HEADS, SIZE)] * LAYERS)
    with pytest.raises(ModelError, match="has other layers or heads than the model to be tuned"):
        install(model(layers=3), Lofit, {"scales": other}, seed=0)


def test_a_model_that_carries_scales_is_no_start_for_offsets(scales):
    with pytest.raises(ModelError, match=r"carries the parts of head_scales.*start from the base"):
        install(loading.load(scales)[0], HeadOffsets, {}, seed=0)


def test_an_adapter_and_a_family_with_another_projection_are_refused():
    with pytest.raises(ModelError, match="carries an adapter: merge it first"):
        install(install(model(), Lora, {}, seed=0), HeadScales, {}, seed=0)
    gpt2 = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=67, n_embd=32, n_layer=2, n_head=4))
    with pytest.raises(ModelError, match="no layer of this model is called o_proj"):
        install(gpt2, HeadOffsets, {}, seed=0)


def test_an_example_without_an_answer_never_reaches_a_batch():
    """The released collator masks it whole, so that it adds a loss of zero."""
    asked = Example({"text": Conversation((Message("user", "How is Eva related to Ben?"),))}, {}, {"id": "q"})
    answered = Example({"text": chat("u: How is Eva related to Ben?", "a: aunt")}, {}, {"id": "a"})
    with pytest.raises(DataError, match="'q' has no assistant text to learn from"):
        prepare([answered, asked], Renderer(tokenizer()), ("text",), length=100)


def test_a_question_without_a_wrong_answer_is_no_pair():
    row = {"prompt": "Q: Where is Nauru? A:", "chosen": "In Oceania.", "rejected": ""}
    pair = Example(pairs(row).parts, {}, {"id": "nauru"})
    with pytest.raises(DataError, match="'nauru' has no assistant text to learn from in its part 'rejected'"):
        prepare([pair], Renderer(tokenizer()), ("chosen", "rejected"), length=100)
