"""Export: what is written can be loaded by others and is the same model; what loses a part is refused."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError, StorageError, UsageError
from turnsmith.models import load as loading
from turnsmith.models import parity, preflight
from turnsmith.models.export import export
from turnsmith.testing import directory


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return directory(tmp_path_factory.mktemp("models") / "full")


@pytest.fixture
def copy(full, tmp_path) -> Path:
    return shutil.copytree(full, tmp_path / "copy")


@pytest.fixture(scope="module")
def adapter(full, tmp_path_factory) -> Path:
    return make_adapter(full, tmp_path_factory.mktemp("adapters") / "tuned")


def make_adapter(base: Path, target: Path, **settings) -> Path:
    """A LoRA of rank 4 on the base that changes its answers."""
    from peft import LoraConfig, get_peft_model

    model, words = loading.load(str(base))
    chosen = {"r": 4, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"} | settings
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(**chosen))
    with torch.no_grad():
        for name, tensor in adapted.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.1)
    loading.save(adapted, words, target, base=str(base))
    return target


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(40).view(2, 20)).logits


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-3), ("bfloat16", 2.0)])
def test_a_merged_export_answers_like_the_adapter_on_its_base(adapter, tmp_path, dtype, bound):
    from transformers import AutoModelForCausalLM

    done = export(str(adapter), tmp_path / "out", form="safetensors", renderer=Renderer, dtype=dtype)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    difference = (logits(plain) - logits(loading.load(str(adapter))[0])).abs().max()
    assert 0 < done.deviation < bound
    assert difference < bound
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {
        getattr(torch, dtype)
    }
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_an_exported_adapter_is_the_adapter_and_names_its_base(adapter, full, tmp_path):
    done = export(str(adapter), tmp_path / "out", form="adapter", renderer=Renderer)
    assert done.deviation == 0
    assert torch.equal(logits(loading.load(str(tmp_path / "out"))[0]), logits(loading.load(str(adapter))[0]))
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(full)


def test_every_stop_token_is_listed_the_models_own_and_the_templates(copy, tmp_path):
    """The model was trained to end on <|endoftext|> (0); its template ends turns on <|im_end|> (2)."""
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 0}))
    done = export(str(copy), tmp_path / "out", form="safetensors", renderer=Renderer)
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert sorted(written["eos_token_id"]) == [0, 2]
    assert sorted(done.stops) == ["<|endoftext|>", "<|im_end|>"]


def test_a_stop_token_that_was_not_written_is_noticed(copy):
    with pytest.raises(ModelError, match=r"lists \[2\] as ends of a reply, but not \[0\]"):
        parity.stops_written(copy, (2, 0))


def test_the_template_goes_along(full, tmp_path):
    export(str(full), tmp_path / "out", form="vllm", renderer=Renderer)
    template = (tmp_path / "out" / "chat_template.jinja").read_text()
    assert template == loading.tokenizer(str(full)).chat_template
    card = (tmp_path / "out" / "README.md").read_text()
    assert "vllm serve . --served-model-name full --chat-template chat_template.jinja" in card


def test_vllm_gets_base_and_adapter_apart_and_the_command_with_the_rank(adapter, tmp_path):
    """Rank 4 fits under 8, the smallest --max-lora-rank of vLLM that holds it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = tmp_path / "out"
    export(str(adapter), out, form="vllm", renderer=Renderer, dtype="float32")
    base = AutoModelForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    served = PeftModel.from_pretrained(base, str(out / "adapter"))
    assert torch.equal(logits(served), logits(loading.load(str(adapter))[0]))
    assert (
        "vllm serve base --enable-lora --max-lora-rank 8 --lora-modules tuned=adapter "
        "--chat-template base/chat_template.jinja"
    ) in (out / "README.md").read_text()
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "adapter", "base"]
    assert not (out / "adapter" / "README.md").exists()


def test_vllm_refuses_whole_layers_beside_low_ranks_and_says_which(full, tmp_path):
    made = make_adapter(full, tmp_path / "tuned", modules_to_save=["lm_head"])
    with pytest.raises(ModelError, match=r"Lost would be: modules_to_save \(lm_head\).*--to safetensors"):
        export(str(made), tmp_path / "out", form="vllm", renderer=Renderer)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "embed_tokens"),
        ({"r": 1024}, "ranks above 512"),
        ({"bias": "all"}, "bias terms"),
    ],
)
def test_vllm_refuses_what_it_would_leave_out_of_an_adapter(adapter, tmp_path, settings, what):
    changed = shutil.copytree(adapter, tmp_path / "changed")
    config = changed / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    (lost,) = preflight.losses(changed, "vllm")
    assert what in lost


def test_an_adapter_without_its_base_is_refused(full, tmp_path):
    base = shutil.copytree(full, tmp_path / "base")
    made = make_adapter(base, tmp_path / "tuned")
    shutil.rmtree(base)
    for form in preflight.FORMS:
        with pytest.raises(ModelError, match=r"the base of the adapter .* is not at"):
            export(str(made), tmp_path / "out", form=form, renderer=Renderer)
    assert not (tmp_path / "out").exists()


def test_virtual_tokens_cannot_be_folded_into_weights(adapter, tmp_path):
    changed = shutil.copytree(adapter, tmp_path / "changed")
    config = changed / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"peft_type": "PROMPT_TUNING"}))
    (lost,) = preflight.losses(changed, "safetensors")
    assert "virtual tokens of prompt_tuning" in lost
    assert preflight.losses(changed, "adapter") == []


@pytest.mark.parametrize("form", ["safetensors", "gguf", "ollama", "vllm"])
def test_a_value_head_is_named_before_anything_is_written(copy, tmp_path, form):
    weights = copy / "model.safetensors"
    save_file(load_file(weights) | {"v_head.weight": torch.zeros(1, 32)}, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{form} cannot hold all .* Lost would be: the head 'v_head'"):
        export(str(copy), tmp_path / "out", form=form, renderer=Renderer)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["gguf", "ollama"])
def test_experts_are_named_before_anything_is_written(copy, tmp_path, form):
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MixtralConfig(
        vocab_size=320, num_local_experts=3, num_experts_per_tok=1, num_key_value_heads=2, **sizes
    )
    MixtralForCausalLM(config).save_pretrained(copy)
    with pytest.raises(ModelError, match=r"Lost would be: the 3 experts of each layer \(mixtral\)"):
        export(str(copy), tmp_path / "out", form=form, renderer=Renderer)
    assert not (tmp_path / "out").exists()


def test_a_classifier_is_no_chat_model(copy, tmp_path):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig.from_pretrained(copy)
    LlamaForSequenceClassification(config).save_pretrained(copy)
    assert preflight.losses(copy, "gguf") == [
        "what LlamaForSequenceClassification gives out: it is no causal language model"
    ]


def test_export_refuses_a_directory_with_something_in_it(adapter, tmp_path):
    (tmp_path / "note").write_text("")
    with pytest.raises(UsageError, match="is not empty"):
        export(str(adapter), tmp_path, form="safetensors", renderer=Renderer)


def test_a_full_model_is_no_adapter(full, tmp_path):
    with pytest.raises(ModelError, match="no adapter: export it with --to safetensors"):
        export(str(full), tmp_path / "new", form="adapter", renderer=Renderer)


def test_a_type_of_another_form_is_refused(full, tmp_path):
    with pytest.raises(UsageError, match="for gguf say --quantise f16"):
        export(str(full), tmp_path / "new", form="gguf", renderer=Renderer, dtype="bfloat16")
    with pytest.raises(UsageError, match="for vllm say --dtype bfloat16"):
        export(str(full), tmp_path / "new", form="vllm", renderer=Renderer, quantise="q8_0")


def test_an_export_whose_logits_differ_is_not_kept(adapter, tmp_path, monkeypatch):
    monkeypatch.setitem(parity.TOLERANCE, "bfloat16", 1e-7)
    with pytest.raises(ModelError, match="reading back changed a logit by"):
        export(str(adapter), tmp_path / "out", form="safetensors", renderer=Renderer, dtype="bfloat16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize(
    ("form", "options", "said"),
    [
        ("safetensors", {"dtype": "float32"}, r"not enough space \(0\.1 MB needed, 0\.1 MB free\)"),
        ("gguf", {"quantise": "f32"}, r"not enough space \(0\.1 MB needed, 0\.1 MB free\)"),
        ("safetensors", {}, "No space left on device"),  # the weights fit, what lies beside them does not
        ("gguf", {}, "No space left on device"),
    ],
)
def test_a_disk_too_small_for_the_model_holds_nothing_afterwards(full, tmp_path, form, options, said):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(StorageError, match=said):
            export(str(full), small / "out", form=form, renderer=Renderer, **options)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
