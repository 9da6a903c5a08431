"""The lean forward pass gives what transformers gives, and follows the weights."""

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from turnsmith.sample import float16
from turnsmith.sample.engine import LocalEngine
from turnsmith.sample.lean import Lean
from turnsmith.sample.rows import Rows
from turnsmith.types import Sampling

SIZES = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
}
MODELS = {
    "plain": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "biases": (LlamaForCausalLM, LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "a head's size of its own": (LlamaForCausalLM, LlamaConfig(**SIZES, head_dim=12)),
    "a key head for each": (LlamaForCausalLM, LlamaConfig(**SIZES | {"num_key_value_heads": 4})),
    "one key head": (LlamaForCausalLM, LlamaConfig(**SIZES | {"num_key_value_heads": 1})),
    "tied": (LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "scaled rotations": (
        LlamaForCausalLM,
        LlamaConfig(**SIZES, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}),
    ),
    "windows": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=5)),
    "qwen": (
        Qwen2ForCausalLM,
        Qwen2Config(**SIZES, sliding_window=5, use_sliding_window=True, max_window_layers=1),
    ),
}


@pytest.fixture(params=MODELS)
def model(request):
    build, config = MODELS[request.param]
    torch.manual_seed(0)
    made = build(config).eval()
    with torch.no_grad():
        for name, one in made.named_parameters():
            if "norm" in name or "bias" in name:  # which begin as ones and zeros
                one.add_(0.3 * torch.randn_like(one))
    return made


@torch.inference_mode()
def read(model, lean):
    """Logits of two prompts of other lengths, of one token more, and of three more of which all count."""
    rows = Rows(model, 2, 40)
    rows.lean = lean
    first = rows.read([0, 1], [[5, 6, 7, 8, 9, 10, 11, 12], [9, 8, 7]])
    second = rows.read([0, 1], [[20], [21]])
    third = rows.read([0, 1], [[30, 31, 32], [33, 34, 35]], keep=3)
    alone = rows.read([1], [[3]])
    return torch.cat([one.flatten() for one in (first, second, third, alone)])


def test_logits_are_those_of_transformers(model):
    assert Lean.able(model, None)
    lean = Lean(model)
    lean.refresh()
    torch.testing.assert_close(read(model, lean), read(model, None), atol=2e-5, rtol=1e-4)


@pytest.mark.skipif(not float16.here(), reason="needs FBGEMM")
@pytest.mark.parametrize("weights", ["exact", "float16"])
def test_logits_are_those_of_transformers_by_weights_in_fp16(model, weights):
    """Of weights that are numbers in fp16 to begin with; biases are not, and need not be."""
    with torch.no_grad():
        for layer in (one for one in model.modules() if isinstance(one, torch.nn.Linear)):
            layer.weight.copy_(layer.weight.half())
    lean = Lean(model, weights=weights)
    lean.refresh()
    assert isinstance(lean.head, float16.Float16)
    torch.testing.assert_close(read(model, lean), read(model, None), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_it_follows_the_weights():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    lean = Lean(model)
    lean.refresh()
    before, blocks, head = read(model, lean), list(lean.blocks), lean.head
    lean.refresh()
    assert all(one is other for one, other in zip(lean.blocks, blocks, strict=True))
    model.model.layers[1].mlp.up_proj.weight.mul_(1.5)
    lean.refresh()
    assert [one is other for one, other in zip(lean.blocks, blocks, strict=True)] == [True, False, True]
    assert lean.head is head
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight * 2)
    model.model.norm.weight.mul_(0.5)  # norms are not copied
    lean.refresh()
    after = read(model, lean)
    torch.testing.assert_close(after, read(model, None), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(after, before, atol=1e-3)


def test_who_looks_into_the_layers_sees_them_run():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    local = LocalEngine(model, stop=[])
    given = {"sampling": Sampling(0, max_new=5), "seeds": [0]}
    before = local.generate([[5, 6, 7]], **given)
    seen = []
    hook = model.model.layers[1].register_forward_hook(lambda *call: seen.append(call) or 0 * call[2])
    muted = local.generate([[5, 6, 7]], **given)
    assert len(seen) == 5
    assert muted != before
    hook.remove()
    assert local.generate([[5, 6, 7]], **given) == before
    assert len(seen) == 5


def test_other_models_and_adapters_are_left_to_transformers():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    assert not Lean.able(LlamaForCausalLM(LlamaConfig(**SIZES, hidden_act="gelu")), None)
    assert not Lean.able(model.double(), None)
    adapted = get_peft_model(model.float(), LoraConfig(target_modules=["q_proj"]))
    assert not Lean.able(adapted.get_base_model(), None)


def test_a_model_with_modules_of_others_runs_as_it_is():
    """Even one whose linear layers are all there: what stands around them would be passed by."""
    from turnsmith.testing import model as tiny
    from turnsmith.trainables.install import install
    from turnsmith.trainables.mixture import LoraMoe

    class Louder(torch.nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.weight, self.variance_epsilon, self.norm = norm.weight, norm.variance_epsilon, norm

        def forward(self, states):
            return 2 * self.norm(states)

    assert Lean.able(tiny(), None)
    assert not Lean.able(install(tiny(), LoraMoe, {}, seed=0), None)
    other = tiny()
    other.model.norm = Louder(other.model.norm)
    assert not Lean.able(other, None)
