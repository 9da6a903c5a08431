"""Merging directories of weights, file by file."""

from random import Random

import pytest
import torch

from turnsmith.errors import ModelError
from turnsmith.merges.apply import apply
from turnsmith.models import load
from turnsmith.testing import directory, model, tokenizer
from turnsmith.trainables.install import install
from turnsmith.trainables.lora import Lora


@pytest.fixture
def two(tmp_path):
    return str(directory(tmp_path / "base", seed=0)), str(directory(tmp_path / "tuned", seed=1))


def middle(name, base, tensors):
    return (base + sum(tensors)) / (1 + len(tensors))


def test_every_weight_goes_through_the_rule(two, tmp_path):
    base, tuned = two
    apply([tuned, tuned], base, middle, Random(0), tmp_path / "made")
    made, first, second = (
        dict(load.load(str(p))[0].named_parameters()) for p in (tmp_path / "made", base, tuned)
    )
    for name in first:
        torch.testing.assert_close(made[name], (first[name] + 2 * second[name]) / 3)


def test_tied_weights_stay_tied_and_the_tokenizer_comes_along(two, tmp_path):
    base, tuned = two
    apply([tuned], base, middle, Random(0), tmp_path / "made")
    made, words = load.load(str(tmp_path / "made"))
    assert made.get_output_embeddings().weight is made.get_input_embeddings().weight
    assert words.chat_template == tokenizer().chat_template


def test_the_changed_numbers_are_counted(two, tmp_path):
    base, tuned = two
    assert apply([tuned], base, lambda name, b, t: t[0], Random(0), tmp_path / "same") == 0
    inside = "model.layers.0.mlp.up_proj.weight"  # 64 x 32
    rule = lambda name, b, t: t[0] + 1 if name == inside else t[0]  # noqa: E731
    assert apply([tuned], base, rule, Random(0), tmp_path / "other") == 64 * 32


def test_the_result_does_not_depend_on_how_the_weights_are_spread_over_files(two, tmp_path):
    base, tuned = two
    sharded = tmp_path / "sharded"
    whole, words = load.load(tuned)
    whole.save_pretrained(sharded, max_shard_size="20KB")
    words.save_pretrained(sharded)
    assert len(list(sharded.glob("*.safetensors"))) > 2
    apply([str(sharded)], base, middle, Random(0), tmp_path / "one")
    apply([tuned], base, middle, Random(0), tmp_path / "other")
    one, other = (dict(load.load(str(tmp_path / n))[0].named_parameters()) for n in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_an_adapter_is_refused(two, tmp_path):
    base, _ = two
    adapter = tmp_path / "adapter"
    load.save(install(load.load(base)[0], Lora, {}, seed=0), tokenizer(), adapter, base=base)
    with pytest.raises(ModelError, match="is an adapter: fold it into its base first"):
        apply([str(adapter)], base, middle, Random(0), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_models_of_other_shapes_are_refused_by_name(two, tmp_path):
    base, _ = two
    other = tmp_path / "wide"
    words = tokenizer()
    model(vocabulary=len(words), hidden=64).save_pretrained(other)
    words.save_pretrained(other)
    with pytest.raises(
        ModelError, match=r"model.embed_tokens.weight is \[320, 64\] in the one and \[320, 32\]"
    ):
        apply([str(other)], base, middle, Random(0), tmp_path / "made")
