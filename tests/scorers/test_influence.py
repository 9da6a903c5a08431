"""The influence of what was asked on what was answered, and the vectors that it is measured on."""

import pytest
import torch

from turnsmith.errors import DataError, UsageError
from turnsmith.models import load
from turnsmith.models.networks.encoder import encoder
from turnsmith.scorers.embedding import Embedder
from turnsmith.scorers.influence import Influence
from turnsmith.testing import SCORER, chat, conversations, directory
from turnsmith.types import Example


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The directories of a small encoder and of a model that speaks, and the encoder itself."""
    where = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    model, words = encoder(hidden=16, wide=32)
    load.save(model.eval(), words, where / "m", base=None)
    directory(where / "speaks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNSMITH_HOME", str(where))
        (where / "arithmetic.json").write_text('{"dtype": "float32", "seconds": {}}')
        yield str(where / "m"), str(where / "speaks"), model, words


def asked(*said, **meta):
    return list(said), [Example({"text": one}, {}, {"id": str(at), **meta}) for at, one in enumerate(said)]


def states(models, *letters):
    """The mean of the encoder's last states over a text between its marks."""
    *_, model, words = models
    ids = torch.tensor([words.convert_tokens_to_ids(["[CLS]", *letters, "[SEP]"])])
    return model(input_ids=ids).last_hidden_state[0].mean(0).tolist()


def by_hand(one, other, levels):
    """The card's formula, coordinate by coordinate."""
    x, y = ([round((a - min(v)) / (max(v) - min(v)) * (levels - 1)) for a in v] for v in (one, other))
    mean = sum(y) / len(y)
    deviation = (sum((b - mean) ** 2 for b in y) / len(y)) ** 0.5
    groups = [[b for a, b in zip(x, y, strict=True) if a == level] for level in set(x)]
    apart = sum(len(ones) ** 2 * (sum(ones) / len(ones) - mean) ** 2 for ones in groups)
    return apart / (len(y) * deviation), deviation


@torch.no_grad()
def test_it_is_the_influence_of_the_prompt_on_the_reply(models):
    wanted, deviation = by_hand(states(models, "a", "b"), states(models, "e"), 4)
    (found,) = Influence(by=models[0], levels=4)(*asked(chat("u: ab", "a: e")))
    assert found == pytest.approx(wanted, rel=1e-5)
    (found,) = Influence(by=models[0], levels=4, over="variance")(*asked(chat("u: ab", "a: e")))
    assert found == pytest.approx(wanted / deviation, rel=1e-5)


@torch.no_grad()
def test_a_reference_stands_in_the_place_of_the_prompt(models):
    wanted, _ = by_hand(states(models, "c", "d"), states(models, "e"), 4)
    judge = Influence(by=models[0], levels=4, reference="right")
    assert judge(*asked(chat("u: ab", "a: e"), right="cd")) == [pytest.approx(wanted, rel=1e-5)]
    with pytest.raises(DataError, match="'0': 'right' of its metadata is None"):
        judge(*asked(chat("u: ab", "a: e")))


def test_a_blank_reply_is_not_judged(models):
    found, blank = Influence(by=models[0])(*asked(chat("u: abc", "a: zyx"), chat("u: abc", "a: ")))
    assert found > 0
    assert blank is None


def test_something_has_to_be_asked_and_told_apart(models):
    with pytest.raises(DataError, match="'0': nothing was said before"):
        Influence(by=models[0])(*asked(chat("a: ab")))
    with pytest.raises(UsageError, match="levels is 1"):
        Influence(by=models[0], levels=1)


@torch.no_grad()
def test_a_model_that_speaks_reads_a_text_without_its_template(models):
    model, words = load.load(models[1])
    (ids,) = (words("Hello there", add_special_tokens=False)["input_ids"],)
    wanted = model.eval().model(input_ids=torch.tensor([ids])).last_hidden_state[0].float().mean(0)
    found = Embedder(models[1], 99)(["Hello there", "a longer text, so that one is padded"])
    assert torch.allclose(found[0], wanted, atol=1e-5)
    cut = Embedder(models[1], 2)(["Hello there"])
    wanted = model.model(input_ids=torch.tensor([ids[:2]])).last_hidden_state[0].float().mean(0)
    assert torch.allclose(cut[0], wanted, atol=1e-5)


def test_an_empty_text_is_read_as_a_blank(models):
    for model in models[:2]:
        empty, blank = Embedder(model, 9)(["", " "])
        assert torch.allclose(empty, blank, atol=1e-6)


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
def test_it_keeps_the_contract_of_scorers(models, check):
    examples = conversations(4)
    check(Influence(by=models[0], length=100), [one.parts["text"] for one in examples], examples)
