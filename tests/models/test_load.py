"""Models found, loaded, saved and merged: a tiny Llama whose padding token is its end of turn."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from turnsmith import wheels
from turnsmith.errors import ModelError, UsageError
from turnsmith.models import load as loading
from turnsmith.models import locate
from turnsmith.models.directory import header

TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
TEMPLATE = f"{{% for m in messages %}}{TURN}{{% endfor %}}"


def make_tokenizer():
    """One token per byte, and the three marks of a chat; <|im_end|> is end, stop and padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: number + 3 for number, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    words = PreTrainedTokenizerFast(tokenizer_object=inner)
    words.add_special_tokens({"additional_special_tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]})
    words.eos_token = words.pad_token = "<|im_end|>"
    words.chat_template = TEMPLATE
    return words


def make_model(words):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    end = words.eos_token_id
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(words), **sizes, bos_token_id=None, eos_token_id=end, pad_token_id=end,
        tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def make_adapter(model, *targets):
    """The model with a LoRA that changes its answers."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    names = list(targets or ("q_proj", "down_proj"))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=names, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, tensor in adapted.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.1)
    return adapted.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(40).view(2, 20)).logits


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """A tiny full model as transformers itself writes it, trap included."""
    directory = tmp_path_factory.mktemp("models") / "full"
    words = make_tokenizer()
    make_model(words).save_pretrained(directory)
    words.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def adapter(full) -> Path:
    model, words = loading.load(str(full))
    loading.save(make_adapter(model), words, full.parent / "adapter", base=str(full))
    return full.parent / "adapter"


@pytest.fixture
def copy(full, tmp_path) -> Path:
    """A copy of the full model that a test may break."""
    directory = tmp_path / "copy"
    directory.mkdir()
    for file in full.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    return directory


def test_the_end_of_turn_learns_although_it_is_also_the_padding(full):
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(full)
    model, words = loading.load(str(full))
    end = words.eos_token_id
    assert plain.get_input_embeddings().padding_idx == end  # the trap is there
    assert model.get_input_embeddings().padding_idx is None
    assert model.config.pad_token_id is None
    states = model.get_input_embeddings()(torch.tensor([[5, end, 6]]))
    (gradient,) = torch.autograd.grad(states.sum(), model.get_input_embeddings().weight)
    assert gradient[end].eq(1).all()


def test_what_was_saved_is_free_of_the_trap_for_plain_transformers(full, tmp_path):
    from transformers import AutoModelForCausalLM

    model, words = loading.load(str(full))
    loading.save(model, words, tmp_path / "saved", base=None)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert plain.get_input_embeddings().padding_idx is None
    assert torch.equal(logits(plain), logits(model))
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "saved").iterdir()}
    assert len(modes) == 1  # safetensors writes files that nobody else can read


def test_the_generation_settings_list_every_token_that_ends_a_turn(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"eos_token_id": 0, "pad_token_id": None}))
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    model, words = loading.load(str(copy))
    assert model.generation_config.eos_token_id == [0, words.convert_tokens_to_ids("<|im_end|>")]


def test_a_model_comes_in_the_asked_type_and_in_eval_mode(full):
    model, _ = loading.load(str(full), dtype="bfloat16")
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}
    assert not model.training
    assert loading.load(str(full), dtype=torch.float64)[0].dtype == torch.float64


def test_an_adapter_comes_back_on_its_base(full, adapter):
    expected = logits(make_adapter(loading.load(str(full))[0]))
    model, words = loading.load(str(adapter))
    assert torch.equal(logits(model), expected)
    assert not torch.allclose(expected, logits(loading.load(str(full))[0]), atol=0.1)
    assert not any(tensor.requires_grad for name, tensor in model.named_parameters() if "lora" in name)
    model, _ = loading.load(str(adapter), trainable=True)
    assert all(tensor.requires_grad for name, tensor in model.named_parameters() if "lora" in name)
    assert words.chat_template == TEMPLATE


def test_plain_peft_loads_our_adapter_and_gives_the_same_logits(adapter):
    from peft import AutoPeftModelForCausalLM

    plain = AutoPeftModelForCausalLM.from_pretrained(adapter).eval()
    assert torch.equal(logits(plain), logits(loading.load(str(adapter))[0]))


def test_an_adapter_without_a_tokenizer_has_its_bases(adapter, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (bare / name).write_bytes((adapter / name).read_bytes())
    assert len(loading.tokenizer(str(bare))) == len(loading.load(str(bare))[1]) == 259


def test_saving_again_replaces_the_model_and_leaves_nothing_else(full, tmp_path):
    model, words = loading.load(str(full))
    loading.save(model, words, tmp_path / "saved", base=None)
    before = loading.fingerprint(str(tmp_path / "saved"))
    with torch.no_grad():
        model.get_input_embeddings().weight += 1
    loading.save(model, words, tmp_path / "saved", base=None)
    assert loading.fingerprint(str(tmp_path / "saved")) != before
    assert [file.name for file in tmp_path.iterdir()] == ["saved"]


def test_saving_does_not_overwrite_what_is_no_model(full, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something that is no model"):
        loading.save(*loading.load(str(full)), tmp_path, base=None)
    assert (tmp_path / "thesis.txt").exists()


def test_a_full_disk_leaves_no_half_written_model(full, tmp_path):
    """A limit on the size of files stands for the full disk; the weights are larger than it allows."""
    script = (
        "import resource, signal, sys\n"
        "from turnsmith.models import load\n"
        f"model, words = load.load({str(full)!r})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"load.save(model, words, {str(tmp_path / 'saved')!r}, base=None)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "StorageError: cannot write to" in ran.stderr
    assert "0.1 MB needed" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_changes_with_one_byte(copy):
    before = loading.fingerprint(str(copy))
    assert loading.fingerprint(str(copy)) == before
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert loading.fingerprint(str(copy)) != before


def test_the_fingerprint_of_an_adapter_follows_its_base_but_not_the_path(full, copy, adapter, tmp_path):
    before = loading.fingerprint(str(adapter))
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in adapter.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    settings = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(copy)}))
    assert loading.fingerprint(str(moved)) == before
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert loading.fingerprint(str(moved)) != before


def test_an_adapter_that_is_made_twice_has_the_same_bytes(full, tmp_path):
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model, words = loading.load(str(full))
    loading.save(make_adapter(model, *names), words, tmp_path / "adapter", base=str(full))
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(names)  # a set has another order in each process


def test_old_files_are_hashed_once_and_new_ones_again(full, tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    for file in full.iterdir():
        os.utime(file, (1e9, 1e9))
    (full / "config.json").touch()
    loading.fingerprint(str(full))
    listed = json.loads((tmp_path / "home" / "fingerprints.json").read_text())
    assert str(full / "model.safetensors") in listed
    assert str(full / "config.json") not in listed  # it may change again within one tick of the clock


def test_parameters_are_counted_from_the_headers(full, adapter):
    model, _ = loading.load(str(adapter))
    named = dict(model.named_parameters())
    own = sum(tensor.numel() for name, tensor in named.items() if "lora" in name)
    assert loading.parameters(str(adapter)) == sum(tensor.numel() for tensor in named.values())
    assert loading.parameters(str(full)) == loading.parameters(str(adapter)) - own


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"neither config\.json nor adapter_config\.json"):
        locate.locate(str(tmp_path))


@pytest.mark.parametrize("keep", [4, 100, -10])
def test_truncated_weights_are_refused(copy, keep):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ModelError, match="is no whole safetensors file"):
        loading.load(str(copy))
    if keep > 0:
        with pytest.raises(ModelError, match="no whole safetensors file"):
            loading.parameters(str(copy))


def test_absent_weights_are_never_drawn_at_random(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights .*layers\.1\.mlp\.up_proj"):
        loading.load(str(copy))


def test_absent_adapter_weights_are_never_drawn_at_random(adapter, tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((adapter / name).read_bytes())
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[1:]), tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="does not fit its base or is broken"):
        loading.load(str(tmp_path))


def test_weights_that_could_run_code_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="can run code"):
        loading.load(str(copy))


def change(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def with_code(copy: Path, mark: Path) -> None:
    """Puts code beside the model that leaves a mark, and has the settings name it as how it is loaded."""
    (copy / "mine.py").write_text(
        f"open({str(mark)!r}, 'w')\n"
        "from transformers import LlamaConfig as Config, LlamaForCausalLM as Model\n"
        "from transformers import PreTrainedTokenizerFast as Words\n"
    )
    own = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    change(copy / "config.json", auto_map=own, model_type="mine", architectures=["Mine"])
    change(
        copy / "tokenizer_config.json",
        auto_map={"AutoTokenizer": [None, "mine.Words"]},
        tokenizer_class="Words",
    )


def test_code_that_comes_with_a_model_is_not_run_and_nobody_is_asked(copy, tmp_path, monkeypatch):
    with_code(copy, tmp_path / "mark")
    monkeypatch.setattr("builtins.input", lambda *said: pytest.fail("somebody was asked"))
    for reads in (loading.load, loading.tokenizer, forecast_of):
        with pytest.raises((ModelError, ValueError), match="trust_remote_code"):
            reads(str(copy))
    assert not (tmp_path / "mark").exists()


def forecast_of(reference: str) -> None:
    from turnsmith.models import preflight

    preflight._config(Path(reference))


def test_weights_that_could_run_code_are_not_read_beside_others(copy):
    (copy / "model.safetensors").rename(copy / "other.safetensors")
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        loading.load(str(copy))


@pytest.mark.parametrize("named", ["AutoConfig", "pipeline", "__name__", 5, "nothing"])
def test_settings_name_no_other_class_than_a_models(copy, named):
    change(copy / "config.json", architectures=[named])
    assert type(loading.load(str(copy))[0]).__name__ == "LlamaForCausalLM"


def test_more_layers_than_weights_are_not_made(copy):
    change(copy / "config.json", num_hidden_layers=10**9)
    with pytest.raises(ModelError, match=r"tells of 1000000000 layers and has \d+ weights"):
        loading.load(str(copy))


@pytest.mark.parametrize("file", ["../full/model.safetensors", "/etc/passwd", "nothing.safetensors", 5, None])
def test_weights_lie_in_the_directory_that_says_where_they_are(copy, file):
    index = {"metadata": {}, "weight_map": {"model.norm.weight": file}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="and no such file is beside it"):
        loading.load(str(copy))


@pytest.mark.parametrize("depth", [1, 2])
def test_adapters_that_rest_on_each_other_are_refused(adapter, tmp_path, depth):
    places = [tmp_path / str(number) for number in range(depth)]
    for number, place in enumerate(places):
        shutil.copytree(adapter, place)
        change(place / "adapter_config.json", base_model_name_or_path=str(places[number - 1]))
    for reads in (loading.load, loading.fingerprint, locate.foundation):
        with pytest.raises(ModelError, match="and that on itself: no model lies under them"):
            reads(str(places[0]))


def entry(dtype="F32", shape=(2,), place=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"[" * 100_000,
        b"\xff",
        json.dumps({"w": []}).encode(),
        json.dumps({"w": {"dtype": "F32"}}).encode(),
        json.dumps({"w": entry(shape=["2"])}).encode(),
        json.dumps({"w": entry(shape=[-2])}).encode(),
        json.dumps({"w": entry(place=[0, 9])}).encode(),
        json.dumps({"w": entry(place=[8, 0])}).encode(),
    ],
)
def test_a_header_that_tells_of_what_is_not_there_is_refused(tmp_path, head):
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    with pytest.raises(ModelError, match="is no whole safetensors file"):
        header(file)
    file.write_bytes(struct.pack("<Q", 2**63) + head)
    with pytest.raises(ModelError, match="its header is longer than the file"):
        header(file)


def test_a_header_says_what_is_there(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    assert header(tmp_path / "model.safetensors") == {"w": entry()}


def test_settings_nested_without_end_are_refused(copy):
    (copy / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"cannot be (read|loaded): .*recursion"):
        loading.load(str(copy))


def test_a_missing_tokenizer_is_named(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer \(looked for tokenizer\.json"):
        loading.load(str(copy))


def test_the_missing_base_of_an_adapter_is_named(adapter, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/gone/base"}))
    with pytest.raises(ModelError, match=r"base of the adapter .* is not at /gone/base"):
        loading.load(str(tmp_path))


def test_an_adapter_finds_its_base_by_reference_when_the_path_is_gone(adapter, full, tmp_path):
    settings = json.loads((adapter / "adapter_config.json").read_text())
    for file in adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": "/gone"}))
    assert json.loads((tmp_path / "turnsmith.json").read_text()) == {"base": str(full)}
    assert torch.equal(logits(loading.load(str(tmp_path))[0]), logits(loading.load(str(adapter))[0]))


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("smollm2-135m-instuct", "did you mean 'smollm2-135m-instruct'"),
        ("chitchat", "shipped data, no model"),
        ("somebody/something", "no shipped name .*the hub is switched off"),
        ("./no/such/directory", "cannot be a hub id"),
        ("gpt-7", "not in the local hub cache"),
    ],
)
def test_an_unknown_model_says_what_was_tried(reference, complaint, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=complaint):
        locate.locate(reference)


def test_what_is_no_gguf_file_is_refused(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF, says the name only")
    with pytest.raises(ModelError, match="cannot be read as a GGUF model"):
        locate.locate(str(tmp_path / "model.gguf"))
    assert not list((wheels.home() / "models").glob("*model-*"))


@pytest.mark.slow
def test_smollm2_is_converted_once_and_answers():
    directory = locate.locate("smollm2-135m-instruct")
    assert locate.locate("smollm2-135m-instruct") == directory
    assert loading.parameters(str(directory)) == 134_515_008
    assert "quantization_config" not in json.loads((directory / "config.json").read_text())
    model, words = loading.load("smollm2-135m-instruct")
    assert model.get_input_embeddings().padding_idx is None
    assert model.generation_config.eos_token_id == words.convert_tokens_to_ids("<|im_end|>") == 2
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = words.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    reply = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert words.decode(reply) == "The capital of France is Paris.<|im_end|>"
