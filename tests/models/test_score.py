"""Scores against plain transformers: log-probs, gradients, layouts, and models that are refused."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
)

from turnsmith.data.batch import pack, pad
from turnsmith.errors import ModelError
from turnsmith.models import forest, head
from turnsmith.models.score import Scoring
from turnsmith.testing import examples, model, tokens
from turnsmith.types import Rendered

SIZES = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": None, "initializer_range": 0.3,
}  # fmt: skip


def gemma(kind, config, **options):
    torch.manual_seed(0)
    return kind(config(**SIZES, attn_logit_softcapping=None, final_logit_softcapping=3.0, **options)).eval()


def plain(whole, rendered, temperature=1.0):
    """Log-probs of the trained tokens in order, from one call of the bare model for each sequence."""
    found = []
    for example in rendered:
        for (one,) in example.parts.values():
            ids = torch.tensor(one.inputs, dtype=torch.long)
            logprobs = (whole(input_ids=ids[None]).logits[0].float() / temperature).log_softmax(-1)
            found += [logprobs[at - 1, ids[at]] for at in one.weights.nonzero()[0].tolist()]
    return torch.stack(found)


def packable(whole):
    forest.attach(whole)
    return whole


@pytest.mark.parametrize("layout", [pack, pad])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_plain_transformers_at_the_trained_positions(layout, temperature):
    pairs = examples(4, parts=("chosen", "rejected"))
    with torch.no_grad():
        expected = plain(model(), pairs, temperature)
        found = Scoring(packable(model()))(layout(pairs), temperature=temperature).logprobs
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # sums in another order, fp32


@pytest.mark.parametrize("make", [
    lambda: gemma(Gemma2ForCausalLM, Gemma2Config, query_pre_attn_scalar=8),
    lambda: gemma(Gemma3ForCausalLM, Gemma3TextConfig, query_pre_attn_scalar=8),
])  # fmt: skip
def test_a_cap_on_the_final_logits_is_applied(make):
    whole, data = make(), examples(3)
    expected = plain(whole, data)
    scoring = Scoring(whole.requires_grad_(False))
    torch.testing.assert_close(scoring(pad(data)).logprobs, expected, rtol=0, atol=1e-5)
    uncapped = (scoring.head(scoring.states(pad(data)))).log_softmax(-1)
    chosen = uncapped.gather(1, pad(data).targets[:, None])[:, 0][pad(data).entry]
    assert (chosen - expected).abs().max() > 0.1  # without the cap the test would see nothing


def test_a_cap_keeps_its_gradient_through_a_frozen_head():
    whole = gemma(Gemma3ForCausalLM, Gemma3TextConfig, query_pre_attn_scalar=8)
    data, norm = examples(2), whole.model.norm.weight
    (expected,) = torch.autograd.grad(plain(whole, data).sum(), norm)
    whole.requires_grad_(False)
    norm.requires_grad_(True)
    (found,) = torch.autograd.grad(Scoring(whole)(pad(data)).logprobs.sum(), norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_model_that_scales_its_logits_in_a_way_unknown_here_is_refused():
    sizes = {name: value for name, value in SIZES.items() if name != "head_dim"}
    scaled = CohereForCausalLM(CohereConfig(**sizes, logit_scale=0.5))
    with pytest.raises(ModelError, match="CohereForCausalLM computes its logits in a way that is not known"):
        Scoring(scaled)


def test_a_small_deviation_in_fp32_is_refused_too():
    whole = model()
    original = whole.forward

    def forward(*args, **options):
        out = original(*args, **options)
        out.logits = out.logits * 1.001
        return out

    whole.forward = forward
    with pytest.raises(ModelError, match="not known here"):
        Scoring(whole)


def head_case():
    """States (D, H), a head with bias, targets (D,), and what comes down from the loss (D,)."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(11, 32, generator=generator)
    targets = torch.randint(0, 320, (11,), generator=generator)
    return states, targets, torch.randn(11, generator=generator)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("bias", [False, True])
def test_the_gradient_through_a_frozen_head_is_that_of_autograd_whatever_comes_down(temperature, bias):
    states, targets, upstream = head_case()
    whole = model()
    if bias:
        whole.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, 320))
    state = states.clone().requires_grad_()
    logits = F.linear(state, whole.lm_head.weight, whole.lm_head.bias) / temperature
    expected = -F.cross_entropy(logits, targets, reduction="none")
    (slope,) = torch.autograd.grad(expected @ upstream, state)
    again = states.clone().requires_grad_()
    found = Scoring(whole.requires_grad_(False)).logprobs(again, targets, temperature=temperature)
    (found_slope,) = torch.autograd.grad(found @ upstream, again)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found_slope, slope, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_slabs_of_any_size_give_the_same(monkeypatch, frozen):
    states, targets, upstream = head_case()
    scoring = Scoring(model().requires_grad_(not frozen))
    results = []
    for rows in (1, 4, 1000):
        monkeypatch.setattr(head, "SLAB", 4 * 320 * rows)
        state = states.clone().requires_grad_()
        found = scoring.logprobs(state, targets)
        results.append((found.detach(), torch.autograd.grad(found @ upstream, state)[0]))
    for found, slope in results[1:]:
        torch.testing.assert_close(found, results[0][0], rtol=0, atol=1e-5)
        torch.testing.assert_close(slope, results[0][1], rtol=0, atol=1e-5)


def test_a_head_that_learns_gets_the_gradient_of_autograd():
    whole, data = model(), examples(3)
    expected = torch.autograd.grad(plain(whole, data).sum(), whole.lm_head.weight)[0]
    found = torch.autograd.grad(Scoring(whole)(pad(data)).logprobs.sum(), whole.lm_head.weight)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_batch_without_a_trained_token_has_no_logprobs_and_a_gradient_of_zero(frozen):
    ids = tokens(list(range(3, 12)), 0)
    whole = model()
    whole.lm_head.weight.requires_grad_(not frozen)
    scores = Scoring(whole)(pad([Rendered("empty", {"text": (ids,)})]))
    assert scores.logprobs.shape == (0,)
    scores.logprobs.sum().backward()
    assert not whole.model.layers[0].mlp.up_proj.weight.grad.any()


def test_the_read_out_last_is_the_state_of_each_paths_last_token():
    pairs = examples(2, parts=("chosen", "rejected"))
    whole = model()
    with torch.no_grad():
        ids = [torch.tensor(one.inputs)[None].long() for x in pairs for (one,) in x.parts.values()]
        expected = torch.stack([whole.model(input_ids=each).last_hidden_state[0, -1] for each in ids])
        for layout in (pack, pad):
            found = Scoring(packable(model()))(layout(pairs), reads=("last",)).read["last"]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_an_unknown_read_out_is_an_error():
    with pytest.raises(ValueError, match="no read-out is called 'middle'; there is 'first'"):
        Scoring(model())(pad(examples(1)), reads=("middle",))


def test_reference_extras_reach_the_scores():
    (example,) = examples(1)
    (one,) = example.parts["text"]
    extras = {"reference": (one.weights * 7).astype("float32")}
    batch = pad([Rendered("x", {"text": (replace(one, extras=extras),)})])
    assert Scoring(model())(batch).reference.tolist() == [7.0] * int(one.weights.sum())


def test_autocast_computes_in_bf16_and_gives_fp32_logprobs_near_the_exact_ones():
    data = examples(3)
    adapted = get_peft_model(model().to(torch.bfloat16), LoraConfig(r=4, target_modules="all-linear"))
    scoring = Scoring(adapted, autocast=True)
    found = scoring(pad(data)).logprobs
    assert found.dtype == torch.float32
    expected = plain(model(), data).detach()
    assert (found - expected).abs().max() < 0.5  # 8 bits; a wrong token is off by nats
