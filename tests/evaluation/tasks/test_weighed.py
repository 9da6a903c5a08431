"""How wrong labels are weighed by the gradients of true ones."""

from collections import Counter
from random import Random

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.weighed import Weighed
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.labels import verbalised
from turnsmith.stages.labels import labelled, mislabelled, opinions
from turnsmith.testing import TinyBench, model, tokenizer
from turnsmith.trainables.bottleneck import BottleneckAdapters
from turnsmith.trainables.install import install

WORDS = {"0": "no", "1": "yes"}


def subject(whole):
    forest.attach(whole)
    return Subject("tiny", Scoring(whole).eval(), Renderer(tokenizer()), None, pack)


def data(count, seed=0):
    return list(labelled(opinions([], count=count, rng=Random(seed)), words=WORDS, counts=Counter()))


@pytest.fixture(scope="module")
def bench():
    wrong = list(mislabelled(data(8), share=0.5, rng=Random(0), counts=Counter()))
    return TinyBench({"pool": wrong, "labelled": data(4, seed=1)})


def adapted():
    whole = model(vocabulary=len(tokenizer()))
    return install(whole, BottleneckAdapters, {"size": 4}, seed=0).requires_grad_(False)


def test_a_model_without_adapters_weighs_all_alike(bench):
    items = Weighed(on="pool", labelled="labelled").measure(bench.tuned, bench)
    assert [item.values for item in items if item.values["wrong"]] == [
        {"weight": 1.0, "wrong": 1.0, "kept": 0.0, "right": 0.0}
    ] * 4
    assert sum(item.values["kept"] for item in items) == 4


def test_weights_are_the_inner_products_of_gradients_by_hand(bench):
    whole = adapted()
    items = Weighed(on="pool", labelled="labelled").measure(subject(whole), bench)
    parts = [p for name, p in whole.named_parameters() if ".up." in name or ".down." in name]
    for p in parts:
        p.requires_grad_(True)
    renderer, scoring = Renderer(tokenizer()), Scoring(whole)

    def slope(examples):
        made, _ = prepare(examples, renderer, ("labels",), length=512, train="last")
        losses = [verbalised(scoring(pack([one]))).values.mean() for one in made]
        found = torch.autograd.grad(sum(losses) / len(losses), parts)
        return torch.cat([one.flatten() for one in found])

    true = slope(bench.examples("labelled"))
    products = torch.tensor([float(true @ slope([one])) for one in bench.examples("pool")]).clamp_min(0)
    expected = 8 * products / products.sum()
    for item, weight in zip(items, expected.tolist(), strict=True):
        assert item.values["weight"] + item.values["kept"] == pytest.approx(weight, abs=2e-3)
    assert 0 < (expected > 0).sum() < 8


def test_it_leaves_the_model_as_it_was(bench):
    whole = adapted()
    before = {name: p.clone() for name, p in whole.named_parameters()}
    Weighed(on="pool", labelled="labelled").measure(subject(whole), bench)
    for name, p in whole.named_parameters():
        assert torch.equal(p, before[name])
        assert not p.requires_grad
        assert p.grad is None


def test_what_is_right_is_said_by_the_class_in_truth(bench):
    items = {
        item.id: item.values for item in Weighed(on="pool", labelled="labelled").measure(bench.tuned, bench)
    }
    for example in bench.examples("pool"):
        target = example.values["target"]
        assert items[example.id]["right"] == float(target.index(max(target)) == example.meta["class"])
