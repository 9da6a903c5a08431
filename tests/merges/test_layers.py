"""A model with fewer blocks."""

from random import Random

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.merges.apply import apply
from turnsmith.merges.layers import Layers
from turnsmith.models import load
from turnsmith.testing import model, tokenizer


@pytest.fixture
def base(tmp_path):
    words = tokenizer()
    model(layers=5, vocabulary=len(words)).save_pretrained(tmp_path / "base")
    words.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_the_blocks_that_are_kept_and_all_else_are_the_models_own(base, tmp_path):
    rule = Layers(keep=(0, 3, 4))
    assert apply([base], base, rule, Random(0), tmp_path / "made") == 0
    whole, cut = load.load(base)[0], load.load(str(tmp_path / "made"))[0]
    assert cut.config.num_hidden_layers == len(cut.model.layers) == 3
    for place, number in enumerate((0, 3, 4)):
        ones, others = (
            dict(m.model.layers[i].named_parameters()) for m, i in ((cut, place), (whole, number))
        )
        assert all(torch.equal(ones[name], others[name]) for name in ones)
    assert torch.equal(cut.get_input_embeddings().weight, whole.get_input_embeddings().weight)
    ids = torch.arange(3, 20)[None]
    whole.model.layers = torch.nn.ModuleList(whole.model.layers[number] for number in (0, 3, 4))
    with torch.no_grad():
        expected = whole(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(cut(input_ids=ids, use_cache=False).logits, expected)


def test_all_blocks_make_the_same_model(base, tmp_path):
    apply([base], base, Layers(keep=(0, 1, 2, 3, 4)), Random(0), tmp_path / "made")
    one, other = (dict(load.load(p)[0].named_parameters()) for p in (base, str(tmp_path / "made")))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_weights_in_several_files_are_found_under_their_new_names(base, tmp_path):
    whole, words = load.load(base)
    whole.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    words.save_pretrained(tmp_path / "sharded")
    for name, source in (("one", base), ("other", str(tmp_path / "sharded"))):
        apply([source], base, Layers(keep=(1, 4)), Random(0), tmp_path / name)
    one, other = (dict(load.load(str(tmp_path / n))[0].named_parameters()) for n in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_said_of_each_block_goes_with_it():
    config = {"num_hidden_layers": 3, "layer_types": ["a", "b", "c"], "hidden_size": 8}
    expected = {"num_hidden_layers": 2, "layer_types": ["a", "c"], "hidden_size": 8}
    assert Layers(keep=(0, 2)).settings(config) == expected


@pytest.mark.parametrize("keep", [(), (1, 1), (2, 1), (-1, 0)])
def test_blocks_that_make_no_sense_are_refused(keep):
    with pytest.raises(UsageError, match="name blocks by their numbers"):
        Layers(keep=keep)


def test_a_block_that_is_not_there_is_refused(base, tmp_path):
    with pytest.raises(UsageError, match="no block 7: the model has those from 0 to 4"):
        apply([base], base, Layers(keep=(0, 7)), Random(0), tmp_path / "made")
