"""A sparse difference as a directory beside its base: loaded, built upon, and exported as full weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError, UsageError
from turnsmith.models import load
from turnsmith.models.export import export
from turnsmith.models.locate import foundation, locate
from turnsmith.testing import directory, tokenizer
from turnsmith.trainables.install import install
from turnsmith.trainables.lora import Lora

NAME = "model.layers.1.mlp.up_proj.weight"


def weights(reference):
    return {name: p.detach().clone() for name, p in load.load(str(reference))[0].named_parameters()}


def changed(base, place, amount=0.5, column=0):
    """A sparse difference of the base at this place: a column of one matrix, 64 numbers."""
    model, words = load.load(str(base))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[:, column] += amount
    load.save_patch(model, words, place, base=str(base))
    return place


@pytest.fixture
def base(tmp_path):
    return directory(tmp_path / "base")


@pytest.fixture
def patched(base, tmp_path):
    return changed(base, tmp_path / "patched")


def test_it_is_loaded_as_the_model_that_it_makes_of_its_base(base, patched):
    before, after = weights(base), weights(patched)
    expected = before[NAME].clone()
    expected[:, 0] += 0.5
    torch.testing.assert_close(after[NAME], expected, rtol=0, atol=1e-6)
    assert all(torch.equal(after[name], p) for name, p in before.items() if name != NAME)


def test_it_is_small_and_says_on_what_it_rests(base, patched):
    assert {file.name for file in patched.glob("*.safetensors")} == {"patch.safetensors"}
    assert load.load_patch(str(patched))[NAME].indices.tolist() == list(range(0, 64 * 32, 32))
    assert json.loads((patched / "turnsmith.json").read_text())["base"] == str(base)
    assert (patched / "patch.safetensors").stat().st_size < 3000


def test_tied_weights_stay_tied(base, tmp_path):
    model, words = load.load(str(base))
    with torch.no_grad():
        model.model.embed_tokens.weight[5] += 1.0
    load.save_patch(model, words, tmp_path / "tied", base=str(base))
    again, _ = load.load(str(tmp_path / "tied"))
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert set(load.load_patch(str(tmp_path / "tied"))) == {"model.embed_tokens.weight"}


def test_a_model_without_a_change_is_an_empty_difference(base, tmp_path):
    changed(base, tmp_path / "same", amount=0.0)
    assert load.load_patch(str(tmp_path / "same")) == {}
    assert all(torch.equal(p, weights(base)[name]) for name, p in weights(tmp_path / "same").items())


def test_one_difference_may_rest_on_another(base, patched, tmp_path):
    twice = changed(patched, tmp_path / "twice", amount=0.25, column=1)
    expected = weights(base)[NAME]
    expected[:, 0] += 0.5
    expected[:, 1] += 0.25
    torch.testing.assert_close(weights(twice)[NAME], expected, rtol=0, atol=1e-6)
    assert foundation(str(twice)) == base


def test_in_bf16_it_is_rounded_once(base, patched):
    whole, half = (dict(load.load(str(patched), dtype=kind)[0].named_parameters()) for kind in
                   ("float32", "bfloat16"))  # fmt: skip
    assert all(torch.equal(p.to(torch.bfloat16), half[name]) for name, p in whole.items())


def test_its_fingerprint_covers_its_base_and_its_numbers_are_its_bases(base, patched, tmp_path):
    before = load.fingerprint(str(patched))
    other = changed(base, tmp_path / "other", amount=0.25)
    assert len({before, load.fingerprint(str(base)), load.fingerprint(str(other))}) == 3
    assert load.parameters(str(patched)) == load.parameters(str(base))
    assert not load.has_adapter(str(patched))
    assert load.holds_float32(str(patched))
    (base / "config.json").write_text((base / "config.json").read_text() + "\n")
    assert load.fingerprint(str(patched)) != before


def test_an_exchanged_base_is_refused(base, patched):
    shutil.rmtree(base)
    directory(base, seed=1)
    with pytest.raises(ModelError, match=rf"{patched}: {NAME} is not what it was .* base has been exchanged"):
        load.load(str(patched))


def test_a_lost_base_is_named(base, patched):
    base.rename(base.with_name("elsewhere"))
    with pytest.raises(
        ModelError, match=r"is not at .*base: bring it back, or correct base in turnsmith.json"
    ):
        load.load(str(patched))
    (patched / "turnsmith.json").write_text("{}")
    with pytest.raises(ModelError, match=r"does not say which base it belongs to \(turnsmith.json\)"):
        load.load(str(patched))


def test_a_base_with_another_vocabulary_is_refused(base, patched, tmp_path):
    from turnsmith.testing import model

    model(vocabulary=len(tokenizer()), hidden=64).save_pretrained(tmp_path / "wide")
    tokenizer().save_pretrained(tmp_path / "wide")
    (patched / "turnsmith.json").write_text(json.dumps({"base": str(tmp_path / "wide")}))
    with pytest.raises(ModelError, match=r"is \[128, 64\] in this model and \[64, 32\] in the sparse"):
        load.load(str(patched))


def test_it_replaces_a_model_and_nothing_else(base, patched, tmp_path):
    changed(base, patched, amount=0.125)
    assert weights(patched)[NAME][0, 0] == pytest.approx(float(weights(base)[NAME][0, 0]) + 0.125)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something that is no model"):
        changed(base, tmp_path / "notes")


def test_an_adapter_may_rest_on_it_and_is_folded_into_full_weights(patched, tmp_path):
    model, words = load.load(str(patched))
    adapted = install(model, Lora, {"rank": 2}, seed=0)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    load.save(adapted, words, tmp_path / "adapter", base=str(patched))
    found = adapted.merge_and_unload().get_submodule("model.layers.1.mlp.up_proj").weight
    again = load.load(str(tmp_path / "adapter"))[0].merge_and_unload()
    assert torch.equal(again.get_submodule("model.layers.1.mlp.up_proj").weight, found)
    with pytest.raises(ModelError, match=r"the base, which is a sparse difference .* --to safetensors folds"):
        export(str(tmp_path / "adapter"), tmp_path / "out", form="adapter", renderer=Renderer)
    assert not (tmp_path / "out").exists()


def test_it_is_exported_as_full_weights(base, patched, tmp_path):
    export(str(patched), tmp_path / "out", form="safetensors", renderer=Renderer, dtype="float32")
    assert locate(str(tmp_path / "out")) == tmp_path / "out"
    assert not (tmp_path / "out" / "patch.safetensors").exists()
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")[NAME], weights(patched)[NAME])
    assert "base_model: base" in (tmp_path / "out" / "README.md").read_text()
