"""A model without values holds in training what the same model with values does."""

import pytest
import torch
from transformers import PreTrainedModel

from turnsmith.data.batch import pack, pad
from turnsmith.models import forest
from turnsmith.models.hollow import hollow, valueless
from turnsmith.models.load import load
from turnsmith.models.recompute import recompute
from turnsmith.models.score import Scoring
from turnsmith.testing import directory, model
from turnsmith.train import room as rooms
from turnsmith.train.options import Fit
from turnsmith.trainables.half import Half
from turnsmith.trainables.install import install
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.select import full


def empty(**shape):
    """The tiny model on `meta`."""
    with torch.device("meta"):
        return type(model())(model(**shape).config)


def scoring(whole, trainable=full, layout=pack, *, without=True, autocast=False, again=False):
    installed = install(whole, trainable, {}, seed=0)
    if again:
        recompute(installed)
    if layout is pack:
        forest.attach(installed)
    learnt = hollow(installed, "cpu") if without else installed
    return Scoring(learnt, autocast=autocast, proved=not without)


def test_a_block_holds_of_each_token_what_its_operations_need_backwards():
    per_layer = [rooms._per_token(scoring(empty(layers=count)), pack) for count in (1, 2)]
    hidden, heads, inner = 32, 2 * 8, 64  # width, that of keys and of values, that of the feed-forward
    norms = 2 * (
        hidden + 1 + hidden + hidden
    )  # input, 1 / its size, their product, and that times the weight
    attention = hidden + 2 * heads + hidden  # queries, keys, values, and what is read
    forward = 4 * inner  # gate, its SiLU, up, and the product of both
    assert per_layer[1] - per_layer[0] == 4 * (norms + attention + forward)


@pytest.mark.parametrize(
    ("trainable", "dtype", "layout", "again"),
    [
        (full, torch.float32, pack, False),
        (Half, torch.float32, pad, False),
        (Lora, torch.float32, pack, True),
        (Lora, torch.bfloat16, pack, False),
        (full, torch.bfloat16, pad, True),
    ],
)
def test_it_holds_what_the_model_with_values_does(trainable, dtype, layout, again):
    bf16 = dtype == torch.bfloat16
    options = {"trainable": trainable, "layout": layout, "autocast": bf16, "again": again}
    real = scoring(model(hidden=64).to(dtype), without=False, **options)
    told = scoring(empty(hidden=64).to(dtype), **options)
    for count in (rooms._weights, rooms._learning, lambda one: rooms._lasting(one, Fit(steps=1))):
        assert count(told) == count(real)
    assert rooms._per_token(told, layout) == rooms._per_token(real, layout)


def test_it_is_on_the_device_that_it_was_told_and_takes_nothing_of_it():
    whole = hollow(empty(), "cpu")
    for one in (*whole.parameters(), *whole.buffers()):
        assert one.device.type == "cpu"
        assert one.untyped_storage().device.type == "meta"


def test_tied_weights_stay_one_tensor():
    whole = hollow(empty(), "cpu")
    assert whole.get_output_embeddings().weight is whole.get_input_embeddings().weight


def test_a_value_that_is_not_there_is_told_from_other_errors():
    whole = hollow(empty(), "cpu")
    with pytest.raises(RuntimeError) as of_fake:
        float(next(whole.parameters()).detach().sum())
    with pytest.raises(RuntimeError) as of_meta:
        bool(next(empty().parameters()).any())
    assert valueless(of_fake.value)
    assert valueless(of_meta.value)
    with pytest.raises(RuntimeError) as other:
        torch.zeros(2) @ torch.zeros(3)
    assert not valueless(other.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_loaded_on_meta_has_the_shapes_of_the_model_and_reads_no_weights(
    tmp_path, dtype, monkeypatch
):
    def read(*given, **options):
        raise AssertionError("weights are read")

    place = directory(tmp_path / "model")
    real, _ = load(str(place), dtype=dtype)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", read)
    told, words = load(str(place), dtype=dtype, device="meta")
    shapes = [{n: (p.shape, p.dtype) for n, p in one.named_parameters()} for one in (real, told)]
    assert shapes[0] == shapes[1]
    assert {p.device.type for p in told.parameters()} == {"meta"}
    assert len(words) == len(real.get_input_embeddings().weight)
