"""GGUF: what transformers, and llama.cpp where it is installed, read back is the model that was written."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers

from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.models import gguf, gguf_tokens, llamacpp, parity
from turnsmith.models.export import export
from turnsmith.models.locate import read_gguf
from turnsmith.testing import chat, tokenizer

KINDS = {"llama": {"head_dim": 16}, "qwen2": {}, "qwen3": {"head_dim": 128}}


def make(kind: str, target: Path, **settings) -> Path:
    """A random model with query groups, an output matrix of its own, and biases and norms that matter."""
    import transformers

    words = tokenizer()
    sizes = {
        "vocab_size": len(words), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": None, "initializer_range": 0.2,
        "tie_word_embeddings": False,
    }  # fmt: skip
    config = transformers.AutoConfig.for_model(kind, **{**sizes, **KINDS[kind], **settings})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() == 1:
                tensor.normal_(mean=1.0 if "norm" in name else 0.0, std=0.2)
    model.save_pretrained(target)
    words.save_pretrained(target)
    return target


def fields(file: Path) -> dict:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


def written(out: Path) -> Path:
    (file,) = out.glob("*.gguf")
    return file


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return make("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.mark.parametrize("kind", gguf.ARCHITECTURES)
def test_in_32_bits_nothing_changes(kind, tmp_path):
    """Every weight comes back bit by bit, so that the logits are the same numbers."""
    done = export(
        str(make(kind, tmp_path / "m")), tmp_path / "out", form="gguf", renderer=Renderer, quantise="f32"
    )
    assert done.deviation == 0
    assert done.weights == 0
    assert done.loss_by_quantisation == 0


@pytest.mark.parametrize(
    ("quantise", "least", "most"),
    [
        ("f16", 1e-6, 1e-3),
        ("bf16", 1e-4, 5e-3),
        ("q8_0", 1e-3, 1e-2),
        ("q5_1", 0.02, 0.05),
        ("q4_0", 0.05, 0.12),
    ],
)
def test_fewer_bits_cost_more(llama, tmp_path, quantise, least, most):
    """Half a step of the type: 2**-12 of f16, 2**-9 of bf16, else a share of the range of 32 weights."""
    done = export(str(llama), tmp_path / "out", form="gguf", renderer=Renderer, quantise=quantise)
    assert least < done.weights < most
    assert 0 < abs(done.loss_by_quantisation) < 0.1
    assert (done.deviation is None) == (quantise not in gguf.PLAIN)


def test_a_row_of_a_head_in_the_wrong_place_is_noticed(llama):
    """What a forgotten permutation of the query projection would do, at any number of bits."""
    from transformers import AutoModelForCausalLM

    right = AutoModelForCausalLM.from_pretrained(llama).state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    wrong = right | {name: right[name].view(4, 2, 8, 64).transpose(1, 2).reshape(64, 64)}
    with pytest.raises(ModelError, match=f"the weight '{name}' is off by 1"):
        parity.same_weights(wrong, right, "q4_0")
    assert parity.same_weights(right, right, "q4_0") == 0


def test_template_stop_tokens_and_special_tokens_are_written(llama, tmp_path):
    """Of <|endoftext|> (0) and <|im_end|> (2), the tokenizer's own end is the second."""
    copy = shutil.copytree(llama, tmp_path / "copy")
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 0}))
    export(str(copy), tmp_path / "out", form="gguf", renderer=Renderer)
    found = fields(written(tmp_path / "out"))
    assert found["tokenizer.ggml.eos_token_id"] == 2
    assert found["tokenizer.ggml.eot_token_id"] == 0
    assert found["tokenizer.chat_template"] == tokenizer().chat_template
    assert found["tokenizer.ggml.tokens"][:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert found["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]  # control, and a normal one
    assert found["tokenizer.ggml.pre"] == "gpt-2"
    with pytest.raises(ModelError, match=r"names \[2, 0\] as ends of a reply, but not \[1\]"):
        gguf_tokens.stops_written(written(tmp_path / "out"), (2, 0, 1))


def test_conversations_are_the_same_ids_in_the_file_that_was_read_back(llama, tmp_path):
    export(str(llama), tmp_path / "out", form="gguf", renderer=Renderer)
    _, words = read_gguf(written(tmp_path / "out"))
    said = chat("s: Be brief.", "u: Is it 7 or 42?", "a: It's 42!", "u: Naïve.")
    assert Renderer(words).prompt(said) == Renderer(tokenizer()).prompt(said)


def test_more_stop_tokens_than_places_are_refused(llama, tmp_path):
    copy = shutil.copytree(llama, tmp_path / "copy")
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [0, 1, 5]}))
    with pytest.raises(ModelError, match="places for 3 stop tokens; lost would be"):
        export(str(copy), tmp_path / "out", form="gguf", renderer=Renderer)
    assert not (tmp_path / "out").exists()


def test_rows_of_the_embedding_without_a_token_become_unused_ones(tmp_path):
    made = make("llama", tmp_path / "m", vocab_size=len(tokenizer()) + 3)
    export(str(made), tmp_path / "out", form="gguf", renderer=Renderer)
    found = fields(written(tmp_path / "out"))
    assert found["tokenizer.ggml.tokens"][-1] == f"[PAD{len(tokenizer()) + 2}]"
    assert found["tokenizer.ggml.token_type"][-4:] == [1, 5, 5, 5]


def test_an_adapter_is_folded_in(llama, tmp_path):
    from peft import LoraConfig, get_peft_model

    from turnsmith.models import load

    model, words = load.load(str(llama))
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    load.save(adapted, words, tmp_path / "tuned", base=str(llama))
    done = export(str(tmp_path / "tuned"), tmp_path / "out", form="gguf", renderer=Renderer, quantise="f32")
    again, _ = read_gguf(written(tmp_path / "out"), dtype="float32")
    rows = torch.arange(40).view(2, 20)
    with torch.no_grad():
        difference = (again(input_ids=rows).logits - adapted(input_ids=rows).logits).abs().max()
    assert done.files == ("tuned-f32.gguf",)
    assert difference < 1e-3  # of logits up to 20: a merged product is summed in another order


@pytest.mark.parametrize(
    ("kind", "settings", "what"),
    [
        ("llama", {"attention_bias": True}, "bias terms of the attention"),
        ("llama", {"mlp_bias": True}, "bias terms of the feed-forward"),
        ("llama", {"hidden_act": "gelu"}, "activation 'gelu'"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "'linear'"),
        ("qwen3", {"head_dim": 16}, "heads of 16 numbers"),
    ],
)
def test_settings_that_would_be_lost_are_named(tmp_path, kind, settings, what):
    with pytest.raises(ModelError, match=f"gguf cannot hold all .*{what}"):
        export(str(make(kind, tmp_path / "m", **settings)), tmp_path / "out", form="gguf", renderer=Renderer)
    assert not (tmp_path / "out").exists()


def test_an_unknown_architecture_is_named_with_the_known_ones(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2)).save_pretrained(
        tmp_path / "m"
    )
    tokenizer().save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(ModelError, match="'gpt2': files of llama, qwen2, qwen3 are written"):
        export(str(tmp_path / "m"), tmp_path / "out", form="gguf", renderer=Renderer)


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_the_way_of_splitting_is_known_by_what_it_does(name, tmp_path):
    words = fresh(tmp_path)
    words.backend_tokenizer.pre_tokenizer = gguf_tokens._known()[name]
    assert gguf_tokens.splitting(words) == name


def test_an_unknown_way_of_splitting_is_refused(tmp_path):
    words = fresh(tmp_path)
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(ModelError, match="cuts text in a way"):
        gguf_tokens.splitting(words)


def fresh(place: Path):
    """A tokenizer of one's own to change."""
    from transformers import AutoTokenizer

    tokenizer().save_pretrained(place)
    return AutoTokenizer.from_pretrained(place)


@pytest.mark.slow
@pytest.mark.parametrize(("quantise", "most"), [("f16", 1e-3), ("q8_0", 0.02)])
def test_a_real_model_keeps_its_loss(tmp_path, quantise, most):
    """Nats per token on the probe text. q8_0 is known to cost a few thousandths."""
    out = tmp_path / "out"
    done = export("smollm2-135m-instruct", out, form="ollama", renderer=Renderer, quantise=quantise)
    assert abs(done.loss_by_quantisation) < most
    assert done.stops == ("<|im_end|>",)
    assert "named SmolLM" in (out / "Modelfile").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not llamacpp.installed(), reason="needs llama.cpp: pip install 'turnsmith[llamacpp]'")
@pytest.mark.parametrize("kind", gguf.ARCHITECTURES)
def test_llama_cpp_finds_the_same_tokens_and_loss(kind, tmp_path):
    done = export(str(make(kind, tmp_path / "m")), tmp_path / "out", form="gguf", renderer=Renderer)
    assert abs(done.llama_cpp - done.loss[1]) < llamacpp.TOLERANCE
