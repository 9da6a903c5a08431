"""What routers give the second half of the experts, by type."""

from dataclasses import replace

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.routing import shares, watched
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.testing import conversations, model, tokenizer
from turnsmith.trainables.install import install
from turnsmith.trainables.mixture import LoraMoe, mixtures
from turnsmith.types import Sampling


def subject(whole=None):
    words = tokenizer()
    whole = whole or model(vocabulary=len(words))
    forest.attach(whole)
    renderer = Renderer(words)
    return Subject(
        "tiny", Scoring(whole), renderer, LocalChat(LocalEngine(whole, stop=renderer.stops), renderer), pack
    )


def routed(seed=0):
    """Two layers with four experts, whose routers give all the same."""
    whole = install(
        model(vocabulary=len(tokenizer())),
        LoraMoe,
        {"experts": 4, "rank": 2, "targets": ("up_proj",)},
        seed=seed,
    )
    with torch.no_grad():
        for mixture in mixtures(whole).values():
            mixture.router.weight.zero_()
    return whole


def typed(*kinds):
    made = zip(conversations(len(kinds)), kinds, strict=True)
    return [replace(one, values={} if kind is None else {"knowledge": kind}) for one, kind in made]


def test_uniform_routers_and_no_routers_give_each_half_a_half():
    for whole in (routed(), None):
        items = shares(subject(whole), typed(1.0, 0.0), 512)
        assert [item.group for item in items] == ["knowledge", "other"]
        for item in items:
            assert item.values == {"second": pytest.approx(0.5), "apart": pytest.approx(0, abs=1e-6)}


def test_the_share_is_the_mean_over_layers_and_tokens_and_apart_turns_with_the_type():
    whole = routed()
    (mixture, _) = mixtures(whole).values()
    with torch.no_grad():
        mixture.router.weight.normal_(generator=torch.Generator().manual_seed(0))
    measured = subject(whole)
    examples = typed(1.0, 0.0)
    items = shares(measured, examples, 512)
    for example, item, side in zip(examples, items, (1, -1), strict=True):
        ids = torch.tensor(measured.renderer.render(example.parts["text"], "assistant", "x")[-1].inputs)[None]
        whole.train()(input_ids=ids.long(), use_cache=False)
        expected = float(mixture.gates.detach()[0, :, 2:].sum(-1).mean() + 0.5) / 2
        whole.eval()
        assert abs(expected - 0.5) > 0.001
        assert item.values["second"] == pytest.approx(expected, abs=1e-4)
        assert item.values["apart"] == pytest.approx(side * (expected - 0.5), abs=1e-4)


def test_examples_without_a_type_are_left_out_and_none_with_one_is_an_error():
    assert [item.id for item in shares(subject(), typed(None, 1.0, -1.0), 512)] == ["chat-1"]
    with pytest.raises(DataError, match="no example has the value 'knowledge'"):
        shares(subject(), typed(None, -1.0), 512)


def test_nothing_is_left_behind_and_replies_go_through_the_experts():
    whole = routed()
    with watched(whole) as gates:
        whole(input_ids=torch.arange(3, 9)[None], use_cache=False)
    assert {one.shape for one in gates.values()} == {(1, 6, 4)}
    assert not any(module._forward_hooks for module in whole.modules())
    with torch.no_grad():
        for mixture in mixtures(whole).values():
            mixture.outer.weight.normal_(generator=torch.Generator().manual_seed(0))
    found = (
        subject(whole)
        .chat.engine.generate([[3, 4, 5, 6]], sampling=Sampling(temperature=0, max_new=4), seeds=[0])[0]
        .ids
    )
    ids = [3, 4, 5, 6]
    with torch.no_grad():
        for _ in range(4):
            ids.append(int(whole(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == found[-1] and len(ids) - 4 == len(found):
                break
    assert list(found) == ids[4:]
    assert all(one.gates is None for one in mixtures(whole).values())
